//! Operators beside the first: they create, delete and look up a few tenants by name, each at a node of its own as long
//! as that answers, and note what they were told. Every second one only looks: whoever waits for a write sees nothing.

use std::{rc::Rc, time::Duration};

use halcyon_client::{AdminClient, AdminError, v1};
use halcyon_proto::error::ErrorCode;
use rand::RngExt;
use tokio::time::sleep;

use crate::{
    lin::{
        Operation,
        register::{Call, Reply},
    },
    oracles::{Event, PRESENT},
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Create,
    Delete,
    Look,
}

pub(crate) async fn run(stage: Rc<Stage>, number: u32) -> turmoil::Result {
    let me = Machine::Operator(number);
    machine::enter(me);
    stage.until(Phase::Working).await;
    let admin = connect_operator(&stage, me).await;
    let mut chance = chance::stream(stage.plan.seed, Purpose::Workload, me);
    // A region without a node has no tenants.
    let region = stage.kept_region().name().to_owned();
    let mut count = u64::from(number) << 32;
    let only_looks = number.is_multiple_of(2) && number > 2;
    while stage.phase() == Phase::Working {
        sleep(Duration::from_millis(
            chance.random_range(0..=2 * stage.plan.work.operator_pace.0),
        ))
        .await;
        let name = format!("shared-{}", chance.random_range(0..NAMES));
        let called = clock::now();
        count += 1;
        let draw = if only_looks { Deed::Look } else { one_of(&mut chance) };
        let call = match draw {
            Deed::Create => Call::Create(count),
            Deed::Delete => Call::Delete,
            Deed::Look => Call::Read,
        };
        let answer = stage.asked(ask(&admin, draw, &name, &region)).await;
        let returned = clock::now();
        trace::tell(me, "operator.asked", format!("{name}: {call}: {answer:?}"));
        let reply = match answer {
            Ok(()) if draw == Deed::Look => Some(Reply::Content(PRESENT)),
            Ok(()) => Some(Reply::Done),
            Err(AdminError::Unreachable(_)) => continue,
            // A look that was not answered says nothing.
            Err(ref error) if draw == Deed::Look && !is_not_found(error) => continue,
            Err(AdminError::Refused(refusal)) => match refusal.code {
                ErrorCode::Exists => Some(Reply::Refused),
                ErrorCode::NotFound if draw == Deed::Look => Some(Reply::Absent),
                // As it should be after a deletion.
                ErrorCode::NotFound if draw == Deed::Delete => Some(Reply::Done),
                // Nobody knows whether it will be carried out.
                _ => None,
            },
            Err(AdminError::Lost(_)) => None,
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

fn one_of(chance: &mut impl rand::Rng) -> Deed {
    match chance.random_range(0..10) {
        0..5 => Deed::Create,
        5..8 => Deed::Delete,
        _ => Deed::Look,
    }
}

async fn ask(admin: &AdminClient, deed: Deed, name: &str, region: &str) -> Result<(), AdminError> {
    let tenant = v1::TenantRequest { tenant: name.into() };
    match deed {
        Deed::Create => {
            let request = v1::CreateTenantRequest {
                name: name.into(),
                regions: vec![region.into()],
                ..v1::CreateTenantRequest::default()
            };
            admin.create_tenant(request).await.map(|_| ())
        }
        Deed::Delete => admin.delete_tenant(tenant).await.map(|_| ()),
        Deed::Look => admin.clone().linearizable().show_tenant(tenant).await.map(|_| ()),
    }
}

const fn is_not_found(error: &AdminError) -> bool {
    matches!(error, AdminError::Refused(refusal) if matches!(refusal.code, ErrorCode::NotFound))
}
