//! Which nodes vote.
//!
//! The largest odd number up to [`VOTERS_MAX`] and up to the candidates there are, spread evenly over regions. Present
//! voters stay wherever that keeps the spread even, so that membership does not change without need.

use std::collections::{BTreeMap, BTreeSet};

use halcyon_core::id::{NodeId, RegionName};

use super::limits::VOTERS_MAX;

/// The voters among `candidates`, where `present` vote now.
pub(super) fn choose(candidates: &BTreeMap<NodeId, RegionName>, present: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    let count = candidates.len().min(VOTERS_MAX);
    let count = if count.is_multiple_of(2) {
        count.saturating_sub(1)
    } else {
        count
    };
    let mut in_region: BTreeMap<&RegionName, usize> = BTreeMap::new();
    let mut chosen = BTreeSet::new();
    while chosen.len() < count {
        // The emptiest region first; among equals a present voter, then the smallest number.
        let next = candidates
            .iter()
            .filter(|(node, _)| !chosen.contains(*node))
            .min_by_key(|(node, region)| {
                (
                    in_region.get(region).copied().unwrap_or(0),
                    !present.contains(node),
                    **node,
                )
            });
        let Some((node, region)) = next else { break };
        *in_region.entry(region).or_default() += 1;
        chosen.insert(*node);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fleet(regions: &str) -> BTreeMap<NodeId, RegionName> {
        let node = |(at, region): (usize, char)| (NodeId(at as u64 + 1), RegionName::new(&region.to_string()).unwrap());
        regions.chars().enumerate().map(node).collect()
    }

    #[track_caller]
    fn check(regions: &str, present: &[u64], expected: &[u64]) {
        let ids = |ids: &[u64]| ids.iter().map(|id| NodeId(*id)).collect::<BTreeSet<_>>();
        assert_eq!(choose(&fleet(regions), &ids(present)), ids(expected));
    }

    #[test]
    fn the_number_is_odd_and_at_most_five() {
        check("", &[], &[]);
        check("a", &[], &[1]);
        check("ab", &[2], &[2]);
        check("abc", &[], &[1, 2, 3]);
        check("abcd", &[], &[1, 2, 3]);
        check("abcdefg", &[], &[1, 2, 3, 4, 5]);
    }

    #[test]
    fn regions_share_the_voters_evenly() {
        check("aaabc", &[1, 2, 3], &[1, 2, 3, 4, 5]);
        check("aaab", &[1, 2, 3], &[1, 2, 4]);
        check("aaaabbcc", &[1, 2, 3], &[1, 2, 5, 6, 7]);
    }

    #[test]
    fn present_voters_stay_where_the_spread_allows() {
        check("aabbcc", &[2, 4, 6], &[2, 4, 6, 1, 3]);
        check("abcd", &[2, 3, 4], &[2, 3, 4]);
    }

    proptest! {
        #[test]
        fn a_choice_is_stable(regions in "[a-d]{1,9}", present in proptest::collection::btree_set(1..9_u64, 0..5)) {
            let fleet = fleet(&regions);
            let first = choose(&fleet, &present.into_iter().map(NodeId).collect());
            prop_assert_eq!(choose(&fleet, &first), first);
        }
    }
}
