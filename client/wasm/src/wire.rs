//! Bodies of calls, and what their answers say. Frames, headers and time belong to whoever makes the calls.

use halcyon_core::{change::ChangeSet, id::Tag, version_vector::VersionVector};
use halcyon_proto::{
    convert::{self, ConvertError, Taken},
    error::Refusal,
    v1::{self, watch_response::Event},
    version,
};
use prost::{Message, bytes::Bytes};
use serde_json::{Value as JsonValue, json};
use thiserror::Error;

use crate::outbox::{Next, Settled};

/// Why an answer is of no use.
#[derive(Debug, Error)]
pub enum WireError {
    /// It is not the message that it should be.
    #[error("a node's answer is not a message of ours: {0}")]
    Message(#[from] prost::DecodeError),
    /// Something in it cannot be what it should be.
    #[error("a node's answer cannot be understood: {0}")]
    Convert(#[from] ConvertError),
    /// A set was left out; the watch goes back to where the confirmed state ends.
    #[error("the watch left something out")]
    Gap,
}

/// A message of a watch.
pub(crate) enum Watched {
    Missed(Vec<ChangeSet>),
    CaughtUp(VersionVector),
    Live(Tag, ChangeSet),
    Anew,
    Nothing,
}

/// The body of `Hello`.
pub(crate) fn hello() -> Vec<u8> {
    let message = v1::HelloRequest {
        versions: Some(version::WIRE),
        agent: concat!("halcyon-web/", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    message.encode_to_vec()
}

/// What `Hello` answered: `{"node": "1", "region": "eu-west", "agent": …}`.
pub(crate) fn hello_json(body: &[u8]) -> Result<JsonValue, WireError> {
    let answer = v1::HelloResponse::decode(body)?;
    Ok(json!({ "node": answer.node.to_string(), "region": answer.region, "agent": answer.agent }))
}

/// The body of `Locate`.
pub(crate) fn locate(tenant: &str) -> Vec<u8> {
    let tenant = tenant.to_owned();
    v1::LocateRequest { tenant }.encode_to_vec()
}

/// What `Locate` answered: `{"tenant": id, "replicas": [{"node", "region", "address", "serving"}]}`.
pub(crate) fn locate_json(body: &[u8]) -> Result<JsonValue, WireError> {
    let answer = v1::LocateResponse::decode(body)?;
    Ok(json!({ "tenant": answer.tenant_id, "replicas": replicas_json(&answer.replicas) }))
}

/// An `Error` in a status' details: `{"code", "message", "retryAfterMs", "replicas"}`; null where there is none.
pub(crate) fn error_json(details: &[u8]) -> JsonValue {
    refusal(details).map_or(JsonValue::Null, |refusal| refusal_json(&refusal))
}

pub(crate) fn refusal(details: &[u8]) -> Option<Refusal> {
    if details.is_empty() {
        return None;
    }
    v1::Error::decode(details).ok().map(Refusal::from)
}

pub(crate) fn push(tenant: &str, change_sets: Vec<Bytes>, vector: &VersionVector) -> Vec<u8> {
    let message = v1::PushRequest {
        tenant: tenant.to_owned(),
        change_sets,
        vector: convert::vector_bytes(vector),
        forward: true,
    };
    message.encode_to_vec()
}

/// The results of a push. A result that is missing counts as no answer: the list ends there.
pub(crate) fn pushed(body: &[u8]) -> Result<Vec<Result<Taken, Refusal>>, WireError> {
    let answer = v1::PushResponse::decode(body)?;
    let mut results = Vec::with_capacity(answer.results.len());
    for result in answer.results {
        results.push(match result.result {
            Some(v1::push_result::Result::Taken(taken)) => Ok(Taken::try_from(taken)?),
            Some(v1::push_result::Result::Refused(error)) => Err(error.into()),
            None => break,
        });
    }
    Ok(results)
}

pub(crate) fn watch(tenant: &str, vector: &VersionVector) -> Vec<u8> {
    let message = v1::WatchRequest {
        tenant: tenant.to_owned(),
        vector: convert::vector_bytes(vector),
    };
    message.encode_to_vec()
}

pub(crate) fn watched(body: &[u8]) -> Result<Watched, WireError> {
    Ok(match v1::WatchResponse::decode(body)?.event {
        Some(Event::Missed(missed)) => {
            let sets: Result<_, ConvertError> = missed
                .change_sets
                .iter()
                .map(|bytes| convert::change_set(bytes))
                .collect();
            Watched::Missed(sets?)
        }
        Some(Event::CaughtUp(caught_up)) => Watched::CaughtUp(convert::vector(&caught_up.vector)?),
        Some(Event::Live(live)) => {
            let tag = convert::tag(&live.origin, live.seq)?;
            Watched::Live(tag, convert::change_set(&live.change_set)?)
        }
        Some(Event::Anew(_)) => Watched::Anew,
        // A sign of life, or a kind that only a newer release knows.
        Some(Event::Held(_)) | None => Watched::Nothing,
    })
}

/// `{"settled": [{"place", "superseded"} | {"place", "error"}], "wait": error, "blocked": error}`.
pub(crate) fn settled_json(settled: &[Settled], next: &Next) -> String {
    let settled: JsonValue = settled
        .iter()
        .map(|one| match one {
            Settled::Confirmed { place, superseded } => json!({ "place": place, "superseded": superseded }),
            Settled::Refused { place, refusal } => json!({ "place": place, "error": refusal_json(refusal) }),
        })
        .collect();
    let mut answer = json!({ "settled": settled });
    match next {
        Next::Go => {}
        Next::Wait(refusal) => answer["wait"] = refusal_json(refusal),
        Next::Blocked(refusal) => answer["blocked"] = refusal_json(refusal),
    }
    answer.to_string()
}

fn refusal_json(refusal: &Refusal) -> JsonValue {
    json!({
        "code": refusal.code.as_str_name(),
        "message": refusal.message,
        "retryAfterMs": refusal.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        "replicas": replicas_json(&refusal.replicas),
    })
}

fn replicas_json(replicas: &[v1::Replica]) -> JsonValue {
    let one = |replica: &v1::Replica| {
        json!({
            "node": replica.node.to_string(),
            "region": replica.region,
            "address": replica.address,
            "serving": replica.serving,
        })
    };
    replicas.iter().map(one).collect()
}
