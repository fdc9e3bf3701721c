//! Which node a client speaks to: the rules, without I/O. Times are `Env`'s monotonic clock.
//!
//! The nearest serving replica by the client's own measurement; another only when that one fails or is clearly slower,
//! so that two nodes at the same distance do not pass a client to and fro.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use halcyon_core::id::{NodeId, RegionName};
use halcyon_proto::convert::Replica;

use crate::session::backoff;

/// A move must save at least this much of a round trip: less is noise.
const GAIN_MIN: Duration = Duration::from_millis(3);

/// How long a node is believed that says that it does not hold the tenant, whatever others say of it: their word may be
/// older. It is asked all the same where nobody else is left.
const ELSEWHERE_BELIEVED: Duration = Duration::from_secs(5);

/// A node at which clients could be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// Where.
    pub(crate) address: String,
    /// Who, where it has said so.
    pub(crate) node: Option<NodeId>,
    /// In which region.
    pub(crate) region: Option<RegionName>,
}

#[derive(Debug, Clone)]
struct Candidate {
    route: Route,
    serving: bool,
    /// Measured here; before that, what the node that named it has measured.
    round_trip: Option<Duration>,
    measured: bool,
    failures: u32,
    retry_at: Duration,
}

/// The candidates and the one in use.
#[derive(Debug)]
pub(crate) struct Router {
    /// The addresses that the program gave.
    seeds: Vec<String>,
    /// Who answers at them, as far as they have said so.
    seed_nodes: BTreeMap<NodeId, String>,
    /// Only the seeds are asked.
    seeds_only: bool,
    candidates: Vec<Candidate>,
    current: Option<Route>,
    replicas: BTreeSet<NodeId>,
    metadata_index: u64,
    /// Addresses of nodes that said that they do not hold the tenant, and until when they are believed.
    elsewhere: BTreeMap<String, Duration>,
}

impl Router {
    pub(crate) fn new(seeds: Vec<String>, seeds_only: bool) -> Self {
        let mut router = Self {
            seeds,
            seed_nodes: BTreeMap::new(),
            seeds_only,
            candidates: Vec::new(),
            current: None,
            replicas: BTreeSet::new(),
            metadata_index: 0,
            elsewhere: BTreeMap::new(),
        };
        if seeds_only {
            let seeds = router.seeds.clone();
            router.candidates = seeds.into_iter().map(Candidate::seed).collect();
        }
        router
    }

    /// Who holds the tenant. `metadata_index` is 0 where the answer does not say how new it is.
    pub(crate) fn on_located(&mut self, replicas: Vec<Replica>, metadata_index: u64) {
        let is_old = metadata_index != 0 && metadata_index < self.metadata_index;
        if is_old || replicas.is_empty() {
            return;
        }
        self.metadata_index = self.metadata_index.max(metadata_index);
        self.replicas = replicas.iter().map(|replica| replica.node).collect();
        if self.seeds_only {
            return;
        }
        let before = std::mem::take(&mut self.candidates);
        self.candidates = replicas
            .into_iter()
            .map(|replica| {
                // An address that the program gave can be reached from here; what a node says of itself, perhaps not.
                let address = self.seed_nodes.get(&replica.node).cloned().unwrap_or(replica.address);
                let known = before.iter().find(|candidate| candidate.route.address == address);
                Candidate {
                    route: Route {
                        address,
                        node: Some(replica.node),
                        region: Some(replica.region),
                    },
                    serving: replica.serving,
                    round_trip: known.and_then(|known| known.round_trip).or(replica.round_trip),
                    measured: known.is_some_and(|known| known.measured),
                    failures: known.map_or(0, |known| known.failures),
                    retry_at: known.map_or(Duration::ZERO, |known| known.retry_at),
                }
            })
            .collect();
        self.candidates.sort_by(|a, b| a.route.address.cmp(&b.route.address));
    }

    /// A node answered at one of the given addresses.
    pub(crate) fn on_seed(&mut self, address: &str, node: NodeId) {
        if self.seeds.iter().any(|seed| seed == address) {
            self.seed_nodes.entry(node).or_insert_with(|| address.to_owned());
        }
    }

    /// A round trip was measured to who answers there.
    pub(crate) fn on_measured(&mut self, address: &str, node: NodeId, region: Option<RegionName>, median: Duration) {
        if let Some(candidate) = self.candidate(address) {
            candidate.round_trip = Some(median);
            candidate.measured = true;
            candidate.route.node = Some(node);
            candidate.route.region = region;
            candidate.failures = 0;
            candidate.retry_at = Duration::ZERO;
        }
    }

    /// A call there failed. It is tried again after a while, longer each time.
    pub(crate) fn on_failed(&mut self, address: &str, now: Duration, jitter: u64) {
        if let Some(candidate) = self.candidate(address) {
            candidate.failures = candidate.failures.saturating_add(1);
            candidate.retry_at = now + backoff(candidate.failures, jitter);
        }
    }

    /// The node there says that it does not hold the tenant.
    pub(crate) fn on_elsewhere(&mut self, address: &str, now: Duration) {
        self.elsewhere.retain(|_, until| now < *until);
        self.elsewhere.insert(address.to_owned(), now + ELSEWHERE_BELIEVED);
    }

    /// A call there was answered.
    pub(crate) fn on_worked(&mut self, address: &str) {
        if let Some(candidate) = self.candidate(address) {
            candidate.failures = 0;
        }
    }

    /// The node to speak to now; `None` while all have failed a moment ago or none is known.
    pub(crate) fn choose(&mut self, now: Duration) -> Option<Route> {
        let usable = |candidate: &&Candidate| candidate.serving && candidate.retry_at <= now;
        let is_elsewhere = |candidate: &Candidate| {
            let until = self.elsewhere.get(&candidate.route.address);
            until.is_some_and(|until| now < *until)
        };
        let distance = |candidate: &&Candidate| {
            let is_failing = candidate.failures > 0;
            (
                is_elsewhere(candidate),
                is_failing,
                !candidate.measured,
                candidate.distance(),
            )
        };
        let best = self.candidates.iter().filter(usable).min_by_key(distance);
        let current = self.current.as_ref().and_then(|current| {
            let mut usable = self.candidates.iter().filter(usable);
            usable.find(|candidate| candidate.route.address == current.address)
        });
        let chosen = match (current, best) {
            (Some(current), Some(best)) if is_elsewhere(current) && !is_elsewhere(best) => best,
            (Some(current), Some(best)) if !is_clearly_nearer(best, current) => current,
            (_, Some(best)) => best,
            (_, None) => return None,
        };
        self.current = Some(chosen.route.clone());
        self.current.clone()
    }

    /// The node in use, for a status.
    pub(crate) const fn current(&self) -> Option<&Route> {
        self.current.as_ref()
    }

    /// What to measure.
    pub(crate) fn to_measure(&self) -> Vec<String> {
        self.candidates
            .iter()
            .map(|candidate| candidate.route.address.clone())
            .collect()
    }

    /// Whom to ask where the tenant is: the node in use, other replicas, the given addresses.
    pub(crate) fn to_ask(&self) -> Vec<String> {
        let current = self.current.iter().map(|route| route.address.clone());
        let mut addresses: Vec<String> = Vec::new();
        for address in current.chain(self.to_measure()).chain(self.seeds.iter().cloned()) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// The nodes that answered where calls are made, as far as they have said who they are.
    pub(crate) fn answered(&self) -> BTreeSet<NodeId> {
        self.candidates
            .iter()
            .filter_map(|candidate| candidate.route.node)
            .collect()
    }

    /// The nodes that hold the tenant, as far as is known.
    pub(crate) const fn replicas(&self) -> &BTreeSet<NodeId> {
        &self.replicas
    }

    fn candidate(&mut self, address: &str) -> Option<&mut Candidate> {
        let mut candidates = self.candidates.iter_mut();
        candidates.find(|candidate| candidate.route.address == address)
    }
}

impl Candidate {
    const fn seed(address: String) -> Self {
        Self {
            route: Route {
                address,
                node: None,
                region: None,
            },
            serving: true,
            round_trip: None,
            measured: false,
            failures: 0,
            retry_at: Duration::ZERO,
        }
    }

    /// What was never measured counts as far away.
    fn distance(&self) -> Duration {
        self.round_trip.unwrap_or(Duration::MAX)
    }
}

/// A move costs a connection and its warmth: it must save a third of the round trip, and more than noise. A node that
/// fails gives way to one that does not.
fn is_clearly_nearer(best: &Candidate, current: &Candidate) -> bool {
    if best.failures == 0 && current.failures > 0 {
        return true;
    }
    let (near, far) = (best.distance(), current.distance());
    best.measured && near < far && far.saturating_sub(near) >= GAIN_MIN && near <= far / 3 * 2
}

/// The middle one.
pub(crate) fn median(mut samples: Vec<Duration>) -> Option<Duration> {
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn replica(node: u64, serving: bool) -> Replica {
        Replica {
            node: NodeId(node),
            region: RegionName::new("eu-west").unwrap(),
            address: format!("n{node}:1"),
            serving,
            round_trip: None,
            silent: None,
        }
    }

    /// A router that knows replicas at these distances in milliseconds.
    fn router(distances: &[(u64, u64)]) -> Router {
        let mut router = Router::new(vec!["seed:1".into()], false);
        router.on_located(distances.iter().map(|&(node, _)| replica(node, true)).collect(), 1);
        measure(&mut router, distances);
        router
    }

    fn measure(router: &mut Router, distances: &[(u64, u64)]) {
        for &(node, millis) in distances {
            let address = format!("n{node}:1");
            router.on_measured(&address, NodeId(node), None, Duration::from_millis(millis));
        }
    }

    #[test]
    fn a_client_goes_to_the_nearest_and_moves_only_when_another_is_clearly_nearer() {
        //     at first           later              before, after
        check(&[(1, 80), (2, 10)], &[(1, 9), (2, 10)], (2, 2));
        check(&[(1, 80), (2, 10)], &[(1, 1), (2, 2)], (2, 2));
        check(&[(1, 80), (2, 10)], &[(1, 80), (2, 100)], (2, 2));
        check(&[(1, 80), (2, 10)], &[(1, 80), (2, 300)], (2, 1));
        check(&[(1, 80), (2, 10)], &[(1, 2), (2, 10)], (2, 1));
    }

    #[track_caller]
    fn check(first: &[(u64, u64)], later: &[(u64, u64)], expected: (u64, u64)) {
        let mut router = router(first);
        let before = router.choose(NOW).unwrap().node;
        measure(&mut router, later);
        let after = router.choose(NOW).unwrap().node;
        assert_eq!((before, after), (Some(NodeId(expected.0)), Some(NodeId(expected.1))));
    }

    #[test]
    fn a_node_that_fails_is_left_and_tried_again_later() {
        let mut router = router(&[(1, 10), (2, 80)]);
        assert_eq!(router.choose(NOW).unwrap().address, "n1:1");
        router.on_failed("n1:1", NOW, 7);
        assert_eq!(router.choose(NOW).unwrap().address, "n2:1");
        let later = NOW + Duration::from_mins(1);
        assert_eq!(
            router.choose(later).unwrap().address,
            "n2:1",
            "it has not answered since"
        );
        measure(&mut router, &[(1, 10)]);
        assert_eq!(router.choose(later).unwrap().address, "n1:1");
    }

    #[test]
    fn when_all_have_failed_there_is_nobody_until_one_may_be_tried_again() {
        let mut router = router(&[(1, 10)]);
        router.on_failed("n1:1", NOW, 7);
        assert_eq!(router.choose(NOW), None);
        assert!(router.choose(NOW + Duration::from_secs(1)).is_some());
        assert_eq!(router.to_ask(), ["n1:1", "seed:1"]);
    }

    #[test]
    fn a_newer_list_moves_the_client_and_an_older_one_does_not() {
        let mut router = router(&[(1, 10)]);
        router.on_located(vec![replica(1, false), replica(2, true)], 5);
        assert_eq!(router.choose(NOW).unwrap().address, "n2:1");
        router.on_located(vec![replica(1, true)], 4);
        assert_eq!(router.choose(NOW).unwrap().address, "n2:1");
        router.on_located(vec![replica(3, true)], 0);
        assert_eq!(
            router.choose(NOW).unwrap().address,
            "n3:1",
            "a refusal carries no index"
        );
    }

    #[test]
    fn a_node_that_says_that_the_tenant_is_elsewhere_is_believed_for_a_while_and_asked_where_nobody_else_is_left() {
        let mut router = router(&[(1, 10), (2, 80)]);
        assert_eq!(router.choose(NOW).unwrap().address, "n1:1");
        router.on_elsewhere("n1:1", NOW);
        // Somebody who has not heard of it yet is asked, and the way to it is as short as it was.
        router.on_located(vec![replica(1, true), replica(2, true)], 1);
        measure(&mut router, &[(1, 10)]);
        assert_eq!(router.choose(NOW).unwrap().address, "n2:1");
        router.on_failed("n2:1", NOW, 7);
        assert_eq!(router.choose(NOW).unwrap().address, "n1:1");
        measure(&mut router, &[(2, 80)]);
        assert_eq!(router.choose(NOW).unwrap().address, "n2:1");
        assert_eq!(router.choose(NOW + ELSEWHERE_BELIEVED).unwrap().address, "n1:1");
    }

    #[test]
    fn an_address_that_was_given_is_preferred_to_what_its_node_says_of_itself() {
        let mut router = Router::new(vec!["localhost:1".into()], false);
        router.on_seed("localhost:1", NodeId(1));
        router.on_located(vec![replica(1, true)], 1);
        assert_eq!(router.choose(NOW).unwrap().address, "localhost:1");
    }
}
