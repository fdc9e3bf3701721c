//! Bodies of calls, and what their answers say. Frames, headers and time belong to whoever makes the calls.

use std::time::Duration;

use halcyon_client::engine::{Field, Next, NodeClock, Place};
use halcyon_core::{
    clock::{DRIFT_MAX_DEFAULT, NTP64, WallTime},
    version_vector::VersionVector,
};
use halcyon_proto::{
    convert::{self, ConvertError, Taken},
    error::Refusal,
    v1, version,
};
use prost::{Message, bytes::Bytes};
use serde_json::{Value as JsonValue, json};
use thiserror::Error;

/// Why an answer is of no use.
#[derive(Debug, Error)]
pub enum WireError {
    /// It is not the message that it should be.
    #[error("a node's answer is not a message of ours: {0}")]
    Message(#[from] prost::DecodeError),
    /// Something in it cannot be what it should be.
    #[error("a node's answer cannot be understood: {0}")]
    Convert(#[from] ConvertError),
}

/// The results of a push: for each set what became of it, if that can be understood.
type Results = Vec<Option<Result<Taken, Refusal>>>;

/// The body of `Hello`.
pub(crate) fn hello() -> Vec<u8> {
    let message = v1::HelloRequest {
        versions: Some(version::WIRE),
        agent: concat!("halcyon-web/", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    message.encode_to_vec()
}

/// What `Hello` answered: `{"node": "1", "region": "eu-west", "agent": …, "wall": "…", "driftMaxMs": "60000"}`. `wall` is
/// the node's clock, 64-bit NTP time; "0" where it did not say. What may be above 2^53 is text: JavaScript would round it.
pub(crate) fn hello_json(body: &[u8]) -> Result<JsonValue, WireError> {
    let answer = v1::HelloResponse::decode(body)?;
    let clock = node_clock(answer.wall, answer.drift_max_ms);
    Ok(json!({
        "node": answer.node.to_string(),
        "region": answer.region,
        "agent": answer.agent,
        "wall": answer.wall.to_string(),
        "driftMaxMs": clock.map_or(0, |clock| millis(clock.drift_max)).to_string(),
    }))
}

/// What a node said of its clock, if it said anything.
pub(crate) fn node_clock(wall: u64, drift_max_millis: Option<u64>) -> Option<NodeClock> {
    (wall != 0).then(|| NodeClock {
        wall: WallTime(NTP64(wall)),
        drift_max: drift_max_millis.map_or(DRIFT_MAX_DEFAULT, Duration::from_millis),
    })
}

/// The body of `Locate`.
pub(crate) fn locate(tenant: &str) -> Vec<u8> {
    let tenant = tenant.to_owned();
    v1::LocateRequest { tenant }.encode_to_vec()
}

/// An `Error` in a status' details: `{"code", "message", "retryAfterMs"}`; null where there is none.
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

/// What a push answered, and what a second replica is known to hold.
pub(crate) fn pushed(body: &[u8]) -> Result<(Results, VersionVector), WireError> {
    let answer = v1::PushResponse::decode(body)?;
    let one = |result: v1::PushResult| match result.result? {
        v1::push_result::Result::Taken(taken) => Taken::try_from(taken).ok().map(Ok),
        v1::push_result::Result::Refused(error) => Some(Err(error.into())),
    };
    let results = answer.results.into_iter().map(one).collect();
    Ok((results, convert::vector(&answer.held).unwrap_or_default()))
}

/// `{"place", "superseded": [{"id", "field"}]}`: what of a set had lost; without a field, all of the entity.
pub(crate) fn taken_json(place: Place, superseded: &[Field]) -> JsonValue {
    let one = |field: &Field| {
        let predicate = field.predicate.as_ref().map(halcyon_core::id::Predicate::as_str);
        json!({ "id": field.subject.as_str(), "field": predicate })
    };
    let superseded: JsonValue = superseded.iter().map(one).collect();
    json!({ "place": place.number(), "superseded": superseded })
}

/// `{"do": "go" | "wait" | "leave" | "move" | "blocked", "ms", "error"}`.
pub(crate) fn next_json(next: &Next) -> JsonValue {
    match next {
        Next::Go => json!({ "do": "go", "ms": 0 }),
        Next::Wait(wait) => json!({ "do": "wait", "ms": millis(*wait) }),
        Next::Leave(wait) => json!({ "do": "leave", "ms": millis(*wait) }),
        // Where to go is asked anew.
        Next::Move(_, wait) => json!({ "do": "move", "ms": millis(*wait) }),
        Next::Blocked(refusal, wait) => {
            json!({ "do": "blocked", "ms": millis(*wait), "error": refusal_json(refusal) })
        }
    }
}

pub(crate) fn refusal_json(refusal: &Refusal) -> JsonValue {
    json!({
        "code": refusal.code.as_str_name(),
        "message": refusal.message,
        "retryAfterMs": refusal.retry_after.map(millis),
    })
}

/// `[{"node", "region", "address", "serving"}]`.
pub(crate) fn replicas_json(replicas: &[v1::Replica]) -> JsonValue {
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

/// What `EnterRoom` answered: this connection's name in the room.
pub(crate) fn entered(body: &[u8]) -> Result<String, WireError> {
    Ok(v1::EnterRoomResponse::decode(body)?.connection)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
