//! Faults: what goes wrong, to whom, from when until when. One readable line each.
//!
//! Faults overlap freely. What holds at a moment follows from all that are at work then: a packet that one of them
//! stops is stopped, clock jumps add up, of two limits the lower counts, and a host that several hold down starts
//! again when the last lets go of it. So the state of the world is a function of the faults at work, and a fault that
//! is left out takes nothing else with it.

mod text;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    cluster::{Client, Host, Tenant},
    time::{Millis, Span},
};
use crate::topology::Region;

/// A fault's identity: its place in the list that its plan drew. It keeps it when others are left out, and its own
/// random stream follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FaultId(pub u32);

impl fmt::Display for FaultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Its identity.
    pub id: FaultId,
    /// When it starts.
    pub start: Millis,
    /// When it ends; `None` where it happens at once, or for good.
    pub end: Option<Millis>,
    /// What it is.
    #[serde(flatten)]
    pub kind: Kind,
}

/// What a crash leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Crash {
    /// The process dies: peers hear the sockets close, every write that it made stays.
    Process,
    /// The power goes: peers hear nothing, of unsynced writes a torn subset stays.
    Power,
}

/// How packets are kept from arriving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cut {
    /// Lost; streams stall until a deadline.
    Dropped,
    /// Kept back, and delivered when the fault ends.
    Held,
}

/// Which files of a disk are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Files {
    /// The triples: logs and shards. The control plane's files stay as they are.
    Triples,
    /// All of the data directory.
    All,
}

/// Which operations of a disk are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskOperation {
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Syncs.
    Sync,
}

/// What goes wrong. The comment says what the end of the fault does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[expect(missing_docs, reason = "a field says whom or how much; the variant says what")]
pub enum Kind {
    /// A host goes down. End: it starts again.
    Crash { host: Host, how: Crash },
    /// The power goes inside a commit: after so many disk operations from the start on. End: it starts again.
    PowerCut { host: Host, after_operations: u32 },
    /// A host stands still and then goes on as if nothing had been. End: it goes on.
    Pause { host: Host },

    /// No packets between these hosts and all other hosts. Clients reach both. End: healed.
    Partition { hosts: Vec<Host>, cut: Cut },
    /// No packets from one host to another; the way back works. End: healed.
    OneWayCut { from: Host, to: Host },
    /// These regions, clients included, are cut off from all others. End: healed.
    RegionCut { regions: Vec<Region>, cut: Cut },
    /// Whoever leads the control plane at the start is cut off from all other hosts. End: healed.
    LeaderCut { cut: Cut },
    /// All hosts of a region lose power. End: they start again. Without an end: their disks are gone.
    RegionLost { region: Region },
    /// At most so many bytes a second between two regions. End: full speed.
    SlowLink {
        between: (Region, Region),
        bytes_per_second: u64,
    },
    /// So much more one-way latency, plus up to so much more at random, between two regions. End: as before.
    Latency {
        between: (Region, Region),
        extra: Millis,
        jitter: Millis,
    },
    /// Packets between two hosts are lost and sent again: held this often a minute, for so long. End: none are.
    Loss {
        between: (Host, Host),
        holds_per_minute: u32,
        hold: Millis,
    },

    /// Only so many bytes are left on the disk. End: there is room again.
    DiskFull { host: Host, bytes_left: u64 },
    /// Some disk operations fail, in thousandths. End: none do.
    DiskErrors {
        host: Host,
        operation: DiskOperation,
        per_mille: u32,
    },
    /// Disk operations take so much longer. End: as before.
    DiskSlow { host: Host, extra: Millis },
    /// The host loses power; its files go back to what was synced at `to`. End: it starts again.
    DiskRolledBack { host: Host, to: Millis, files: Files },
    /// The host loses power; its files are replaced by a backup made at `taken`. End: it starts again.
    BackupRestored { host: Host, taken: Millis, files: Files },
    /// So many pages of the host's triples get flipped bits, while it is down. End: it starts again.
    BitRot { host: Host, pages: u32 },
    /// The same in the file of its control plane, log and votes, after its process has ended. The disk of a host whose node
    /// did not serve is left alone. End: it starts again.
    ControlRot { host: Host, pages: u32 },
    /// A host and its disk are gone for good.
    HostLost { host: Host },

    /// A host's clock is set forward or back. End: it is set right.
    ClockJump { host: Host, by_ms: i64 },
    /// A host's clock and timers run fast or slow, in millionths. End: at the right rate.
    ClockRate { host: Host, ppm: i32 },
    /// A client's clock is set forward or back. End: it is set right.
    ClientClock { client: Client, by_ms: i64 },
    /// So much time passes at one moment, for every clock; nothing happens in it. For good.
    TimePasses { by_ms: i64 },

    /// A client reaches nobody; it goes on writing. End: it comes back, perhaps nearer to another region.
    ClientOffline { client: Client, returns_in: Region },
    /// A client's program dies and loses what its disk had not synced. End: it starts again.
    ClientCrash { client: Client },
    /// A client reads its streams at most so fast. End: full speed.
    SlowConsumer { client: Client, bytes_per_second: u64 },

    /// A new host joins.
    Join { host: Host, region: Region },
    /// A host is drained: its tenants move away, it stays a member.
    Drain { host: Host },
    /// A host is taken out for good, with all that only it had; its process is stopped.
    Remove { host: Host },
    /// A host leaves as it should: it is drained, removed once nothing is left on it, and its process is stopped.
    Leave { host: Host },
    /// A host is lost for good; a new one joins in its region and the lost one is removed.
    Replace { lost: Host, by: Host },
    /// A tenant is placed anew.
    Place {
        tenant: Tenant,
        regions: Vec<Region>,
        home: Region,
        nodes_per_region: u32,
    },
    /// Hosts are restarted one after another, so long apart, with a newer wire version. For good.
    RollingUpgrade { pause: Millis },
}

impl Fault {
    /// When it is at work, in a run that heals everything at `heal`.
    pub fn span(&self, heal: Millis) -> Span {
        let end = self.end.unwrap_or(heal);
        Span {
            start: self.start,
            end: end.max(self.start),
        }
    }
}

/// The names of all kinds, and each kind's own. A variant that is not listed does not compile, so none is missing in
/// [`Kind::NAMES`], which the tests of the draw go through.
macro_rules! names {
    ($($variant:ident => $name:literal,)*) => {
        impl Kind {
            /// The names of all kinds.
            pub const NAMES: &[&str] = &[$($name),*];

            /// Its name, as JSON, reports and the command line have it.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => $name,)*
                }
            }
        }
    };
}

names! {
    Crash => "crash",
    PowerCut => "power-cut",
    Pause => "pause",
    Partition => "partition",
    OneWayCut => "one-way-cut",
    RegionCut => "region-cut",
    LeaderCut => "leader-cut",
    RegionLost => "region-lost",
    SlowLink => "slow-link",
    Latency => "latency",
    Loss => "loss",
    DiskFull => "disk-full",
    DiskErrors => "disk-errors",
    DiskSlow => "disk-slow",
    DiskRolledBack => "disk-rolled-back",
    BackupRestored => "backup-restored",
    BitRot => "bit-rot",
    ControlRot => "control-rot",
    HostLost => "host-lost",
    ClockJump => "clock-jump",
    ClockRate => "clock-rate",
    ClientClock => "client-clock",
    TimePasses => "time-passes",
    ClientOffline => "client-offline",
    ClientCrash => "client-crash",
    SlowConsumer => "slow-consumer",
    Join => "join",
    Drain => "drain",
    Remove => "remove",
    Leave => "leave",
    Replace => "replace",
    Place => "place",
    RollingUpgrade => "rolling-upgrade",
}

impl Kind {
    /// The hosts that it names.
    pub fn hosts(&self) -> Vec<Host> {
        match self {
            Self::Crash { host, .. }
            | Self::PowerCut { host, .. }
            | Self::Pause { host }
            | Self::DiskFull { host, .. }
            | Self::DiskErrors { host, .. }
            | Self::DiskSlow { host, .. }
            | Self::DiskRolledBack { host, .. }
            | Self::BackupRestored { host, .. }
            | Self::BitRot { host, .. }
            | Self::ControlRot { host, .. }
            | Self::HostLost { host }
            | Self::ClockJump { host, .. }
            | Self::ClockRate { host, .. }
            | Self::Join { host, .. }
            | Self::Drain { host }
            | Self::Remove { host }
            | Self::Leave { host } => vec![*host],
            Self::Partition { hosts, .. } => hosts.clone(),
            Self::OneWayCut { from, to } => vec![*from, *to],
            Self::Loss { between, .. } => vec![between.0, between.1],
            Self::Replace { lost, by } => vec![*lost, *by],
            Self::RegionCut { .. }
            | Self::LeaderCut { .. }
            | Self::RegionLost { .. }
            | Self::SlowLink { .. }
            | Self::Latency { .. }
            | Self::ClientClock { .. }
            | Self::TimePasses { .. }
            | Self::ClientOffline { .. }
            | Self::ClientCrash { .. }
            | Self::SlowConsumer { .. }
            | Self::Place { .. }
            | Self::RollingUpgrade { .. } => Vec::new(),
        }
    }

    /// The client that it names.
    pub const fn client(&self) -> Option<Client> {
        match self {
            Self::ClientClock { client, .. }
            | Self::ClientOffline { client, .. }
            | Self::ClientCrash { client }
            | Self::SlowConsumer { client, .. } => Some(*client),
            _ => None,
        }
    }
}
