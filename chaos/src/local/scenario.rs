//! The stories: which faults strike which nodes, and when.

use std::time::Duration;

use clap::ValueEnum;

use super::links::REGIONS;

/// A story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// A region is cut off from all others, and comes back
    PartitionHeals,
    /// What one region sends is lost; what the others send arrives
    OneWayCut,
    /// A region's nodes are lost with their disks, and are removed
    RegionLost,
    /// The control plane's leader is cut off
    LeaderIsolated,
    /// Two nodes in turn are killed without warning while clients write
    #[value(name = "kill-9-under-load")]
    KillUnderLoad,
    /// A node is frozen with all its connections open, and goes on
    Pause,
    /// A node's disk has not a byte left, and then has again; needs root
    DiskFull,
    /// One region hangs on links of 3 kB/s
    SlowLink,
    /// One packet in twenty is lost between all regions
    LossyLink,
    /// A node is drained, removed and replaced by a new one
    NodeReplaced,
    /// All nodes are stopped and started again, one after the other
    RollingRestart,
}

/// What a fault does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Both directions to and from the node.
    Partition,
    /// What the node sends.
    OneWay,
    /// Process and disk are gone for good.
    Lose,
    /// As `Partition`, of whoever leads.
    IsolateLeader,
    /// kill -9, and a start at the end.
    KillHard,
    /// SIGSTOP and SIGCONT.
    Pause,
    /// No space left.
    FillDisk,
    /// Little bandwidth to and from the node.
    SlowDown,
    /// Loss on all links.
    LosePackets,
    /// Drain, remove, and a new node.
    Replace,
    /// SIGTERM and start, node by node.
    RestartAll,
}

/// One fault of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    /// See there.
    pub(super) kind: Kind,
    /// The place of the node that it strikes, or strikes first.
    pub(super) node: usize,
    /// When, from the start of the load.
    pub(super) begin: Duration,
    /// Until when; what takes its own time ends later.
    pub(super) end: Duration,
}

/// What clock faults would need.
pub(super) const CLOCK_NOTE: &str = "Clock faults are in the simulator only: a real node reads the system's clock, and nothing shifts that per process.";

impl Scenario {
    /// Its name and what happens in it, as the command line has them.
    pub(super) fn name_and_line(self) -> (String, String) {
        let value = self.to_possible_value();
        value.map_or_else(Default::default, |value| {
            let line = value.get_help().map(ToString::to_string).unwrap_or_default();
            (value.get_name().to_owned(), line)
        })
    }

    /// The node whose disk must be small.
    pub(super) fn small_disk(self) -> Option<usize> {
        (self == Self::DiskFull).then_some(1)
    }

    /// Its faults, for a load of `length` on `nodes` nodes.
    pub(super) fn faults(self, length: Duration, nodes: usize) -> Vec<Fault> {
        let fault = |kind, node, begin: u32, end: u32| Fault {
            kind,
            node,
            begin: length * begin / 100,
            end: length * end / 100,
        };
        match self {
            Self::PartitionHeals => vec![fault(Kind::Partition, 2, 20, 60)],
            Self::OneWayCut => vec![fault(Kind::OneWay, 2, 20, 60)],
            Self::RegionLost => {
                let lost = (0..nodes).filter(|node| node % REGIONS.len() == 2);
                lost.map(|node| fault(Kind::Lose, node, 25, 25)).collect()
            }
            Self::LeaderIsolated => vec![fault(Kind::IsolateLeader, 0, 20, 60)],
            Self::KillUnderLoad => vec![fault(Kind::KillHard, 1, 15, 35), fault(Kind::KillHard, 0, 55, 70)],
            Self::Pause => vec![fault(Kind::Pause, 1, 20, 60)],
            Self::DiskFull => vec![fault(Kind::FillDisk, 1, 20, 50)],
            Self::SlowLink => vec![fault(Kind::SlowDown, 2, 20, 60)],
            Self::LossyLink => vec![fault(Kind::LosePackets, 0, 20, 60)],
            // The new node takes the next place, and with it the region whose turn it is.
            Self::NodeReplaced => vec![fault(Kind::Replace, nodes % REGIONS.len(), 20, 20)],
            Self::RollingRestart => vec![fault(Kind::RestartAll, 0, 15, 15)],
        }
    }
}

impl Kind {
    /// In a column of the report.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::OneWay => "one-way cut",
            Self::Lose => "lost for good",
            Self::IsolateLeader => "leader isolated",
            Self::KillHard => "kill -9",
            Self::Pause => "pause",
            Self::FillDisk => "disk full",
            Self::SlowDown => "slow link",
            Self::LosePackets => "packet loss",
            Self::Replace => "replaced",
            Self::RestartAll => "rolling restart",
        }
    }

    /// Whether the node itself goes on to serve the clients beside it while this lasts.
    pub(super) const fn node_serves(self) -> bool {
        match self {
            Self::Partition | Self::OneWay | Self::IsolateLeader | Self::SlowDown | Self::LosePackets => true,
            Self::Lose | Self::KillHard | Self::Pause | Self::FillDisk | Self::Replace | Self::RestartAll => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_come_in_order_and_leave_time_to_heal() {
        for scenario in Scenario::value_variants() {
            let faults = scenario.faults(Duration::from_secs(30), 3);
            assert!(!faults.is_empty(), "{scenario:?}");
            for pair in faults.windows(2) {
                assert!(pair[0].end <= pair[1].begin, "{scenario:?}");
            }
            for fault in faults {
                assert!(
                    fault.begin <= fault.end && fault.end <= Duration::from_secs(21),
                    "{scenario:?}"
                );
                assert!(fault.node < 3, "{scenario:?}");
            }
        }
    }

    #[test]
    fn every_scenario_has_a_name_and_a_line() {
        for scenario in Scenario::value_variants() {
            let (name, line) = scenario.name_and_line();
            assert!(!name.is_empty() && line.len() > 20, "{scenario:?}: {line}");
        }
    }
}
