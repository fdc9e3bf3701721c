//! What the runner and the programs on the simulated machines share: who is there, how far the run is.
//!
//! All of it lives on the simulation's one thread. No borrow is held across an `await`.

use std::{
    cell::{Cell, Ref, RefCell},
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    time::Duration,
};

use halcyon_core::{
    env::Env,
    id::{EntityId, NodeId, TenantId},
    version_vector::VersionVector,
};
use halcyon_node::{metadata::state::ReplicaState, rpc::Rooms};

pub use super::order::Order;
use super::{outcome::Violation, releases::Releases};
use crate::{
    oracles::{Court, Event, Moment},
    plan::{
        Plan, budget,
        cluster::{Client, ClockPlan, Host, Tenant},
        fault::Kind,
    },
    topology::Region,
    world::{clock::now, disk::SimDisk, env, machine::Machine, trace},
};

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nodes start and join, tenants are made.
    Forming,
    /// Clients work, faults come and go.
    Working,
    /// All is healed; clients finish what they began.
    Settling,
}

/// How often a program on a machine looks whether what it waits for has come.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Where clients reach a node.
pub(super) const CLIENT_PORT: u16 = 7_700;

/// Where peers do.
pub(super) const PEER_PORT: u16 = 7_710;

/// How a tenant is reached.
#[derive(Debug, Clone)]
pub struct Access {
    /// Its id.
    pub id: TenantId,
    /// Its name.
    pub name: String,
    /// An access key.
    pub key: String,
}

/// One machine.
#[derive(Debug)]
pub struct Place {
    /// Where it stands now. Clients move.
    pub region: Cell<Region>,
    /// Its disk.
    pub disk: SimDisk,
    /// Its world. One for its whole life, so that chance does not repeat after a restart.
    pub env: Env,
}

/// See the module.
pub struct Stage {
    /// What is carried out.
    pub plan: Plan,
    /// Every machine that there ever will be.
    pub places: BTreeMap<Machine, Place>,
    phase: Cell<Phase>,
    is_formed: Cell<bool>,
    tokens: RefCell<BTreeMap<Host, String>>,
    credential: RefCell<Option<String>>,
    rooms: RefCell<BTreeMap<Host, Rooms>>,
    access: RefCell<BTreeMap<Tenant, Access>>,
    finished: RefCell<BTreeSet<Client>>,
    lives: RefCell<BTreeMap<Client, u32>>,
    entities: RefCell<BTreeMap<Tenant, Vec<EntityId>>>,
    violations: RefCell<Vec<Violation>>,
    orders: RefCell<VecDeque<Order>>,
    nodes: RefCell<BTreeMap<NodeId, Host>>,
    lost: RefCell<BTreeSet<Host>>,
    leaving: RefCell<Vec<Host>>,
    removed_while_away: RefCell<Vec<Host>>,
    replaced: RefCell<BTreeSet<Host>>,
    asking: Cell<u32>,
    /// Which release each host runs.
    pub(crate) releases: Releases,
    court: RefCell<Court>,
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage")
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl Stage {
    /// A stage with the plan's machines.
    pub fn new(plan: Plan) -> Self {
        let mut places = BTreeMap::new();
        let mut place = |machine, region| {
            let disk = SimDisk::new(plan.seed, machine);
            let env = env::of(plan.seed, machine, &disk);
            let region = Cell::new(region);
            places.insert(machine, Place { region, disk, env });
        };
        for (host, at) in plan.hosts() {
            place(Machine::Host(host.0), at.region);
        }
        for fault in &plan.faults {
            match fault.kind {
                Kind::Join { host, region } => place(Machine::Host(host.0), region),
                Kind::Replace { lost, by } => {
                    let region = plan.host(lost).map_or(plan.cluster.hosts[0].region, |host| host.region);
                    place(Machine::Host(by.0), region);
                }
                _ => {}
            }
        }
        for (client, number) in plan.clients.iter().zip(1..) {
            place(Machine::Client(number), client.region);
        }
        let court = RefCell::new(Court::new());
        for number in 1..=1 + plan.work.operators {
            place(Machine::Operator(number), plan.cluster.hosts[0].region);
        }
        Self {
            plan,
            places,
            phase: Cell::new(Phase::Forming),
            is_formed: Cell::new(false),
            tokens: RefCell::default(),
            credential: RefCell::default(),
            rooms: RefCell::default(),
            access: RefCell::default(),
            finished: RefCell::default(),
            lives: RefCell::default(),
            entities: RefCell::default(),
            violations: RefCell::default(),
            orders: RefCell::default(),
            nodes: RefCell::default(),
            lost: RefCell::default(),
            leaving: RefCell::default(),
            removed_while_away: RefCell::default(),
            replaced: RefCell::default(),
            asking: Cell::default(),
            releases: Releases::default(),
            court,
        }
    }

    /// How a machine's clock lies by the plan.
    pub(super) fn planned_clock(&self, machine: Machine) -> ClockPlan {
        let planned = match machine {
            Machine::Host(number) => self.plan.host(Host(number)).map(|host| host.clock),
            Machine::Client(number) => self.plan.client(Client(number)).map(|client| client.clock),
            Machine::World | Machine::Operator(_) => None,
        };
        planned.unwrap_or_default()
    }

    /// Every host that there ever will be.
    pub fn all_hosts(&self) -> Vec<Host> {
        let hosts = self.places.keys().filter_map(|machine| match machine {
            Machine::Host(number) => Some(Host(*number)),
            _ => None,
        });
        hosts.collect()
    }

    /// The hosts of a region.
    pub fn hosts_in(&self, region: Region) -> Vec<Host> {
        let mut hosts = self.all_hosts();
        hosts.retain(|host| self.place(Machine::Host(host.0)).region.get() == region);
        hosts
    }

    /// The control plane's leader, as most recently elected.
    pub fn leader(&self) -> Option<Host> {
        let running = self.running();
        let roles = running.values().map(|rooms| rooms.metadata.roles());
        let latest = roles.max_by_key(|roles| (roles.term, roles.leader.is_some()))?;
        self.host_of(latest.leader?)
    }

    /// The host that runs a node, or ran it last.
    pub fn host_of(&self, node: NodeId) -> Option<Host> {
        self.nodes.borrow().get(&node).copied()
    }

    /// The number of the node that a host runs or ran last.
    pub fn node_of(&self, host: Host) -> Option<NodeId> {
        let nodes = self.nodes.borrow();
        nodes.iter().rev().find(|(_, of)| **of == host).map(|(node, _)| *node)
    }

    /// All nodes that a host has run.
    pub fn nodes_of(&self, host: Host) -> BTreeSet<NodeId> {
        let nodes = self.nodes.borrow();
        nodes
            .iter()
            .filter(|(_, of)| **of == host)
            .map(|(node, _)| *node)
            .collect()
    }

    /// What a replica of the tenant holds; at the end all hold the same.
    pub fn vector_of(&self, tenant: TenantId) -> Option<VersionVector> {
        let running = self.running();
        let mut held = running.values().filter(|rooms| {
            let placed = rooms.view.tenant(tenant);
            // One that leaves hears of nothing new.
            placed.is_some_and(|placed| placed.replicas.get(&rooms.me) == Some(&ReplicaState::Active))
        });
        held.find_map(|rooms| rooms.storage.summary(tenant).ok().flatten())
            .map(|summary| summary.vector)
    }

    /// Asks the operator to do something.
    pub fn order(&self, order: Order) {
        trace::tell(Machine::World, "order", format!("{order:?}"));
        self.orders.borrow_mut().push_back(order);
    }

    /// The order that is to be carried out now; it stays until [`Self::carried_out`].
    pub(super) fn next_order(&self) -> Option<Order> {
        self.orders.borrow().front().cloned()
    }

    pub(super) fn carried_out(&self) {
        self.orders.borrow_mut().pop_front();
    }

    /// A node is no member any more. A host that runs it stops for good; one that is away may come back until the healing.
    pub(super) fn removed(&self, host: Host, node: NodeId) {
        match self.rooms(host) {
            Some(rooms) if rooms.me == node => self.leaving.borrow_mut().push(host),
            None if !self.has_joined_anew(host) => self.removed_while_away.borrow_mut().push(host),
            _ => {}
        }
    }

    /// Hosts whose nodes were removed, when it is time to stop them for good.
    pub(super) fn take_leaving(&self) -> Vec<Host> {
        let mut leaving = std::mem::take(&mut *self.leaving.borrow_mut());
        if self.phase() == Phase::Settling {
            leaving.append(&mut self.removed_while_away.borrow_mut());
        }
        leaving
    }

    /// Whether the first host, too, has to join: its disk was replaced.
    pub(super) fn has_joined_anew(&self, host: Host) -> bool {
        self.replaced.borrow().contains(&host)
    }

    /// Whether a host was ever asked to take part.
    pub(super) fn has_token(&self, host: Host) -> bool {
        host == super::node::FIRST || self.tokens.borrow().contains_key(&host)
    }

    /// Whether a host gets a new disk for the first time.
    pub(super) fn is_first_replacement(&self, host: Host) -> bool {
        self.replaced.borrow_mut().insert(host)
    }

    /// Whether the operator has nothing left to do.
    pub(super) fn is_idle(&self) -> bool {
        self.orders.borrow().is_empty()
    }

    /// A host is gone for good.
    pub(super) fn set_lost(&self, host: Host) {
        self.lost.borrow_mut().insert(host);
    }

    /// Hosts that are gone for good.
    pub fn lost(&self) -> BTreeSet<Host> {
        self.lost.borrow().clone()
    }

    /// Lets the oracles hear of something.
    pub fn hear(&self, event: &Event) {
        let found = self.court.borrow_mut().hear(event, self);
        for (oracle, what) in found {
            self.violated(oracle, what);
        }
    }

    /// The oracles, to be asked.
    pub(super) fn court(&self) -> Ref<'_, Court> {
        self.court.borrow()
    }

    /// Lets the oracles look at the nodes.
    pub(super) fn look(&self, moment: Moment) {
        let found = self.court.borrow_mut().look(self, moment);
        for (oracle, what) in found {
            self.violated(oracle, what);
        }
    }

    /// A machine.
    pub fn place(&self, machine: Machine) -> &Place {
        &self.places[&machine]
    }

    /// How far the run is.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        trace::tell(Machine::World, "phase", format!("{phase:?}"));
        self.phase.set(phase);
    }

    /// Waits for a phase, or a later one.
    pub async fn until(&self, phase: Phase) {
        wait_until(|| self.phase() >= phase).await;
    }

    pub(super) fn set_formed(&self) {
        self.is_formed.set(true);
    }

    pub(super) fn is_formed(&self) -> bool {
        self.is_formed.get()
    }

    /// The join token of a host, once an operator has made one.
    pub(super) async fn token(&self, host: Host) -> String {
        wait_until(|| self.tokens.borrow().contains_key(&host)).await;
        self.tokens.borrow()[&host].clone()
    }

    pub(super) fn set_token(&self, host: Host, token: String) {
        self.tokens.borrow_mut().insert(host, token);
    }

    /// The operators' credential, once the first node has made the cluster.
    pub async fn credential(&self) -> String {
        wait_until(|| self.credential.borrow().is_some()).await;
        self.credential.borrow().clone().expect("waited for")
    }

    pub(super) fn set_credential(&self, credential: String) {
        *self.credential.borrow_mut() = Some(credential);
    }

    /// The rooms of a node that runs.
    pub fn rooms(&self, host: Host) -> Option<Rooms> {
        self.rooms.borrow().get(&host).cloned()
    }

    /// All nodes that run.
    pub fn running(&self) -> BTreeMap<Host, Rooms> {
        self.rooms.borrow().clone()
    }

    pub(super) fn started(&self, host: Host, rooms: Rooms) {
        self.nodes.borrow_mut().insert(rooms.me, host);
        self.rooms.borrow_mut().insert(host, rooms);
    }

    pub(super) fn stopped(&self, host: Host) {
        self.rooms.borrow_mut().remove(&host);
    }

    /// How a tenant is reached.
    pub fn access(&self, tenant: Tenant) -> Option<Access> {
        self.access.borrow().get(&tenant).cloned()
    }

    /// Every tenant's access.
    pub fn all_access(&self) -> BTreeMap<Tenant, Access> {
        self.access.borrow().clone()
    }

    pub(super) fn set_access(&self, tenant: Tenant, access: Access) {
        self.access.borrow_mut().insert(tenant, access);
    }

    /// The entities of a tenant that its clients change now.
    pub fn entities(&self, tenant: Tenant) -> Vec<EntityId> {
        self.entities.borrow().get(&tenant).cloned().unwrap_or_default()
    }

    /// A client made entities. They take the place of others where there are `most`.
    pub fn add_entities(&self, tenant: Tenant, made: Vec<EntityId>, most: usize) {
        let mut entities = self.entities.borrow_mut();
        let entities = entities.entry(tenant).or_default();
        entities.extend(made);
        let surplus = entities.len().saturating_sub(most.max(1));
        entities.drain(..surplus);
    }

    /// Counts the lives of a client's program, from 1.
    pub fn next_life(&self, client: Client) -> u32 {
        let mut lives = self.lives.borrow_mut();
        let life = lives.entry(client).or_default();
        *life += 1;
        *life
    }

    /// Whether anybody but one node holds the client's tenant.
    pub fn has_second_replica(&self, client: Client) -> bool {
        let tenant = self.plan.client(client).and_then(|client| self.access(client.tenant));
        let placed = tenant.and_then(|tenant| self.running().into_values().next()?.view.tenant(tenant.id));
        let lost = self.lost();
        placed.is_some_and(|placed| {
            let alive = placed
                .replicas
                .keys()
                .filter(|node| self.host_of(**node).is_none_or(|host| !lost.contains(&host)));
            alive.count() > 1
        })
    }

    /// A client has done all that it wanted: everything is acknowledged.
    pub fn finish(&self, client: Client) {
        trace::tell(Machine::Client(client.0), "client.finished", String::new());
        self.finished.borrow_mut().insert(client);
    }

    /// Whether a client has done all that it wanted.
    pub fn has_finished(&self, client: Client) -> bool {
        self.finished.borrow().contains(&client)
    }

    /// What an operator's question answers. What one waits for may have happened already: a run does not end before.
    pub async fn asked<T>(&self, question: impl Future<Output = T>) -> T {
        self.asking.update(|asking| asking + 1);
        let answer = question.await;
        self.asking.update(|asking| asking - 1);
        answer
    }

    /// Whether an operator waits for an answer.
    pub fn is_asking(&self) -> bool {
        self.asking.get() > 0
    }

    /// Where clients reach all nodes of the plan.
    pub fn client_addresses(&self) -> Vec<String> {
        let hosts = self.plan.hosts();
        hosts.map(|(host, _)| format!("{host}:{CLIENT_PORT}")).collect()
    }

    /// The same, without hosts that the plan harms or takes away.
    pub fn kept_addresses(&self) -> Vec<String> {
        let kept = budget::kept(&self.plan).into_iter();
        kept.map(|(host, _)| format!("{host}:{CLIENT_PORT}")).collect()
    }

    /// A region of which the plan leaves a host.
    pub fn kept_region(&self) -> Region {
        let kept = budget::kept(&self.plan).into_iter().next();
        kept.map_or(self.plan.cluster.hosts[0].region, |(_, region)| region)
    }

    /// A rule did not hold.
    pub fn violated(&self, oracle: &str, what: String) {
        trace::tell(Machine::World, "violation", format!("{oracle}: {what}"));
        self.violations.borrow_mut().push(Violation {
            oracle: oracle.to_owned(),
            what,
            at_ms: now() / 1_000_000,
        });
    }

    /// What was violated so far.
    pub fn violations(&self) -> Vec<Violation> {
        self.violations.borrow().clone()
    }

    pub(super) fn is_violated(&self) -> bool {
        !self.violations.borrow().is_empty()
    }
}

/// Looks now and then until it is so.
pub(super) async fn wait_until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
