//! Operators beside the first: they create, delete and look up a few tenants by name, and write and read a setting, each
//! at a node of its own as long as that answers, and note what they were told. Every second one only looks: whoever waits
//! for a write sees nothing.

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

/// How often they are at the setting instead.
const AT_SETTING: f64 = 0.25;

/// The setting that they share: one of which no plan says anything, and which nothing here rests on.
pub(crate) const SHARED_SETTING: &str = "live_bytes_per_tenant_max";

/// Its default.
pub(crate) const SETTING_START: u64 = 1 << 31;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Create,
    Delete,
    Look,
    Set(u64),
    Get,
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
        let called = clock::now();
        count += 1;
        let is_at_setting = chance.random_bool(AT_SETTING);
        let name = if is_at_setting {
            SHARED_SETTING.to_owned()
        } else {
            format!("shared-{}", chance.random_range(0..NAMES))
        };
        let deed = match (is_at_setting, only_looks) {
            (true, true) => Deed::Get,
            (true, false) if chance.random_bool(0.3) => Deed::Get,
            (true, false) => Deed::Set(count),
            (false, true) => Deed::Look,
            (false, false) => one_of(&mut chance),
        };
        let call = match deed {
            Deed::Create => Call::Create(count),
            Deed::Delete => Call::Delete,
            Deed::Set(content) => Call::Write(content),
            Deed::Look | Deed::Get => Call::Read,
        };
        let answer = stage.asked(ask(&admin, deed, &name, &region)).await;
        let returned = clock::now();
        trace::tell(me, "operator.asked", format!("{name}: {call}: {answer:?}"));
        let only_reads = call == Call::Read;
        let reply = match answer {
            Ok(reply) => Some(reply),
            Err(AdminError::Unreachable(_)) => continue,
            // A look that was not answered says nothing.
            Err(ref error) if only_reads && !is_not_found(error) => continue,
            Err(AdminError::Refused(refusal)) => match refusal.code {
                ErrorCode::Exists => Some(Reply::Refused),
                ErrorCode::NotFound if deed == Deed::Look => Some(Reply::Absent),
                // As it should be after a deletion.
                ErrorCode::NotFound if deed == Deed::Delete => Some(Reply::Done),
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

async fn ask(admin: &AdminClient, deed: Deed, name: &str, region: &str) -> Result<Reply<u64>, AdminError> {
    let tenant = v1::TenantRequest { tenant: name.into() };
    let done = match deed {
        Deed::Create => {
            let request = v1::CreateTenantRequest {
                name: name.into(),
                regions: vec![region.into()],
                ..v1::CreateTenantRequest::default()
            };
            admin.create_tenant(request).await.map(drop)
        }
        Deed::Delete => admin.delete_tenant(tenant).await.map(drop),
        Deed::Set(content) => {
            let request = v1::SetSettingRequest {
                name: name.into(),
                value: content.to_string(),
            };
            admin.set_setting(request).await.map(drop)
        }
        Deed::Look => {
            admin.clone().linearizable().show_tenant(tenant).await?;
            return Ok(Reply::Content(PRESENT));
        }
        Deed::Get => {
            let all = admin.clone().linearizable();
            let all = all.list_settings(v1::ListSettingsRequest {}).await?.settings;
            let content = all.into_iter().find(|setting| setting.name == name);
            let content = content.and_then(|setting| setting.value.parse().ok());
            return Ok(content.map_or(Reply::Absent, Reply::Content));
        }
    };
    done.map(|()| Reply::Done)
}

const fn is_not_found(error: &AdminError) -> bool {
    matches!(error, AdminError::Refused(refusal) if matches!(refusal.code, ErrorCode::NotFound))
}
