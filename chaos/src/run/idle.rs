//! Idle tenants of which a seeded few are changed once, at some moment of the run: when all is settled their replicas
//! must be equal like all others, and show the change. So a catch-up has to find the few among the many.

use std::{rc::Rc, time::Duration};

use halcyon_client::{Client, ClientOptions};
use halcyon_core::{
    change::Change,
    id::{EntityId, Predicate},
    value::Value,
};
use rand::RngExt;
use tokio::time::sleep;

use super::stage::{Access, Phase, Stage};
use crate::{
    plan::{Plan, cluster::Tenant, time::Millis},
    workload,
    world::{clock, machine::Machine, trace},
};

/// One of so many idle tenants is changed.
const CHANGED_OF: u32 = 250;

/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(500);

/// Its name everywhere.
const ENTITY: &str = "changed-once";

/// An idle tenant that is changed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Idle {
    /// Among the idle ones.
    pub(super) number: u32,
    /// Behind the plan's own.
    pub(super) tenant: Tenant,
    at: Millis,
}

/// Those of a plan.
pub(super) fn changed(plan: &Plan) -> Vec<Idle> {
    let own = u32::try_from(plan.tenants.len()).unwrap_or(u32::MAX);
    let mut stream = plan.stream("idle tenants");
    let mut draw = |at: u32| Idle {
        number: at * CHANGED_OF + stream.rng().random_range(1..=CHANGED_OF),
        tenant: Tenant(own + 1 + at),
        at: Millis(stream.rng().random_range(plan.warm_up.0..plan.duration.0)),
    };
    (0..plan.work.idle_tenants / CHANGED_OF).map(&mut draw).collect()
}

/// Has each changed at its moment. A run does not end before all of them are, and show it.
pub(super) fn change(stage: &Rc<Stage>, me: Machine, changed: Vec<Idle>) {
    for idle in changed {
        let Some(access) = stage.access(idle.tenant) else {
            continue;
        };
        let stage = stage.clone();
        tokio::task::spawn_local(async move {
            sleep(idle.at.duration().saturating_sub(Duration::from_nanos(clock::now()))).await;
            stage.asked(Box::pin(change_one(&stage, me, idle.tenant, access))).await;
        });
    }
}

async fn change_one(stage: &Stage, me: Machine, tenant: Tenant, access: Access) {
    let client = connect(stage, me, &access).await;
    let subject = EntityId::new(ENTITY).expect("a good name");
    let changes = vec![
        Change::Create {
            subject: subject.clone(),
        },
        Change::Set {
            subject: subject.clone(),
            predicate: Predicate::new("thing/f0").expect("a good name"),
            value: Value::string(&workload::marker(tenant)),
        },
    ];
    let told = match client.write(changes).await {
        Ok(pending) => pending.acknowledged().await.map(|taken| taken.tag),
        Err(error) => return stage.violated("idle-tenants", format!("{tenant} took no change: {error}")),
    };
    trace::tell(me, "idle.changed", format!("{tenant}: {told:?}"));
    stage.until(Phase::Settling).await;
    while !client.get(&subject).await.is_ok_and(|shown| !shown.is_empty()) {
        sleep(AGAIN).await;
    }
    trace::tell(me, "idle.shown", tenant.to_string());
}

async fn connect(stage: &Stage, me: Machine, access: &Access) -> Client {
    loop {
        let options = ClientOptions {
            addresses: stage.client_addresses(),
            tenant: access.name.clone(),
            key: access.key.clone(),
            ..ClientOptions::default()
        };
        match Client::connect(stage.place(me).env.clone(), options).await {
            Ok(client) => return client,
            Err(error) => trace::tell(me, "idle.again", error.to_string()),
        }
        sleep(AGAIN).await;
    }
}
