//! Sessions go on where they were, belong to one key, end when they are slow, and say so.

use std::sync::atomic::{AtomicUsize, Ordering};

use halcyon_proto::v1;

use super::{
    limits::{END_LISTENERS_MAX, WAITING_BYTES_MAX, WAITING_EVENTS_MAX},
    *,
};

fn owner(key: u8) -> Owner {
    Owner {
        tenant: TenantId::generate(|count| vec![1; count]),
        key: [key; 32],
    }
}

fn sessions() -> (tempfile::TempDir, Sessions) {
    let directory = tempfile::tempdir().unwrap();
    let env = crate::env::system(directory.path()).unwrap();
    let sessions = Sessions::new(&env);
    (directory, sessions)
}

fn event(number: u8, bytes: usize) -> Event {
    Event::Commit(v1::Commit {
        vector: vec![number; bytes].into(),
        deltas: Vec::new(),
    })
}

#[tokio::test]
async fn a_session_goes_on_behind_the_last_event_that_arrived() {
    let (_directory, sessions) = sessions();
    let mut first = sessions.connect(owner(1), None, None).unwrap();
    assert!(!first.resumed);
    let id = first.session.id();
    for number in 1..=3 {
        sessions.send(id, event(number, 8)).unwrap();
    }
    assert_eq!(first.events.next().await, Next::Event(1, event(1, 8).into()));
    assert_eq!(first.events.next().await, Next::Event(2, event(2, 8).into()));
    drop(first);
    sessions.send(id, event(4, 8)).unwrap();
    let mut again = sessions.connect(owner(1), None, Some((id, 1))).unwrap();
    assert!(again.resumed);
    for number in 2..=4 {
        let expected = Next::Event(number.into(), event(number, 8).into());
        assert_eq!(again.events.next().await, expected);
    }
    // Event 1 is gone: what lacks it opens another session.
    let other = sessions.connect(owner(1), None, Some((id, 0))).unwrap();
    assert!(!other.resumed && other.session.id() != id);
    assert_eq!(sessions.send(id, event(5, 8)), Err(Gone));
    assert_eq!(again.events.next().await, Next::Over(End::Lost));
}

#[tokio::test]
async fn a_second_stream_takes_the_session_over() {
    let (_directory, sessions) = sessions();
    let mut first = sessions.connect(owner(1), None, None).unwrap();
    let id = first.session.id();
    let mut second = sessions.connect(owner(1), None, Some((id, 0))).unwrap();
    assert_eq!(first.events.next().await, Next::Replaced);
    drop(first);
    sessions.send(id, event(1, 8)).unwrap();
    assert_eq!(second.events.next().await, Next::Event(1, event(1, 8).into()));
    assert_eq!(sessions.figures().connected, 1);
}

#[tokio::test]
async fn a_session_belongs_to_its_key_and_tenant() {
    let (_directory, sessions) = sessions();
    let id = sessions.connect(owner(1), None, None).unwrap().session.id();
    assert_eq!(sessions.require(id, owner(2)).unwrap_err(), SessionError::NotYours);
    let stolen = sessions.connect(owner(2), None, Some((id, 0)));
    assert_eq!(stolen.unwrap_err(), SessionError::NotYours);
    assert!(sessions.require(id, owner(1)).is_ok());
}

#[tokio::test]
async fn a_slow_session_ends_and_those_who_asked_are_told() {
    static TOLD: AtomicUsize = AtomicUsize::new(0);
    let (_directory, sessions) = sessions();
    let mut slow = sessions.connect(owner(1), None, None).unwrap();
    let id = slow.session.id();
    let told = || {
        TOLD.fetch_add(1, Ordering::SeqCst);
    };
    sessions.on_end(id, Box::new(told)).unwrap();
    let sent = (0..=WAITING_EVENTS_MAX)
        .take_while(|_| sessions.send(id, event(1, WAITING_BYTES_MAX / 64)).is_ok())
        .count();
    assert!((32..64).contains(&sent), "{sent} were taken");
    assert_eq!(TOLD.load(Ordering::SeqCst), 1);
    assert_eq!(slow.events.next().await, Next::Over(End::Slow));
    sessions.sweep();
    assert_eq!(sessions.figures(), SessionFigures::default());
    let again = sessions.connect(owner(1), None, Some((id, 0))).unwrap();
    assert!(!again.resumed);
}

#[tokio::test]
async fn one_too_many_who_asks_to_be_told_is_not_told_that_the_session_is_over() {
    let (_directory, sessions) = sessions();
    let connected = sessions.connect(owner(1), None, None).unwrap();
    let id = connected.session.id();
    for _ in 0..END_LISTENERS_MAX {
        sessions.on_end(id, Box::new(|| {})).unwrap();
    }
    let refused = sessions.on_end(id, Box::new(|| {}));
    assert_eq!(refused, Err(OnEndError::TooMany(END_LISTENERS_MAX)));
    sessions.end(id, End::NotServed);
    assert_eq!(sessions.on_end(id, Box::new(|| {})), Err(OnEndError::Gone(Gone)));
}

#[tokio::test(start_paused = true)]
async fn a_session_without_a_stream_hears_nothing_and_one_with_a_stream_beats() {
    let (_directory, sessions) = sessions();
    let mut connected = sessions.connect(owner(1), None, None).unwrap();
    assert_eq!(connected.events.next().await, Next::Beat(0));
    let id = connected.session.id();
    drop(connected);
    // The grace has not passed.
    sessions.sweep();
    assert!(sessions.get(id).is_some());
    sessions.get(id).unwrap().state().left_at = Duration::ZERO;
    sessions.end(id, End::Lost);
    assert_eq!(sessions.send(id, event(1, 8)), Err(Gone));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_waits_hears_at_once_that_its_session_is_over() {
    let (_directory, sessions) = sessions();
    let mut connected = sessions.connect(owner(1), None, None).unwrap();
    let id = connected.session.id();
    let waiting = tokio::spawn(async move { connected.events.next().await });
    tokio::task::yield_now().await;
    sessions.end(id, End::NotServed);
    let next = tokio::time::timeout(limits::HEARTBEAT / 2, waiting).await;
    assert_eq!(next.unwrap().unwrap(), Next::Over(End::NotServed));
}

/// Time that passes when it is told to.
struct Hands(std::sync::atomic::AtomicU64);

impl halcyon_core::env::WallClock for Hands {
    fn wall(&self) -> halcyon_core::clock::WallTime {
        halcyon_core::clock::WallTime::from_unix(self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

#[tokio::test]
async fn a_session_goes_on_within_its_grace_and_is_over_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let hands = Arc::new(Hands(1_000.into()));
    let env = Env {
        clock: hands.clone(),
        ..crate::env::system(directory.path()).unwrap()
    };
    let sessions = Sessions::new(&env);
    let pass = |time: Duration| {
        hands.0.fetch_add(time.as_secs(), Ordering::SeqCst);
        sessions.sweep();
    };
    let first = sessions.connect(owner(1), None, None).unwrap();
    let id = first.session.id();
    // As long as it has a stream no grace passes.
    pass(GRACE * 3);
    drop(first);
    pass(GRACE / 2);
    sessions.send(id, event(1, 8)).unwrap();
    let mut again = sessions.connect(owner(1), None, Some((id, 0))).unwrap();
    assert!(again.resumed);
    assert_eq!(again.events.next().await, Next::Event(1, event(1, 8).into()));
    let (told, ended) = tokio::sync::oneshot::channel::<()>();
    sessions.on_end(id, Box::new(move || drop(told))).unwrap();
    drop(again);
    pass(GRACE);
    ended.await.unwrap_err();
    assert_eq!(sessions.send(id, event(2, 8)), Err(Gone));
    assert_eq!(sessions.figures(), SessionFigures::default());
    let other = sessions.connect(owner(1), None, Some((id, 1))).unwrap();
    assert!(!other.resumed && other.session.id() != id);
}
