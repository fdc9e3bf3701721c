//! What a client knows of a room it is in: events go in, and what they mean for the app comes out. Pure: no I/O, no
//! clock, so that every host shares it.

use halcyon_core::collections::BTreeMap;
use halcyon_core::{
    clock::{NTP64, Timestamp, WallTime, read_timestamp},
    codec::Reader,
};
use halcyon_proto::v1;

/// Somebody else in the room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomUser {
    /// Names the connection, for as long as it lasts.
    pub connection: String,
    /// As the app names its user; may be empty.
    pub user: String,
    /// JSON.
    pub presence: String,
    /// Where its node is.
    pub region: String,
    /// When it last did something.
    pub last_seen: WallTime,
}

/// Something that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomMessage {
    /// About what.
    pub topic: String,
    /// JSON.
    pub payload: String,
    /// The connection that said it.
    pub from: String,
    /// When. None where a node sent none that can be read.
    pub timestamp: Option<Timestamp>,
}

/// What one event changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoomChanges {
    /// Everything was told anew, after entering or after a gap. The lists below say what differs from before.
    pub whole: bool,
    /// Connections that came.
    pub came: Vec<String>,
    /// Connections that do something else now.
    pub moved: Vec<String>,
    /// Who went, as they were last.
    pub gone: Vec<RoomUser>,
    /// Status fields that are other than before, or unset.
    pub status: Vec<String>,
    /// What was said, in the order of its arrival; see [`super::InOrder`].
    pub messages: Vec<RoomMessage>,
    /// Messages that were dropped because this client was too slow.
    pub missed: u64,
}

impl RoomChanges {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A room as this client knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoomView {
    users: BTreeMap<String, RoomUser>,
    status: BTreeMap<String, Field>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    value: String,
    timestamp: Option<Timestamp>,
}

impl RoomView {
    /// The others in the room, by connection.
    pub fn users(&self) -> impl Iterator<Item = &RoomUser> {
        self.users.values()
    }

    /// One of the others.
    pub fn user(&self, connection: &str) -> Option<&RoomUser> {
        self.users.get(connection)
    }

    /// A field of the room's status, in JSON. None where it is not set.
    pub fn status(&self, key: &str) -> Option<&str> {
        let field = self.status.get(key)?;
        (!field.value.is_empty()).then_some(field.value.as_str())
    }

    /// All fields that are set.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields = self
            .status
            .iter()
            .map(|(key, field)| (key.as_str(), field.value.as_str()));
        fields.filter(|(_, value)| !value.is_empty())
    }

    /// Takes an event in.
    pub fn take_in(&mut self, event: v1::RoomEvent) -> RoomChanges {
        let mut changes = RoomChanges {
            whole: event.whole,
            missed: event.missed,
            ..RoomChanges::default()
        };
        let before = if event.whole {
            std::mem::take(self)
        } else {
            Self::default()
        };
        // Who came back in the same event is in both lists.
        for connection in event.gone {
            changes.gone.extend(self.users.remove(&connection));
        }
        for user in event.users {
            self.on_user(user, &before, &mut changes);
        }
        for presence in event.presences {
            let Some(user) = self.users.get_mut(&presence.connection) else {
                continue;
            };
            user.presence = presence.presence;
            user.last_seen = WallTime(NTP64(presence.last_seen));
            changes.moved.push(presence.connection);
        }
        for field in event.status {
            self.on_status(field, &before, &mut changes);
        }
        let went = before
            .users
            .into_values()
            .filter(|user| !self.users.contains_key(&user.connection));
        changes.gone.extend(went);
        let unset = before.status.into_keys().filter(|key| !self.status.contains_key(key));
        changes.status.extend(unset);
        changes.messages = event.messages.into_iter().map(message).collect();
        changes
    }

    fn on_user(&mut self, user: v1::RoomUser, before: &Self, changes: &mut RoomChanges) {
        let user = RoomUser {
            connection: user.connection,
            user: user.user,
            presence: user.presence,
            region: user.region,
            last_seen: WallTime(NTP64(user.last_seen)),
        };
        match before.users.get(&user.connection).or(self.users.get(&user.connection)) {
            None => changes.came.push(user.connection.clone()),
            Some(known) if *known != user => changes.moved.push(user.connection.clone()),
            Some(_) => {}
        }
        self.users.insert(user.connection.clone(), user);
    }

    fn on_status(&mut self, status: v1::RoomStatus, before: &Self, changes: &mut RoomChanges) {
        let field = Field {
            value: status.value,
            timestamp: stamp(&status.timestamp),
        };
        let known = self.status.get(&status.key);
        // The node is right by itself; this keeps an old event from undoing what a newer one said.
        if known.is_some_and(|known| (known.timestamp, &known.value) >= (field.timestamp, &field.value)) {
            return;
        }
        if before.status.get(&status.key).or(known) != Some(&field) {
            changes.status.push(status.key.clone());
        }
        self.status.insert(status.key, field);
    }
}

fn message(message: v1::RoomMessage) -> RoomMessage {
    RoomMessage {
        topic: message.topic,
        payload: message.payload,
        from: message.from,
        timestamp: stamp(&message.timestamp),
    }
}

fn stamp(bytes: &[u8]) -> Option<Timestamp> {
    read_timestamp(&mut Reader::new(bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(connection: &str, presence: &str) -> v1::RoomUser {
        v1::RoomUser {
            connection: connection.to_owned(),
            presence: presence.to_owned(),
            ..v1::RoomUser::default()
        }
    }

    fn whole(users: &[(&str, &str)]) -> v1::RoomEvent {
        v1::RoomEvent {
            whole: true,
            users: users
                .iter()
                .map(|(connection, presence)| user(connection, presence))
                .collect(),
            ..v1::RoomEvent::default()
        }
    }

    #[test]
    fn what_is_told_anew_shows_only_what_differs() {
        let mut view = RoomView::default();
        let first = view.take_in(whole(&[("a", "1"), ("b", "1")]));
        assert_eq!(first.came, ["a", "b"]);
        let again = view.take_in(whole(&[("b", "2"), ("c", "1")]));
        assert_eq!((again.came, again.moved), (vec!["c".to_owned()], vec!["b".to_owned()]));
        assert_eq!(again.gone.len(), 1);
        assert_eq!(again.gone[0].connection, "a");
        assert_eq!(view.users().count(), 2);
    }

    #[test]
    fn who_went_and_came_back_in_one_event_is_here() {
        let mut view = RoomView::default();
        view.take_in(whole(&[("a", "1")]));
        view.take_in(v1::RoomEvent {
            gone: vec!["a".to_owned()],
            users: vec![user("a", "2")],
            ..v1::RoomEvent::default()
        });
        assert_eq!(view.user("a").map(|user| user.presence.as_str()), Some("2"));
    }

    #[test]
    fn an_unset_field_is_not_there() {
        let mut view = RoomView::default();
        let set = |value: &str, time: u8| v1::RoomEvent {
            status: vec![v1::RoomStatus {
                key: "mode".to_owned(),
                value: value.to_owned(),
                timestamp: [[0; 7].as_slice(), &[time], &[1; 16]].concat().into(),
            }],
            ..v1::RoomEvent::default()
        };
        assert_eq!(view.take_in(set("1", 1)).status, ["mode"]);
        assert_eq!(view.status("mode"), Some("1"));
        assert_eq!(view.take_in(set("", 3)).status, ["mode"]);
        assert_eq!(view.status("mode"), None);
        assert_eq!(view.take_in(set("2", 2)).status, Vec::<String>::new(), "it is older");
    }
}
