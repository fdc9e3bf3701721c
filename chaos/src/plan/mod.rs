//! The plan of a run: everything that chance decides before it starts, from one seed.
//!
//! A run has three phases: a warm-up, in which the cluster forms; the faults, among a workload, until `duration`; then
//! everything that can heal is healed, the workload stops, and within `settle` the cluster must be whole: replicas
//! equal, every client served, every acknowledged change there.
//!
//! Always:
//! - the same seed gives the same plan, and a plan as JSON is the plan;
//! - a fault keeps its id when others are left out, and draws from its own stream, so any sub-list replays;
//! - a drawn plan stays within the fault budget ([`budget`]): it never destroys more than the design promises to survive.

pub mod budget;
pub mod cluster;
pub mod draw;
pub mod fault;
pub mod scenario;
pub mod stream;
pub mod time;

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use self::{
    cluster::{Acknowledgement, Client, ClientPlan, ClusterPlan, Host, HostPlan, TenantPlan, WorkPlan},
    fault::{Fault, FaultId, Kind},
    stream::Stream,
    time::Millis,
};
use crate::topology::Region;

/// In which the cluster forms: certificates, joins one by one, voters, tenants. Simulated, over real distances.
pub const WARM_UP: Millis = Millis::secs(8);

/// Within which a healed cluster must be whole: some elections, a catch-up over the slowest link, a collection.
pub const SETTLE: Millis = Millis::secs(60);

/// Everything that chance decides before a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What it was drawn from, and what all other streams of the run are drawn from.
    pub seed: u64,
    /// The scenario's name; `swarm` where the seed drew it all.
    pub scenario: String,
    /// No fault starts before; the cluster forms.
    pub warm_up: Millis,
    /// Workload and faults end here; what can heal is healed.
    pub duration: Millis,
    /// Within so long after that the cluster must be whole.
    pub settle: Millis,
    /// The cluster as it starts.
    pub cluster: ClusterPlan,
    /// `tenants[0]` is `t1`.
    pub tenants: Vec<TenantPlan>,
    /// `clients[0]` is `c1`.
    pub clients: Vec<ClientPlan>,
    /// What else goes on.
    pub work: WorkPlan,
    /// What goes wrong, in the order of its start.
    pub faults: Vec<Fault>,
}

impl Plan {
    /// The plan with only these faults. Nothing else changes, nor what the kept ones draw.
    #[must_use]
    pub fn keep(&self, ids: &BTreeSet<FaultId>) -> Self {
        let mut plan = self.clone();
        plan.faults.retain(|fault| ids.contains(&fault.id));
        plan
    }

    /// A shorter run: faults that would start too late are left out, those that would last too long end in time.
    #[must_use]
    pub fn shorten(&self, duration: Millis) -> Self {
        let mut plan = self.clone();
        plan.duration = duration.min(self.duration);
        plan.faults.retain(|fault| fault.start < plan.duration);
        for fault in &mut plan.faults {
            fault.end = fault.end.map(|end| end.min(plan.duration));
        }
        plan
    }

    /// A smaller run: the first so many hosts and clients, at least one each, with the faults and tenants that are
    /// possible without the others.
    #[must_use]
    pub fn shrink_to(&self, hosts: usize, clients: usize) -> Self {
        let mut plan = self.clone();
        plan.cluster.hosts.truncate(hosts.max(1));
        plan.clients.truncate(clients.max(1));
        let regions: BTreeSet<Region> = plan.cluster.hosts.iter().map(|host| host.region).collect();
        let (hosts_before, hosts_after) = (self.cluster.hosts.len(), plan.cluster.hosts.len());
        let clients_after = plan.clients.len();
        plan.faults.retain(|fault| {
            let left_out = |host: Host| (hosts_after + 1..=hosts_before).contains(&(host.0 as usize));
            let client_there = fault
                .kind
                .client()
                .is_none_or(|client| client.0 as usize <= clients_after);
            let placed_there = match &fault.kind {
                Kind::Place { regions: into, .. } => into.iter().all(|region| regions.contains(region)),
                _ => true,
            };
            client_there && placed_there && !fault.kind.hosts().into_iter().any(left_out)
        });
        for tenant in &mut plan.tenants {
            tenant.regions.retain(|region| regions.contains(region));
            if tenant.regions.is_empty() {
                tenant.regions.push(plan.cluster.hosts[0].region);
            }
            if !tenant.regions.contains(&tenant.home) {
                tenant.home = tenant.regions[0];
            }
            if tenant.regions.len() == 1 {
                tenant.acknowledgement = Acknowledgement::Local;
            }
        }
        plan
    }

    /// A host that is there from the start.
    pub fn host(&self, host: Host) -> Option<&HostPlan> {
        self.cluster.hosts.get(place(host.0)?)
    }

    /// A client.
    pub fn client(&self, client: Client) -> Option<&ClientPlan> {
        self.clients.get(place(client.0)?)
    }

    /// The hosts that are there from the start.
    pub fn hosts(&self) -> impl Iterator<Item = (Host, &HostPlan)> {
        (1..).map(Host).zip(&self.cluster.hosts)
    }

    /// What a fault draws while it happens.
    pub fn fault_stream(&self, fault: FaultId) -> Stream {
        Stream::of_fault(self.seed, fault)
    }

    /// The stream of this name.
    pub fn stream(&self, name: &str) -> Stream {
        Stream::of(self.seed, name)
    }

    /// The ids of all faults.
    pub fn fault_ids(&self) -> BTreeSet<FaultId> {
        self.faults.iter().map(|fault| fault.id).collect()
    }
}

/// The index of the `number`-th, counted from 1.
fn place(number: u32) -> Option<usize> {
    usize::try_from(number.checked_sub(1)?).ok()
}

impl fmt::Display for Plan {
    /// Some lines for a person: the cluster, the tenants, the clients, then a line for each fault.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seed, scenario) = (self.seed, &self.scenario);
        writeln!(
            f,
            "seed {seed}, {scenario}: {} then {} to settle",
            self.duration, self.settle
        )?;
        let regions: Vec<&str> = self.cluster.hosts.iter().map(|host| host.region.name()).collect();
        writeln!(f, "hosts    {}", regions.join(" "))?;
        for (name, value) in &self.cluster.settings {
            writeln!(f, "setting  {name} = {value}")?;
        }
        for (tenant, at) in self.tenants.iter().zip(1..) {
            let regions: Vec<&str> = tenant.regions.iter().map(|region| region.name()).collect();
            let (regions, nodes) = (regions.join(" "), tenant.nodes_per_region);
            writeln!(
                f,
                "tenant   t{at} in {regions}, {nodes} a region, acknowledged {}",
                tenant.acknowledgement
            )?;
        }
        for (client, at) in self.clients.iter().zip(1..) {
            let (region, tenant, pace) = (client.region, client.tenant, client.pace);
            writeln!(
                f,
                "client   c{at} in {region} on {tenant}, {}, every {pace}",
                client.transport
            )?;
        }
        for fault in &self.faults {
            writeln!(f, "fault    {fault}")?;
        }
        Ok(())
    }
}
