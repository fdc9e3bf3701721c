//! Named scenarios: stories that a person can tell, each a plan with a fixed list of faults.
//!
//! The seed moves moments and paces a little, and drives all that chance decides inside; the story stays. To add one,
//! write a function from a seed to a plan and a line in [`all`]. The tests hold every scenario against the fault budget.

pub mod base;
mod list;
mod readers;
mod rules;
mod stories;

use super::Plan;

/// A named scenario.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// As `--scenario` takes it.
    pub name: &'static str,
    /// What happens and what must hold, in one line.
    pub line: &'static str,
    /// From a seed.
    pub build: fn(u64) -> Plan,
}

/// All of them, in the order in which `list` shows them.
pub const fn all() -> &'static [Scenario] {
    list::ALL
}

/// The one of this name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    all().iter().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::plan::budget;

    #[test]
    fn every_scenario_keeps_to_the_budget_and_to_its_seed() {
        for scenario in all() {
            for seed in 0..50 {
                let plan = (scenario.build)(seed);
                assert_eq!(budget::check(&plan), Ok(()), "{} {seed}", scenario.name);
                assert_eq!(plan, (scenario.build)(seed));
                assert_eq!(plan.scenario, scenario.name);
                assert!(!plan.clients.is_empty() && !plan.tenants.is_empty());
                for tenant in &plan.tenants {
                    let distinct: BTreeSet<_> = tenant.regions.iter().collect();
                    assert_eq!(distinct.len(), tenant.regions.len(), "{}", scenario.name);
                }
            }
            assert_ne!((scenario.build)(1), (scenario.build)(2), "{}", scenario.name);
        }
    }

    #[test]
    fn names_are_unique_and_lines_are_short() {
        let names: BTreeSet<&str> = all().iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), all().len());
        assert!(names.len() >= 15);
        for scenario in all() {
            assert!(scenario.line.len() <= 110, "{}", scenario.line);
            assert!(find(scenario.name).is_some());
        }
        assert!(find("no-such").is_none());
    }

    #[test]
    fn every_fault_names_someone_who_is_there() {
        for scenario in all() {
            let plan = (scenario.build)(7);
            let mut joining = BTreeSet::new();
            for fault in &plan.faults {
                if let super::super::fault::Kind::Join { host, .. }
                | super::super::fault::Kind::Replace { by: host, .. } = fault.kind
                {
                    joining.insert(host);
                }
            }
            for fault in &plan.faults {
                for host in fault.kind.hosts() {
                    let there = plan.host(host).is_some() || joining.contains(&host);
                    assert!(there, "{}: {fault}", scenario.name);
                }
                if let Some(client) = fault.kind.client() {
                    assert!(plan.client(client).is_some(), "{}: {fault}", scenario.name);
                }
            }
        }
    }
}
