//! The rules of rooms, each as a sentence.

mod model;
mod world;

use std::time::Duration;

use halcyon_core::clock::{ClientId, DRIFT_MAX_DEFAULT, NTP64, WallTime};

use self::world::{World, tenant};
use super::{
    engine::{Engine, Haste, Saying, Setting},
    limits::{
        AWAY_AFTER, GONE_KEPT_MAX, MESSAGES_KEPT_MAX, PEER_BACK_WITHIN, PEER_SILENT_MAX, PRESENCES_PER_SECOND,
        ROOMS_PER_SESSION_MAX, SENDS_PER_SECOND, STATUS_KEYS_MAX,
    },
    types::{Moment, RoomError, RoomName, SessionId},
};

fn session(number: u8) -> SessionId {
    SessionId([number; 16])
}

fn room(name: &str) -> RoomName {
    RoomName::new(name).unwrap()
}

fn at(millis: u64) -> Moment {
    let now = Duration::from_millis(millis);
    Moment {
        wall: WallTime::from_unix(Duration::from_hours(500_000) + now),
        now,
    }
}

fn engine() -> Engine {
    let mut engine = Engine::new(halcyon_core::id::NodeId(1), "eu", 7, ClientId::from_random(1));
    engine.place(tenant(), &[halcyon_core::id::NodeId(1)].into());
    engine
}

fn saying(payload: &str) -> Saying {
    Saying {
        topic: "t".into(),
        payload: payload.into(),
        timestamp: None,
        to: Vec::new(),
    }
}

fn setting(key: &str) -> Setting {
    Setting {
        key: key.into(),
        value: "1".into(),
        timestamp: None,
    }
}

#[test]
fn a_slow_receiver_is_told_only_the_latest_presence_of_each() {
    let mut engine = engine();
    let doc = room("doc");
    for number in 1..=3 {
        engine.attach(session(number), tenant(), at(0));
        engine
            .enter((session(number), tenant()), &doc, ("u", "0"), at(0))
            .unwrap();
    }
    let (_, update) = engine.take(session(1), Haste::All).unwrap();
    assert!(update.whole);
    assert_eq!(update.users.len(), 2);
    for number in 0..50 {
        engine
            .set_presence(session(2), &doc, &number.to_string(), at(number))
            .unwrap();
    }
    let (_, update) = engine.take(session(1), Haste::All).unwrap();
    let told: Vec<&str> = update.presences.iter().map(|(_, presence, _)| &**presence).collect();
    assert_eq!(told, ["49"]);
    assert_eq!(engine.take(session(1), Haste::All), None);
}

#[test]
fn a_receiver_that_rests_is_told_at_once_of_what_is_not_a_presence() {
    let mut engine = engine();
    let doc = room("doc");
    for number in 1..=2 {
        engine.attach(session(number), tenant(), at(0));
        engine
            .enter((session(number), tenant()), &doc, ("u", "0"), at(0))
            .unwrap();
    }
    engine.take(session(1), Haste::All).unwrap();
    assert_eq!(engine.take(session(1), Haste::Urgent), None);
    engine.wakes();
    engine.set_presence(session(2), &doc, "1", at(1)).unwrap();
    assert_eq!(engine.wakes(), []);
    assert_eq!(engine.take(session(1), Haste::Urgent), None);
    engine
        .send(session(2), &doc, saying("hi"), at(2), DRIFT_MAX_DEFAULT)
        .unwrap();
    assert_eq!(engine.wakes(), [super::engine::Wake::Session(session(1))]);
    let (_, update) = engine.take(session(1), Haste::Urgent).unwrap();
    assert_eq!((update.presences.len(), update.messages.len()), (1, 1));
}

#[test]
fn each_limit_says_which_it_is() {
    let mut engine = engine();
    let doc = room("doc");
    let me = (session(1), tenant());
    assert_eq!(engine.enter(me, &doc, ("", ""), at(0)), Err(RoomError::NoSession));
    engine.attach(session(1), tenant(), at(0));
    let early = engine.set_presence(session(1), &doc, "", at(0));
    assert_eq!(early, Err(RoomError::NotEntered));
    engine.enter(me, &doc, ("", ""), at(0)).unwrap();
    let large = engine.set_presence(session(1), &doc, &"x".repeat(5_000), at(0));
    assert!(matches!(large, Err(RoomError::TooLarge { size: 5_000, .. })));
    for _ in 0..PRESENCES_PER_SECOND {
        engine.set_presence(session(1), &doc, "1", at(0)).unwrap();
    }
    let fast = engine.set_presence(session(1), &doc, "1", at(0));
    assert!(matches!(fast, Err(RoomError::Presences { .. })), "{fast:?}");
    for _ in 0..SENDS_PER_SECOND {
        engine
            .send(session(1), &doc, saying("x"), at(5_000), DRIFT_MAX_DEFAULT)
            .unwrap();
    }
    let fast = engine.send(session(1), &doc, saying("x"), at(5_000), DRIFT_MAX_DEFAULT);
    assert!(matches!(fast, Err(RoomError::Sends { .. })), "{fast:?}");
    for number in 1..ROOMS_PER_SESSION_MAX {
        let at = at(10_000 * number as u64);
        engine.enter(me, &room(&format!("r{number}")), ("", ""), at).unwrap();
    }
    let more = engine.enter(me, &room("more"), ("", ""), at(9_000_000));
    assert_eq!(more, Err(RoomError::Rooms));
    let settings: Vec<_> = (0..STATUS_KEYS_MAX).map(|key| setting(&key.to_string())).collect();
    engine
        .set_status(session(1), &doc, settings, at(9_100_000), DRIFT_MAX_DEFAULT)
        .unwrap();
    let more = engine.set_status(
        session(1),
        &doc,
        vec![setting("more")],
        at(9_200_000),
        DRIFT_MAX_DEFAULT,
    );
    assert_eq!(more, Err(RoomError::StatusKeys));
    let ahead = Setting {
        timestamp: Some(halcyon_core::clock::timestamp(
            NTP64(u64::MAX),
            ClientId::from_random(2),
        )),
        ..setting("1")
    };
    let ahead = engine.set_status(session(1), &doc, vec![ahead], at(9_300_000), DRIFT_MAX_DEFAULT);
    assert!(matches!(ahead, Err(RoomError::Drift(_))), "{ahead:?}");
}

#[test]
fn who_missed_messages_is_told_how_many_and_who_missed_departures_starts_anew() {
    let mut engine = engine();
    let doc = room("doc");
    for number in [1, 2] {
        engine.attach(session(number), tenant(), at(0));
        engine
            .enter((session(number), tenant()), &doc, ("u", "0"), at(0))
            .unwrap();
    }
    engine.take(session(1), Haste::All).unwrap();
    for number in 0..MESSAGES_KEPT_MAX as u64 + 5 {
        let at = at(100 * number);
        engine
            .send(session(2), &doc, saying("x"), at, DRIFT_MAX_DEFAULT)
            .unwrap();
    }
    let (_, update) = engine.take(session(1), Haste::All).unwrap();
    assert_eq!((update.missed, update.messages.len()), (5, MESSAGES_KEPT_MAX));
    for number in 0..=GONE_KEPT_MAX as u64 {
        let at = at(1_000_000 + 1_000 * number);
        engine.leave(session(2), &doc);
        engine.enter((session(2), tenant()), &doc, ("u", "0"), at).unwrap();
    }
    let (_, update) = engine.take(session(1), Haste::All).unwrap();
    assert!(update.whole);
    assert_eq!((update.gone.len(), update.users.len()), (0, 1));
}

#[test]
fn a_message_reaches_everybody_but_its_sender_or_those_it_names() {
    let mut world = World::new(2);
    let in_room: Vec<_> = [(0, 1), (0, 2), (1, 3)]
        .into_iter()
        .map(|(node, number)| world.join(node, number, "doc"))
        .collect();
    world.settle();
    world.send(0, 1, "doc", "all", Vec::new());
    world.send(0, 1, "doc", "one", vec![in_room[2]]);
    world.settle();
    assert_eq!(world.heard(1, "doc"), Vec::<String>::new());
    assert_eq!(world.heard(2, "doc"), ["all"]);
    assert_eq!(world.heard(3, "doc"), ["all", "one"]);
}

#[test]
fn a_node_hears_only_of_rooms_that_its_own_clients_are_in() {
    let mut world = World::new(2);
    world.join(0, 1, "a");
    world.join(1, 2, "b");
    world.settle();
    assert_eq!(world.engine(0).figures().remote, 0);
    assert_eq!(world.engine(1).figures().remote, 0);
    world.join(1, 2, "a");
    world.settle();
    assert_eq!(world.engine(1).figures().remote, 1);
    world.check();
}

#[test]
fn a_dead_node_is_emptied_in_seconds_whether_its_stream_ends_or_falls_silent() {
    for is_told in [true, false] {
        let mut world = World::new(2);
        world.join(0, 1, "doc");
        world.join(1, 2, "doc");
        world.settle();
        assert_eq!(world.engine(0).figures().remote, 1);
        world.crash(1, is_told);
        let patience = if is_told { PEER_BACK_WITHIN } else { PEER_SILENT_MAX };
        world.pass(patience.checked_sub(Duration::from_millis(500)).unwrap());
        assert_eq!(world.engine(0).figures().remote, 1, "{is_told}");
        world.pass(Duration::from_millis(1_500));
        assert_eq!(world.engine(0).figures().remote, 0, "{is_told}");
    }
}

#[test]
fn a_session_without_a_stream_is_not_seen_after_a_while_and_seen_again_when_it_is_back() {
    let mut world = World::new(2);
    world.join(0, 1, "doc");
    world.join(1, 2, "doc");
    world.settle();
    world.detach(1, 2);
    world.pass(AWAY_AFTER + Duration::from_secs(1));
    world.settle();
    assert_eq!(world.engine(0).figures().remote, 0);
    world.attach(1, 2);
    world.settle();
    assert_eq!(world.engine(0).figures().remote, 1);
    world.check();
}

#[test]
fn status_outlives_who_set_it_and_goes_with_the_last_one() {
    let mut world = World::new(2);
    world.join(0, 1, "doc");
    world.join(1, 2, "doc");
    world.settle();
    world.set_status(0, 1, "doc", "mode", "1");
    world.leave(0, 1, "doc");
    world.settle();
    world.join(0, 3, "doc");
    world.settle();
    assert_eq!(world.status(3, "doc"), [("mode".to_owned(), "1".to_owned())]);
    for (node, number) in [(0, 3), (1, 2)] {
        world.leave(node, number, "doc");
    }
    world.settle();
    world.join(0, 4, "doc");
    world.settle();
    assert_eq!(world.status(4, "doc"), []);
    assert_eq!(
        world.engine(1).figures(),
        super::engine::Figures {
            rooms: 0,
            ..world.engine(1).figures()
        }
    );
}

#[test]
fn a_tenant_that_moves_away_takes_its_rooms_along() {
    let mut world = World::new(3);
    for node in 0..3 {
        world.join(node, u8::try_from(node).unwrap() + 1, "doc");
    }
    world.settle();
    world.place(&[0, 1]);
    world.settle();
    assert_eq!(world.engine(2).figures().rooms, 0);
    assert_eq!(world.engine(0).figures().remote, 1);
    world.place(&[0, 1, 2]);
    world.join(2, 3, "doc");
    world.settle();
    world.check();
    assert_eq!(world.engine(0).figures().remote, 2);
}
