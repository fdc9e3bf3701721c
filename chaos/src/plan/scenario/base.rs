//! What named scenarios are built on: a plain cluster with a plain workload, to which faults are added one by one.

use std::collections::BTreeMap;

use rand::RngExt as _;

use crate::{
    plan::{
        Plan, SETTLE, WARM_UP,
        cluster::{
            Acknowledgement, ClientPlan, ClockPlan, ClusterPlan, HostPlan, Mix, Tenant, TenantPlan, Transport, WorkPlan,
        },
        fault::{Fault, FaultId, Kind},
        stream::Stream,
        time::Millis,
    },
    topology::Region,
};

/// What a client of a named scenario does: mostly writes, some conflicts, some deletions.
pub const PLAIN_MIX: Mix = Mix {
    set: 10,
    unset: 1,
    add: 3,
    remove: 2,
    create: 4,
    delete: 2,
    read: 6,
    changes_max: 5,
    entities: 16,
    fields: 4,
    value_bytes_max: 64,
    watch: true,
    live: 0,
    room: false,
};

/// Builds a plan.
#[derive(Debug, Clone)]
pub struct Base {
    plan: Plan,
    stream: Stream,
}

impl Base {
    /// Three hosts in three regions, no tenants, no clients, 60 seconds.
    pub fn new(seed: u64, scenario: &str) -> Self {
        let plan = Plan {
            seed,
            scenario: scenario.to_owned(),
            warm_up: WARM_UP,
            duration: Millis::secs(60),
            settle: SETTLE,
            cluster: ClusterPlan {
                hosts: Vec::new(),
                shards: 2,
                settings: BTreeMap::new(),
                jitter_percent: 20,
                rare_paths_per_mille: 0,
            },
            tenants: Vec::new(),
            clients: Vec::new(),
            work: WorkPlan {
                operators: 1,
                operator_pace: Millis(500),
                idle_tenants: 0,
                poisoned_change_at: None,
                cut_catch_ups_after: None,
                always: Vec::new(),
                copied_pages: false,
                heedless_pages: false,
            },
            faults: Vec::new(),
        };
        let stream = Stream::of(seed, "scenario");
        Self { plan, stream }.hosts(&[Region::EuDe, Region::UsEast, Region::JpTok])
    }

    /// With these hosts instead, `h1` first.
    #[must_use]
    pub fn hosts(mut self, regions: &[Region]) -> Self {
        let host = |region: &Region| HostPlan {
            region: *region,
            clock: ClockPlan {
                offset_ms: self.stream.rng().random_range(-50..=50),
                drift_ppm: self.stream.rng().random_range(-50..=50),
            },
        };
        self.plan.cluster.hosts = regions.iter().map(host).collect();
        self
    }

    /// With one more tenant, at home in the first of these regions.
    #[must_use]
    pub fn tenant(mut self, regions: &[Region], nodes_per_region: u32) -> Self {
        self.plan.tenants.push(TenantPlan {
            home: regions[0],
            regions: regions.to_vec(),
            nodes_per_region,
            acknowledgement: Acknowledgement::Local,
        });
        self
    }

    /// With one more client, of the last tenant.
    #[must_use]
    pub fn client(mut self, region: Region, transport: Transport) -> Self {
        let tenant = u32::try_from(self.plan.tenants.len()).unwrap_or(u32::MAX);
        self.plan.clients.push(ClientPlan {
            region,
            tenant: Tenant(tenant),
            transport,
            clock: ClockPlan {
                offset_ms: self.stream.rng().random_range(-300..=300),
                drift_ppm: self.stream.rng().random_range(-100..=100),
            },
            starts: Millis(WARM_UP.0 / 2),
            pace: Millis(self.stream.rng().random_range(80..240)),
            mix: PLAIN_MIX,
            offline: Vec::new(),
            forward: false,
        });
        self
    }

    /// With one tenant in every region of the hosts and a client in each, every third by gRPC-web.
    #[must_use]
    pub fn everywhere(mut self) -> Self {
        let mut regions = Vec::new();
        for host in &self.plan.cluster.hosts {
            if !regions.contains(&host.region) {
                regions.push(host.region);
            }
        }
        self = self.tenant(&regions, 1);
        for (at, region) in regions.into_iter().enumerate() {
            let transport = if at % 3 == 2 {
                Transport::GrpcWeb
            } else {
                Transport::Native
            };
            self = self.client(region, transport);
        }
        self
    }

    /// With this setting.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.plan.cluster.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With this duration.
    #[must_use]
    pub fn lasting(mut self, seconds: u64) -> Self {
        self.plan.duration = Millis::secs(seconds);
        self
    }

    /// With a change to anything else.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Plan)) -> Self {
        change(&mut self.plan);
        self
    }

    /// With a fault from about `start` until about `end`, in seconds: the seed moves both by up to a second, together.
    #[must_use]
    pub fn fault(self, start: u64, end: u64, kind: Kind) -> Self {
        self.push(start, Some(end), kind)
    }

    /// With a fault at about `start`, in seconds, that happens at once or for good.
    #[must_use]
    pub fn once(self, start: u64, kind: Kind) -> Self {
        self.push(start, None, kind)
    }

    /// The plan, its faults in the order of their start.
    pub fn plan(mut self) -> Plan {
        self.plan.faults.sort_by_key(|fault| fault.start);
        for (fault, id) in self.plan.faults.iter_mut().zip(0..) {
            fault.id = FaultId(id);
        }
        self.plan
    }

    fn push(mut self, start: u64, end: Option<u64>, kind: Kind) -> Self {
        let id = self.next();
        let moved = self.moved(start);
        self.plan.faults.push(Fault {
            id,
            start: moved,
            end: end.map(|end| moved + Millis::secs(end - start)),
            kind,
        });
        self
    }

    fn moved(&mut self, start: u64) -> Millis {
        Millis::secs(start) + Millis(self.stream.rng().random_range(0..1_000))
    }

    fn next(&self) -> FaultId {
        FaultId(u32::try_from(self.plan.faults.len()).unwrap_or(u32::MAX))
    }
}
