//! The first operator: forms the cluster through the admin API as a person with the command line would, then carries
//! out what the plan changes in it.

use std::{rc::Rc, time::Duration};

use futures::{StreamExt, stream};
use halcyon_client::{AdminClient, AdminError, v1};
use halcyon_core::id::NodeId;
use halcyon_node::rpc::Rooms;
use halcyon_proto::error::ErrorCode;
use tokio::time::sleep;

use super::{
    idle::{self, Idle},
    node::FIRST,
    stage::{Access, Order, Stage, wait_until},
};
use crate::{
    oracles::Event,
    plan::{
        Plan,
        cluster::{Acknowledgement, Host, Tenant},
        fault::Kind,
    },
    world::{
        machine::{self, Machine},
        trace,
    },
};

/// This program's machine.
const ME: Machine = Machine::Operator(1);

/// Between two attempts at a call that failed.
const AGAIN: Duration = Duration::from_millis(200);

/// An order that fails is tried again so often, half a minute of quick failures; the cluster may be without a quorum.
const ATTEMPTS: u32 = 150;

/// Idle tenants that are being made at one moment: one waits for a round trip to the farthest region, and ten thousand
/// one after another for an hour.
const IDLE_TENANTS_AT_A_TIME: usize = 128;

/// How long a join token lives, beside the hours that pass at once in a run: longer than any run, as a host may be
/// started with it at any time.
const TOKEN_LIFETIME_MS: u64 = 24 * 3_600_000;

/// Between two looks whether anything is left on a node that leaves.
const LEAVING_LOOK_INTERVAL: Duration = Duration::from_secs(1);

pub(super) async fn run(stage: Rc<Stage>) -> turmoil::Result {
    machine::enter(ME);
    let admin = connect(&stage, ME).await;
    let others: Vec<Host> = stage
        .plan
        .hosts()
        .map(|(host, _)| host)
        .filter(|host| *host != FIRST)
        .collect();
    for host in others {
        join(&stage, &admin, host).await;
        // One after another, so that their numbers are the hosts'.
        wait_until(|| stage.rooms(host).is_some()).await;
    }
    for (name, value) in &stage.plan.cluster.settings {
        let (name, value) = (name.clone(), value.clone());
        let request = v1::SetSettingRequest { name, value };
        insist(u32::MAX, async || admin.set_setting(request.clone()).await).await;
    }
    for number in (1..).take(stage.plan.tenants.len()) {
        create_tenant(&stage, &admin, Tenant(number)).await;
    }
    let changed = idle::changed(&stage.plan);
    create_idle_tenants(&stage, &admin, &changed).await;
    stage.set_formed();
    idle::change(&stage, ME, changed);
    trace::tell(ME, "operator.formed", String::new());
    loop {
        match stage.next_order() {
            Some(order) => carry_out(&stage, &admin, &order).await,
            None => sleep(AGAIN).await,
        }
    }
}

/// A client of all nodes, made once the cluster is there. Each operator begins with another node, the first with `h1`.
pub(crate) async fn connect(stage: &Stage, me: Machine) -> AdminClient {
    let credential = stage.credential().await;
    let mut addresses = stage.client_addresses();
    if let Machine::Operator(number) = me {
        let first = (number as usize - 1) % addresses.len();
        addresses.rotate_left(first);
    }
    loop {
        let env = stage.place(me).env.clone();
        match AdminClient::connect(env, addresses.clone(), credential.clone(), None).await {
            Ok(client) => return client,
            Err(error) => trace::tell(me, "operator.again", error.to_string()),
        }
        sleep(AGAIN).await;
    }
}

async fn join(stage: &Stage, admin: &AdminClient, host: Host) -> bool {
    let request = v1::CreateTokenRequest {
        lifetime_ms: TOKEN_LIFETIME_MS + passing_ms(&stage.plan),
    };
    let made = insist(ATTEMPTS, async || admin.create_token(request).await).await;
    if let Some(made) = &made {
        stage.set_token(host, made.token.clone());
    }
    made.is_some()
}

/// What passes at one moment in a run.
fn passing_ms(plan: &Plan) -> u64 {
    let passing = plan.faults.iter().map(|fault| match fault.kind {
        Kind::TimePasses { by_ms } => by_ms.unsigned_abs(),
        _ => 0,
    });
    passing.sum()
}

async fn create_tenant(stage: &Stage, admin: &AdminClient, tenant: Tenant) {
    let planned = &stage.plan.tenants[tenant.0 as usize - 1];
    let name = format!("tenant-{}", tenant.0);
    let request = v1::CreateTenantRequest {
        name: name.clone(),
        regions: planned.regions.iter().map(ToString::to_string).collect(),
        home: planned.home.to_string(),
        nodes_per_region: planned.nodes_per_region,
    };
    let Some(made) = insist(u32::MAX, async || admin.create_tenant(request.clone()).await).await else {
        return;
    };
    if planned.acknowledgement == Acknowledgement::Region {
        let request = v1::SetTenantSettingRequest {
            tenant: name.clone(),
            name: "acknowledgement".into(),
            value: planned.acknowledgement.to_string(),
        };
        insist(ATTEMPTS, async || admin.set_tenant_setting(request.clone()).await).await;
    }
    let (id, key) = (made.id.parse().expect("a node gives good ids"), made.key);
    let show = v1::TenantRequest { tenant: name.clone() };
    loop {
        let shown = insist(u32::MAX, async || admin.show_tenant(show.clone()).await).await;
        let is_active = |shown: &v1::TenantDescription| {
            !shown.replicas.is_empty() && shown.replicas.iter().all(|replica| replica.state == "active")
        };
        if shown.as_ref().is_some_and(is_active) {
            break;
        }
        sleep(AGAIN).await;
    }
    trace::tell(Machine::World, "tenant", format!("{tenant} is {}", made.id));
    stage.set_access(tenant, Access { id, name, key });
}

/// Tenants that nobody writes to, but for the few that are changed once: what a catch-up costs must not grow with them.
async fn create_idle_tenants(stage: &Stage, admin: &AdminClient, changed: &[Idle]) {
    let planned = &stage.plan.tenants[0];
    let make = async |number| {
        let name = format!("idle-{number}");
        let request = v1::CreateTenantRequest {
            name: name.clone(),
            regions: planned.regions.iter().map(ToString::to_string).collect(),
            home: planned.home.to_string(),
            nodes_per_region: planned.nodes_per_region,
        };
        let made = insist(ATTEMPTS, async || admin.create_tenant(request.clone()).await).await;
        let is_it = |changed: &&Idle| changed.number == number;
        if let (Some(changed), Some(made)) = (changed.iter().find(is_it), made) {
            let (id, key) = (made.id.parse().expect("a node gives good ids"), made.key);
            stage.set_access(changed.tenant, Access { id, name, key });
        }
    };
    stream::iter(1..=stage.plan.work.idle_tenants)
        .for_each_concurrent(IDLE_TENANTS_AT_A_TIME, make)
        .await;
}

async fn carry_out(stage: &Stage, admin: &AdminClient, order: &Order) {
    let node = |host: &Host| stage.node_of(*host).map(|node| node.0);
    let done = match order {
        Order::Join(host) => join(stage, admin, *host).await,
        Order::Drain(host) => match node(host) {
            Some(node) => insist(ATTEMPTS, async || admin.drain_node(v1::NodeRequest { node }).await)
                .await
                .is_some(),
            None => false,
        },
        Order::Remove(host, node) => {
            let request = v1::RemoveNodeRequest {
                node: node.0,
                force: true,
            };
            // From here on what it alone has may be given up: a node that hears of it first does so at once (seed 400982).
            stage.hear(&Event::TakenOut(*host));
            let removed = tokio::select! {
                biased;
                removed = insist(ATTEMPTS, async || admin.remove_node(request).await) => removed,
                () = tell_when_out(stage, *host, *node) => None,
            };
            stage.hear(&Event::TakenOut(*host));
            stage.removed(*host, *node);
            removed.is_some()
        }
        Order::Leave(host, node) => leave(stage, admin, *host, *node).await,
        Order::Place {
            tenant,
            regions,
            home,
            nodes_per_region,
        } => {
            let request = v1::PlaceTenantRequest {
                tenant: format!("tenant-{}", tenant.0),
                regions: regions.iter().map(ToString::to_string).collect(),
                home: home.to_string(),
                nodes_per_region: *nodes_per_region,
            };
            insist(ATTEMPTS, async || admin.place_tenant(request.clone()).await)
                .await
                .is_some()
        }
    };
    trace::tell(ME, "operator.did", format!("{order:?}: {done}"));
    stage.carried_out();
}

/// Tells, without end, that a host is out, from when the first other node knows: the answer may come much later, and until
/// then the host takes what nobody else will ever have (seed 90005).
async fn tell_when_out(stage: &Stage, host: Host, node: NodeId) {
    loop {
        let knows = |rooms: &Rooms| rooms.view.node(rooms.me).is_some() && rooms.view.node(node).is_none();
        if stage.running().values().any(knows) {
            stage.hear(&Event::TakenOut(host));
        }
        sleep(AGAIN).await;
    }
}

/// Removes a node if nothing is left on it; what stands behind it in the queue does not wait for that.
async fn leave(stage: &Stage, admin: &AdminClient, host: Host, node: NodeId) -> bool {
    let request = v1::RemoveNodeRequest {
        node: node.0,
        force: false,
    };
    let is_gone = !holds_any(admin, node).await && insist(1, async || admin.remove_node(request).await).await.is_some();
    if is_gone {
        stage.removed(host, node);
    } else {
        sleep(LEAVING_LOOK_INTERVAL).await;
        stage.order(Order::Leave(host, node));
    }
    is_gone
}

/// Whether any tenant has a replica on a node. Where nobody answers, one may.
async fn holds_any(admin: &AdminClient, node: NodeId) -> bool {
    let admin = admin.clone().linearizable();
    let mut after = String::new();
    loop {
        let Ok(page) = admin.list_tenants(v1::ListTenantsRequest { after, limit: 0 }).await else {
            return true;
        };
        let mut replicas = page.tenants.iter().flat_map(|tenant| &tenant.replicas);
        if replicas.any(|replica| replica.node == node.0) {
            return true;
        }
        if page.next.is_empty() {
            return false;
        }
        after = page.next;
    }
}

/// Whether a node may say otherwise in a moment.
const fn is_passing(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::Retry | ErrorCode::Busy | ErrorCode::NoQuorum | ErrorCode::Conflict | ErrorCode::NotYetReplicated
    )
}

/// Tries again until it works, was tried too often, or is refused for good.
async fn insist<T>(attempts: u32, call: impl AsyncFn() -> Result<T, AdminError>) -> Option<T> {
    for _ in 0..attempts {
        match call().await {
            Ok(answer) => return Some(answer),
            Err(AdminError::Refused(refusal)) if !is_passing(refusal.code) && attempts != u32::MAX => {
                trace::tell(ME, "operator.refused", refusal.to_string());
                return None;
            }
            Err(error) => trace::tell(ME, "operator.again", error.to_string()),
        }
        sleep(AGAIN).await;
    }
    None
}
