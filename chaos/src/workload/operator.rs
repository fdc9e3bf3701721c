//! Operators beside the first: they create and delete a few tenants by name, at whichever node answers, and note what
//! they were told.

use std::{rc::Rc, time::Duration};

use halcyon_client::{AdminError, v1};
use halcyon_proto::error::ErrorCode;
use rand::RngExt;
use tokio::time::sleep;

use crate::{
    lin::{
        Operation,
        register::{Call, Reply},
    },
    oracles::Event,
    run::{Phase, Stage, connect_operator},
    world::{
        chance::{self, Purpose},
        clock,
        machine::{self, Machine},
        trace,
    },
};

/// Names that the operators share.
const NAMES: u32 = 3;

pub(crate) async fn run(stage: Rc<Stage>, number: u32) -> turmoil::Result {
    let me = Machine::Operator(number);
    machine::enter(me);
    stage.until(Phase::Working).await;
    let admin = connect_operator(&stage, me).await;
    let mut chance = chance::stream(stage.plan.seed, Purpose::Workload, me);
    // A region without a node has no tenants.
    let region = stage.kept_region().name().to_owned();
    let mut count = u64::from(number) << 32;
    while stage.phase() == Phase::Working {
        sleep(Duration::from_millis(
            chance.random_range(0..=2 * stage.plan.work.operator_pace.0),
        ))
        .await;
        let name = format!("shared-{}", chance.random_range(0..NAMES));
        let called = clock::now();
        count += 1;
        let (call, answer) = if chance.random_bool(0.6) {
            let request = v1::CreateTenantRequest {
                name: name.clone(),
                regions: vec![region.clone()],
                ..v1::CreateTenantRequest::default()
            };
            (Call::Create(count), admin.create_tenant(request).await.map(|_| ()))
        } else {
            let tenant = name.clone();
            let request = v1::TenantRequest { tenant };
            (Call::Delete, admin.delete_tenant(request).await.map(|_| ()))
        };
        let returned = clock::now();
        trace::tell(me, "operator.asked", format!("{name}: {call}: {answer:?}"));
        let reply = match answer {
            Ok(()) => Some(Reply::Done),
            Err(AdminError::Refused(refusal)) => match refusal.code {
                ErrorCode::Exists => Some(Reply::Refused),
                // As it should be after a deletion.
                ErrorCode::NotFound if call == Call::Delete => Some(Reply::Done),
                // Nobody knows whether it will be carried out.
                _ => None,
            },
            Err(AdminError::Lost(_)) => None,
            Err(AdminError::Unreachable(_)) => continue,
        };
        let operation = Operation {
            process: me.to_string(),
            call,
            called,
            returned: reply.map(|reply| (returned, reply)),
        };
        stage.hear(&Event::Controlled { name, operation });
    }
    std::future::pending().await
}
