//! Swarm: each seed draws its own cluster, workload and mix of faults.
//!
//! A seed does not take a bit of everything. For each kind of fault it tosses a coin whether the kind happens at all,
//! then how often; likewise for settings and for what clients do. Some bugs need the absence of a fault that hides
//! them, and most need many of one kind (Groce et al., "Swarm Testing", ISSTA 2012).
//!
//! Each part draws from a stream of its own, each fault too: what one draws never moves another. A fault that would
//! break the budget is left out.

mod faults;
mod late;
mod setting;

use super::{Plan, SETTLE, WARM_UP, stream::Stream, time::Millis};

/// What the command line may ask of a drawn plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// How long workload and faults last.
    pub duration: Millis,
    /// So many hosts; `None` lets the seed draw.
    pub hosts: Option<usize>,
}

impl Default for Wish {
    /// A minute, and as many hosts as the seed draws.
    fn default() -> Self {
        Self {
            duration: Millis::secs(60),
            hosts: None,
        }
    }
}

/// The plan of a seed.
pub fn swarm(seed: u64, wish: Wish) -> Plan {
    let cluster = setting::cluster(&mut Stream::of(seed, "cluster"), wish.hosts);
    let tenants = setting::tenants(&mut Stream::of(seed, "tenants"), &cluster);
    let duration = Millis(wish.duration.0.max(WARM_UP.0 + 1_000));
    let clients = setting::clients(&mut Stream::of(seed, "clients"), &tenants, duration);
    let mut plan = Plan {
        seed,
        scenario: "swarm".to_owned(),
        warm_up: WARM_UP,
        duration,
        settle: SETTLE,
        cluster,
        tenants,
        clients,
        work: setting::work(&mut Stream::of(seed, "work"), duration),
        faults: Vec::new(),
    };
    faults::draw(&mut plan);
    late::draw(&mut plan);
    plan
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::plan::{
        budget,
        fault::{FaultId, Kind},
    };

    const SEEDS: u64 = 600;

    #[test]
    fn a_seed_gives_one_plan_within_the_budget() {
        for seed in 0..SEEDS {
            let plan = swarm(seed, Wish::default());
            assert_eq!(plan, swarm(seed, Wish::default()), "seed {seed}");
            assert_eq!(budget::check(&plan), Ok(()), "seed {seed}\n{plan}");
            assert!((1..=7).contains(&plan.cluster.hosts.len()));
            let regions: BTreeSet<_> = plan.cluster.hosts.iter().map(|host| host.region).collect();
            assert!((1..=5).contains(&regions.len()));
            for tenant in &plan.tenants {
                assert!(tenant.regions.contains(&tenant.home));
                assert!(tenant.regions.iter().all(|region| regions.contains(region)));
            }
        }
    }

    #[test]
    fn any_sub_list_stays_within_the_budget_and_draws_the_same() {
        for seed in 0..100 {
            let plan = swarm(seed, Wish::default());
            let every_third: BTreeSet<FaultId> = plan.fault_ids().into_iter().filter(|id| id.0 % 3 == 0).collect();
            let kept = plan.keep(&every_third);
            assert_eq!(budget::check(&kept), Ok(()));
            assert_eq!(kept.fault_ids(), every_third);
            for fault in &kept.faults {
                assert_eq!(Some(fault), plan.faults.iter().find(|whole| whole.id == fault.id));
            }
            let without = |plan: &Plan| (plan.cluster.clone(), plan.clients.clone(), plan.tenants.clone());
            assert_eq!(without(&kept), without(&plan));
        }
    }

    #[test]
    fn every_kind_is_drawn_by_some_seeds_and_left_out_by_others() {
        let mut seeds_with: BTreeMap<&str, u64> = BTreeMap::new();
        for seed in 0..SEEDS {
            let plan = swarm(seed, Wish::default());
            let kinds: BTreeSet<&str> = plan.faults.iter().map(|fault| fault.kind.name()).collect();
            for kind in kinds {
                *seeds_with.entry(kind).or_default() += 1;
            }
        }
        for name in Kind::NAMES {
            let seeds = seeds_with.get(name).copied().unwrap_or_default();
            assert!(
                (SEEDS / 100..=SEEDS * 9 / 10).contains(&seeds),
                "{name}: {seeds} of {SEEDS}"
            );
        }
    }

    /// Without live queries and rooms, which were drawn late.
    fn still(plan: &mut Plan) {
        for client in &mut plan.clients {
            (client.mix.live, client.mix.room) = (0, false);
        }
    }

    #[test]
    fn what_came_late_leaves_the_rest_as_it_was() {
        for seed in 0..100 {
            let plan = swarm(seed, Wish::default());
            let mut before = plan.clone();
            before.faults.clear();
            faults::draw(&mut before);
            still(&mut before);
            let ids = before.fault_ids();
            let mut kept = plan.keep(&ids);
            still(&mut kept);
            assert_eq!(kept, before, "seed {seed}");
        }
    }

    #[test]
    fn a_longer_run_or_more_hosts_are_drawn_when_asked_for() {
        let wish = Wish {
            duration: Millis::secs(300),
            hosts: Some(3),
        };
        let most = (0..50).map(|seed| swarm(seed, wish));
        assert!(most.clone().all(|plan| plan.cluster.hosts.len() == 3));
        assert!(most.clone().all(|plan| plan.faults.len() <= faults::FAULTS_MAX));
        assert!(most.map(|plan| plan.faults.len()).max() > Some(40));
    }

    #[test]
    fn a_plan_as_json_is_the_plan() {
        for seed in 0..50 {
            let plan = swarm(seed, Wish::default());
            let text = serde_json::to_string(&plan).unwrap();
            assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
        }
    }

    #[test]
    fn a_smaller_plan_names_nobody_who_is_gone() {
        for seed in 0..200 {
            let plan = swarm(seed, Wish::default());
            let small = plan.shrink_to(2, 1);
            assert!(small.cluster.hosts.len() <= 2 && small.clients.len() == 1);
            let regions: BTreeSet<_> = small.cluster.hosts.iter().map(|host| host.region).collect();
            assert!(
                small
                    .tenants
                    .iter()
                    .all(|tenant| tenant.regions.iter().all(|r| regions.contains(r)))
            );
            for fault in &small.faults {
                let gone =
                    |host: &super::super::cluster::Host| plan.host(*host).is_some() && small.host(*host).is_none();
                assert!(!fault.kind.hosts().iter().any(gone), "{fault}");
                assert!(fault.kind.client().is_none_or(|client| client.0 == 1), "{fault}");
            }
        }
    }
}
