//! Rooms as messages, both ways. What comes from a peer is checked here, once.

use std::sync::Arc;

use halcyon_core::{
    clock::{NTP64, TIMESTAMP_BYTES, Timestamp, WallTime, read_timestamp, timestamp_to_bytes},
    codec::{DecodeError, Reader},
    id::TenantId,
};
use halcyon_proto::v1;
use thiserror::Error;

use super::{
    limits::{
        MESSAGE_PAYLOAD_BYTES_MAX, NEWS_MAX, PRESENCE_BYTES_MAX, RECIPIENTS_MAX, STATUS_BYTES_MAX,
        STATUS_KEY_BYTES_MAX, TOPIC_BYTES_MAX, USER_BYTES_MAX,
    },
    types::{Interest, Message, News, RoomError, RoomKey, RoomName, Status, Telling, Update, User, check_size},
};

/// Why a message was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WireError {
    /// See there.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// See there.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// An event for a client.
pub(super) fn event(room: &RoomName, update: Update) -> v1::RoomEvent {
    v1::RoomEvent {
        room: room.as_str().to_owned(),
        whole: update.whole,
        users: update
            .users
            .into_iter()
            .map(|(id, user)| user_message(id, &user))
            .collect(),
        presences: update.presences.into_iter().map(presence_message).collect(),
        gone: update.gone.iter().map(ToString::to_string).collect(),
        status: update.status.into_iter().map(status_message).collect(),
        messages: update.messages.iter().map(|message| message_message(message)).collect(),
        missed: update.missed,
    }
}

/// A message for a peer.
pub(super) fn request(number: u64, telling: Telling) -> v1::RoomsRequest {
    v1::RoomsRequest {
        number,
        whole: telling.whole,
        rooms: telling.news.into_iter().map(news_message).collect(),
    }
}

/// A message from a peer.
pub(super) fn telling(request: v1::RoomsRequest) -> Result<Telling, WireError> {
    check_size("the news of rooms in one message are", request.rooms.len(), NEWS_MAX)?;
    let news: Result<_, _> = request.rooms.into_iter().map(news).collect();
    Ok(Telling {
        whole: request.whole,
        news: news?,
    })
}

/// A timestamp; none where there are no bytes.
pub fn timestamp(bytes: &[u8]) -> Result<Option<Timestamp>, DecodeError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.len() != TIMESTAMP_BYTES {
        return Err(DecodeError::invalid("timestamp", "it has 24 bytes"));
    }
    read_timestamp(&mut Reader::new(bytes)).map(Some)
}

fn user_message(id: super::ConnectionId, user: &User) -> v1::RoomUser {
    v1::RoomUser {
        connection: id.to_string(),
        user: user.user.to_string(),
        presence: user.presence.to_string(),
        region: user.region.to_string(),
        last_seen: user.last_seen.0.0,
    }
}

fn presence_message((id, presence, seen): (super::ConnectionId, Arc<str>, WallTime)) -> v1::RoomPresence {
    v1::RoomPresence {
        connection: id.to_string(),
        presence: presence.to_string(),
        last_seen: seen.0.0,
    }
}

fn status_message((key, status): (Arc<str>, Status)) -> v1::RoomStatus {
    v1::RoomStatus {
        key: key.to_string(),
        value: status.value.to_string(),
        timestamp: timestamp_to_bytes(&status.timestamp).to_vec().into(),
    }
}

fn message_message(message: &Message) -> v1::RoomMessage {
    v1::RoomMessage {
        topic: message.topic.to_string(),
        payload: message.payload.to_string(),
        from: message.from.to_string(),
        timestamp: timestamp_to_bytes(&message.timestamp).to_vec().into(),
    }
}

fn news_message(news: News) -> v1::RoomNews {
    let interest = match news.interest {
        None => v1::RoomInterest::Unspecified,
        Some(Interest::Entered) => v1::RoomInterest::Entered,
        Some(Interest::Left) => v1::RoomInterest::Left,
    };
    let recipients = news.update.messages.iter().map(|message| v1::RoomRecipients {
        connections: message.to.iter().map(ToString::to_string).collect(),
    });
    v1::RoomNews {
        tenant: news.key.tenant.to_bytes().to_vec().into(),
        interest: interest.into(),
        recipients: recipients.collect(),
        event: Some(event(&news.key.room, news.update)),
    }
}

fn news(message: v1::RoomNews) -> Result<News, WireError> {
    let interest = match message.interest() {
        v1::RoomInterest::Unspecified => None,
        v1::RoomInterest::Entered => Some(Interest::Entered),
        v1::RoomInterest::Left => Some(Interest::Left),
    };
    let bytes: [u8; 16] = message.tenant.as_ref().try_into().map_err(|_| bad("a tenant id"))?;
    let event = message.event.ok_or(bad("a room's event"))?;
    let key = RoomKey {
        tenant: TenantId::from_bytes(bytes)?,
        room: RoomName::new(&event.room)?,
    };
    let update = update(event, message.recipients)?;
    Ok(News { key, interest, update })
}

fn update(event: v1::RoomEvent, recipients: Vec<v1::RoomRecipients>) -> Result<Update, WireError> {
    let mut recipients = recipients.into_iter();
    let messages = event.messages.into_iter().map(|message| {
        let to = recipients.next().unwrap_or_default().connections;
        said(message, &to).map(Arc::new)
    });
    let messages: Result<_, _> = messages.collect();
    let users: Result<_, _> = event.users.into_iter().map(user).collect();
    let presences: Result<_, _> = event.presences.into_iter().map(presence).collect();
    let gone: Result<_, _> = event.gone.iter().map(|id| id.parse()).collect();
    let status: Result<_, _> = event.status.into_iter().map(status).collect();
    Ok(Update {
        whole: event.whole,
        users: users?,
        presences: presences?,
        gone: gone?,
        status: status?,
        messages: messages?,
        missed: event.missed,
    })
}

fn user(message: v1::RoomUser) -> Result<(super::ConnectionId, User), WireError> {
    check_size("the bytes of a user are", message.user.len(), USER_BYTES_MAX)?;
    check_size(
        "the bytes of a presence are",
        message.presence.len(),
        PRESENCE_BYTES_MAX,
    )?;
    check_size("the bytes of a region are", message.region.len(), USER_BYTES_MAX)?;
    let user = User {
        user: message.user.into(),
        presence: message.presence.into(),
        region: message.region.into(),
        last_seen: WallTime(NTP64(message.last_seen)),
    };
    Ok((message.connection.parse()?, user))
}

fn presence(message: v1::RoomPresence) -> Result<(super::ConnectionId, Arc<str>, WallTime), WireError> {
    check_size(
        "the bytes of a presence are",
        message.presence.len(),
        PRESENCE_BYTES_MAX,
    )?;
    let seen = WallTime(NTP64(message.last_seen));
    Ok((message.connection.parse()?, message.presence.into(), seen))
}

fn status(message: v1::RoomStatus) -> Result<(Arc<str>, Status), WireError> {
    check_size(
        "the bytes of a status field's name are",
        message.key.len(),
        STATUS_KEY_BYTES_MAX,
    )?;
    check_size("the bytes of a status field are", message.value.len(), STATUS_BYTES_MAX)?;
    let status = Status {
        value: message.value.into(),
        timestamp: timestamp(&message.timestamp)?.ok_or(bad("timestamp"))?,
    };
    Ok((message.key.into(), status))
}

fn said(message: v1::RoomMessage, to: &[String]) -> Result<Message, WireError> {
    check_size("the bytes of a topic are", message.topic.len(), TOPIC_BYTES_MAX)?;
    check_size(
        "the bytes of a message are",
        message.payload.len(),
        MESSAGE_PAYLOAD_BYTES_MAX,
    )?;
    check_size("the recipients of a message are", to.len(), RECIPIENTS_MAX)?;
    let to: Result<_, RoomError> = to.iter().map(|id| id.parse()).collect();
    Ok(Message {
        topic: message.topic.into(),
        payload: message.payload.into(),
        from: message.from.parse()?,
        timestamp: timestamp(&message.timestamp)?.ok_or(bad("timestamp"))?,
        to: to?,
    })
}

const fn bad(field: &'static str) -> DecodeError {
    DecodeError::invalid(field, "missing or of another length")
}
