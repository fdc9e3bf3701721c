//! Rooms as pages see them: what happened in each, and the bodies of the calls that enter and speak.
//!
//! ```text
//! [{"room", "whole": true, "users": [{"connection", "user", "presence", "region", "seen"}], "gone": ["c1"],
//!   "status": {"mode": "\"review\"", "old": null}, "messages": [{"topic", "payload", "from", "at", "stamp"}], "missed": 0}]
//! ```
//!
//! `users` came or do something else now; what is JSON for the app stays the text that it is.

use halcyon_client::{
    rooms::{RoomMessage, RoomUser, RoomView},
    v1,
};
use halcyon_core::clock::{Timestamp, WallTime, timestamp_to_bytes};
use halcyon_core::collections::BTreeMap;
use prost::{Message, bytes::Bytes};
use serde_json::{Map, Value as JsonValue, json};
use thiserror::Error;

/// Why a room's call cannot be made.
#[derive(Debug, Error)]
pub(crate) enum RoomCallError {
    /// It is not JSON.
    #[error("a call about a room cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// Something is missing, or is not text.
    #[error("a call about a room needs the text {0:?}")]
    Missing(&'static str),
    /// There is no such call.
    #[error("there is no call {0} about rooms")]
    Kind(u32),
}

/// What is known of rooms.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    views: BTreeMap<String, RoomView>,
    news: Vec<JsonValue>,
}

impl Rooms {
    pub(crate) fn on_event(&mut self, event: v1::RoomEvent) {
        let room = event.room.clone();
        let view = self.views.entry(room.clone()).or_default();
        let changes = view.take_in(event);
        if changes.is_empty() {
            return;
        }
        let named = changes.came.iter().chain(&changes.moved);
        let users: JsonValue = named.filter_map(|name| view.user(name)).map(user_json).collect();
        let gone: JsonValue = changes.gone.iter().map(|user| user.connection.as_str()).collect();
        let status = changes.status.into_iter().map(|key| {
            let value = view.status(&key).map_or(JsonValue::Null, JsonValue::from);
            (key, value)
        });
        let status: Map<String, JsonValue> = status.collect();
        let messages: JsonValue = changes.messages.iter().map(message_json).collect();
        self.news.push(json!({
            "room": room,
            "whole": changes.whole,
            "users": users,
            "gone": gone,
            "status": status,
            "messages": messages,
            "missed": changes.missed,
        }));
    }

    /// The client has left the room.
    pub(crate) fn forget(&mut self, room: &str) {
        self.views.remove(room);
    }

    pub(crate) fn take_news(&mut self) -> String {
        JsonValue::from(std::mem::take(&mut self.news)).to_string()
    }
}

/// The body of a call: 0 `EnterRoom`, 1 `LeaveRoom`, 2 `SetPresence`, 3 `SetRoomStatus`, 4 `SendRoomMessage`.
pub(crate) fn call(kind: u32, tenant: &str, session: &[u8], text: &str) -> Result<Vec<u8>, RoomCallError> {
    let json: JsonValue = serde_json::from_str(text)?;
    let field = |name: &'static str| {
        let text = json.get(name).and_then(JsonValue::as_str);
        text.map(ToOwned::to_owned).ok_or(RoomCallError::Missing(name))
    };
    let (tenant, session, room) = (tenant.to_owned(), Bytes::copy_from_slice(session), field("room")?);
    Ok(match kind {
        0 => v1::EnterRoomRequest {
            tenant,
            session,
            room,
            user: field("user")?,
            presence: field("presence")?,
        }
        .encode_to_vec(),
        1 => v1::LeaveRoomRequest { tenant, session, room }.encode_to_vec(),
        2 => v1::SetPresenceRequest {
            tenant,
            session,
            room,
            presence: field("presence")?,
        }
        .encode_to_vec(),
        3 => v1::SetRoomStatusRequest {
            tenant,
            session,
            room,
            status: status(json.get("status")),
        }
        .encode_to_vec(),
        4 => v1::SendRoomMessageRequest {
            tenant,
            session,
            room,
            message: Some(v1::RoomMessage {
                topic: field("topic")?,
                payload: field("payload")?,
                ..v1::RoomMessage::default()
            }),
            to: texts(json.get("to")),
        }
        .encode_to_vec(),
        kind => return Err(RoomCallError::Kind(kind)),
    })
}

fn status(fields: Option<&JsonValue>) -> Vec<v1::RoomStatus> {
    let fields = fields.and_then(JsonValue::as_object).into_iter().flatten();
    let fields = fields.map(|(key, value)| v1::RoomStatus {
        key: key.clone(),
        value: value.as_str().unwrap_or_default().to_owned(),
        timestamp: Bytes::new(),
    });
    fields.collect()
}

fn texts(list: Option<&JsonValue>) -> Vec<String> {
    let list = list.and_then(JsonValue::as_array).into_iter().flatten();
    list.filter_map(JsonValue::as_str).map(ToOwned::to_owned).collect()
}

fn user_json(user: &RoomUser) -> JsonValue {
    json!({
        "connection": user.connection,
        "user": user.user,
        "presence": user.presence,
        "region": user.region,
        "seen": user.last_seen.unix_millis(),
    })
}

fn message_json(message: &RoomMessage) -> JsonValue {
    json!({
        "topic": message.topic,
        "payload": message.payload,
        "from": message.from,
        "at": message.timestamp.as_ref().map(|stamp| WallTime(*stamp.get_time()).unix_millis()),
        "stamp": message.timestamp.as_ref().map_or_else(String::new, stamp_text),
    })
}

/// Texts that sort like the timestamps.
fn stamp_text(timestamp: &Timestamp) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0');
    let bytes = timestamp_to_bytes(timestamp);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}
