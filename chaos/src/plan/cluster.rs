//! Who takes part in a run: hosts, tenants, clients, operators, and how they are set up.
//!
//! A *host* is a simulated machine with a disk. Hosts `h1..=hk` hold the cluster from the start and join in that order,
//! so host `hk` runs node `nk`; hosts with larger numbers start when a fault (join, replace) says so.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::time::{Millis, Span};
use crate::topology::Region;

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&format!(concat!($prefix, "{}"), self.0))
            }
        }
    };
}

numbered!(
    /// A simulated machine, from 1.
    Host,
    "h"
);
numbered!(
    /// A simulated client program, from 1.
    Client,
    "c"
);
numbered!(
    /// A tenant of the plan, from 1.
    Tenant,
    "t"
);

/// The cluster as it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterPlan {
    /// `hosts[0]` is `h1`, which bootstraps; the others join in order before the workload starts. 1 to 7.
    pub hosts: Vec<HostPlan>,
    /// Files that each node's storage is spread over.
    pub shards: u32,
    /// Cluster settings that differ from their defaults, in the form in which a command sets them.
    pub settings: BTreeMap<String, String>,
    /// Spread of a message's latency, in percent of the one-way time.
    pub jitter_percent: u32,
    /// How likely the code's marked rare paths are taken, in thousandths (FoundationDB's BUGGIFY). 0: never.
    pub rare_paths_per_mille: u32,
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPlan {
    /// Where it stands.
    pub region: Region,
    /// Its physical clock.
    pub clock: ClockPlan,
}

/// How a physical clock differs from true simulated time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockPlan {
    /// Ahead of true time at the start (behind, if negative).
    pub offset_ms: i64,
    /// Gained on each million: 50 000 runs 5 % fast. Its timers run at the same rate.
    pub drift_ppm: i32,
}

/// One tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantPlan {
    /// Home region; always one of `regions`.
    pub home: Region,
    /// All regions that hold it.
    pub regions: Vec<Region>,
    /// Nodes that hold it in each region.
    pub nodes_per_region: u32,
    /// When a push is answered.
    pub acknowledgement: Acknowledgement,
}

/// When a push is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Acknowledgement {
    /// When the node that took it has it on disk.
    Local,
    /// When one more region has it too.
    Region,
}

impl fmt::Display for Acknowledgement {
    /// As the setting has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Region => "region",
        })
    }
}

/// One client program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientPlan {
    /// Where it is; latencies are counted from there.
    pub region: Region,
    /// The tenant it writes and reads.
    pub tenant: Tenant,
    /// How it speaks.
    pub transport: Transport,
    /// Its physical clock.
    pub clock: ClockPlan,
    /// When it starts.
    pub starts: Millis,
    /// Mean time between two things it does.
    pub pace: Millis,
    /// What it does.
    pub mix: Mix,
    /// Short absences that belong to its life (a phone in a lift). Long ones are faults.
    pub offline: Vec<Span>,
    /// Whether it may reach one address only, so that nodes must forward for it.
    pub forward: bool,
}

/// How a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// gRPC over HTTP/2.
    Native,
    /// gRPC-web over HTTP/1.1, as a browser does.
    GrpcWeb,
}

/// What a client does, as weights; and on how much data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mix {
    /// Register writes.
    pub set: u32,
    /// Register writes of nothing.
    pub unset: u32,
    /// Elements put in.
    pub add: u32,
    /// Elements taken out.
    pub remove: u32,
    /// New entities.
    pub create: u32,
    /// Deleted entities.
    pub delete: u32,
    /// Reads of an entity or a page.
    pub read: u32,
    /// Changes of one set, at most.
    pub changes_max: u32,
    /// Entity names it shares with the tenant's other clients: few give conflicts.
    pub entities: u32,
    /// Fields of an entity.
    pub fields: u32,
    /// Bytes of a value, at most.
    pub value_bytes_max: u32,
    /// Whether it keeps a watch open all the time.
    pub watch: bool,
    /// Live queries that it follows at a time, by gRPC.
    #[serde(default)]
    pub live: u32,
    /// Whether it goes in and out of a room of its tenant, by gRPC.
    #[serde(default)]
    pub room: bool,
}

/// What else goes on beside the clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkPlan {
    /// Programs that change and read the control plane (tenants, keys, settings).
    pub operators: u32,
    /// Mean time between two operations of one operator.
    pub operator_pace: Millis,
    /// Tenants beside the listed ones, placed like the first. One of 250 is changed once, at some moment.
    pub idle_tenants: u32,
    /// When a client pushes a change of a kind that no release knows; it must be kept opaque and stop nobody.
    pub poisoned_change_at: Option<Millis>,
    /// Catch-up streams are cut after so many batches, each a few times, so that resuming happens.
    pub cut_catch_ups_after: Option<u32>,
    /// Rare paths of the code that are taken whenever they are met, from the start, by name.
    #[serde(default)]
    pub always: Vec<String>,
    /// Pages now and then write as a copy of themselves as well, with the same identity, number and stamp, elsewhere.
    #[serde(default)]
    pub copied_pages: bool,
    /// Beside pages now and then a program writes that takes the device's clock for right, whatever nodes say of it.
    #[serde(default)]
    pub heedless_pages: bool,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::GrpcWeb => "gRPC-web",
        })
    }
}
