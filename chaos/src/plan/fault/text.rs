//! How a fault reads: one line that a person understands without the code.

use std::fmt;

use super::{Crash, Cut, DiskOperation, Fault, Files, Kind};
use crate::plan::time::Millis;

impl fmt::Display for Fault {
    /// Such as `#3    12.000 s to  15.500 s  h2 loses power and starts again`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let may_end = matches!(
            self.kind,
            Kind::RegionLost { .. } | Kind::ClockJump { .. } | Kind::ClientClock { .. }
        );
        let until = match self.end {
            Some(end) => format!("to {end:>10}"),
            None if may_end => "for good".to_owned(),
            None => String::new(),
        };
        write!(f, "#{:<3} {:>10} {until:<13}  {}", self.id, self.start, self.kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash { host, how } => match how {
                Crash::Process => write!(f, "{host}: the process is killed"),
                Crash::Power => write!(f, "{host} loses power"),
            },
            Self::PowerCut { host, after_operations } => {
                write!(
                    f,
                    "{host} loses power after {after_operations} disk operations, inside a commit"
                )
            }
            Self::Pause { host } => write!(f, "{host} stands still"),
            Self::Partition { hosts, cut } => write!(f, "{} | all others: packets {cut}", Words(hosts)),
            Self::OneWayCut { from, to } => write!(f, "{from} -> {to}: packets dropped, the way back works"),
            Self::RegionCut { regions, cut } => write!(f, "{} | all other regions: packets {cut}", Words(regions)),
            Self::LeaderCut { cut } => write!(f, "the leader | all others: packets {cut}"),
            Self::RegionLost { region } => write!(f, "{region} loses power as a whole"),
            Self::SlowLink {
                between: (a, b),
                bytes_per_second,
            } => {
                write!(f, "{a} - {b}: at most {bytes_per_second} bytes a second")
            }
            Self::Latency {
                between: (a, b),
                extra,
                jitter,
            } => {
                write!(f, "{a} - {b}: {extra} more one way, and up to {jitter} at random")
            }
            Self::Loss {
                between: (a, b),
                holds_per_minute,
                hold,
            } => {
                write!(
                    f,
                    "{a} - {b}: packets lost and sent again, {holds_per_minute} times a minute, {hold} each"
                )
            }
            Self::Join { host, region } => write!(f, "{host} joins in {region}"),
            Self::Drain { host } => write!(f, "{host} is drained"),
            Self::Remove { host } => write!(f, "{host} is removed"),
            Self::Leave { host } => write!(f, "{host} leaves: it is drained, then removed"),
            Self::Replace { lost, by } => write!(f, "{lost} is lost for good; {by} takes its place"),
            Self::Place {
                tenant,
                regions,
                home,
                nodes_per_region,
            } => {
                let regions = Words(regions);
                write!(
                    f,
                    "{tenant} is placed in {regions}, home {home}, {nodes_per_region} a region"
                )
            }
            Self::RollingUpgrade { pause } => write!(f, "every host is upgraded in turn, {pause} apart"),
            disk_clock_or_client => disk_clock_or_client.fmt_disk(f),
        }
    }
}

impl Kind {
    fn fmt_disk(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DiskFull { host, bytes_left } => write!(f, "{host}: the disk has {bytes_left} bytes left"),
            Self::DiskErrors {
                host,
                operation,
                per_mille,
            } => {
                let what = match operation {
                    DiskOperation::Read => "reads",
                    DiskOperation::Write => "writes",
                    DiskOperation::Sync => "syncs",
                };
                write!(f, "{host}: {per_mille} of 1000 {what} fail")
            }
            Self::DiskSlow { host, extra } => write!(f, "{host}: disk operations take {extra} longer"),
            Self::DiskRolledBack { host, to, files } => {
                write!(f, "{host} loses power and comes back with {files} as synced at {to}")
            }
            Self::BackupRestored { host, taken, files } => {
                write!(
                    f,
                    "{host} loses power and comes back with {files} from a backup of {taken}"
                )
            }
            Self::BitRot { host, pages } => write!(f, "{host} goes down; bits flip in {pages} pages of its triples"),
            Self::ControlRot { host, pages } => {
                write!(
                    f,
                    "{host}'s process ends; bits flip in {pages} pages of its control plane"
                )
            }
            Self::HostLost { host } => write!(f, "{host} and its disk are lost for good"),
            other => other.fmt_clock_or_client(f),
        }
    }

    fn fmt_clock_or_client(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClockJump { host, by_ms } => write!(f, "{host}: the clock is set {}", ByMillis(*by_ms)),
            Self::ClockRate { host, ppm } => write!(f, "{host}: the clock gains {ppm} on each million"),
            Self::ClientClock { client, by_ms } => write!(f, "{client}: the clock is set {}", ByMillis(*by_ms)),
            Self::TimePasses { by_ms } => write!(f, "{} pass for every clock", Millis(by_ms.unsigned_abs())),
            Self::ClientOffline { client, returns_in } => {
                write!(f, "{client} is offline and comes back in {returns_in}")
            }
            Self::ClientCrash { client } => write!(f, "{client} dies and starts again"),
            Self::SlowConsumer {
                client,
                bytes_per_second,
            } => {
                write!(f, "{client} reads at most {bytes_per_second} bytes a second")
            }
            _ => f.write_str(self.name()),
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dropped => "dropped",
            Self::Held => "held",
        })
    }
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Triples => "its triples",
            Self::All => "all files",
        })
    }
}

/// Things with spaces between.
struct Words<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Words<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, word) in self.0.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{word}")?;
        }
        Ok(())
    }
}

/// `3.000 s ahead`, `1.500 s back`.
struct ByMillis(i64);

impl fmt::Display for ByMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.0 < 0 { "back" } else { "ahead" };
        write!(f, "{} {way}", Millis(self.0.unsigned_abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::{
            cluster::{Host, Tenant},
            fault::FaultId,
        },
        topology::Region,
    };

    #[track_caller]
    fn check(end: Option<u64>, kind: Kind, line: &str) {
        let fault = Fault {
            id: FaultId(3),
            start: Millis::secs(12),
            end: end.map(Millis),
            kind,
        };
        assert_eq!(fault.to_string(), line);
    }

    #[test]
    fn a_fault_is_one_line_that_a_person_understands() {
        check(
            Some(15_500),
            Kind::Crash {
                host: Host(2),
                how: Crash::Power,
            },
            "#3     12.000 s to   15.500 s  h2 loses power",
        );
        check(
            Some(20_000),
            Kind::Partition {
                hosts: vec![Host(1), Host(3)],
                cut: Cut::Held,
            },
            "#3     12.000 s to   20.000 s  h1 h3 | all others: packets held",
        );
        check(
            None,
            Kind::RegionLost { region: Region::EuDe },
            "#3     12.000 s for good       eu-de loses power as a whole",
        );
        check(
            None,
            Kind::Place {
                tenant: Tenant(1),
                regions: vec![Region::EuDe, Region::BrSao],
                home: Region::BrSao,
                nodes_per_region: 1,
            },
            "#3     12.000 s                t1 is placed in eu-de br-sao, home br-sao, 1 a region",
        );
        check(
            Some(13_000),
            Kind::ClockJump {
                host: Host(1),
                by_ms: -1_500,
            },
            "#3     12.000 s to   13.000 s  h1: the clock is set 1.500 s back",
        );
    }
}
