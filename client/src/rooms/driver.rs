//! A room over the network: a session's stream in, calls beside it out. It connects anew by itself, to another node where
//! that is needed, and enters again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use halcyon_proto::{
    error::{ErrorCode, Refusal},
    v1::{self, connect_response::Event},
};
use prost::bytes::Bytes;
use thiserror::Error;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tonic::Streaming;

use super::{RoomChanges, RoomUser, RoomView};
use crate::{
    limits::{PRESENCE_PAUSE, QUICK_DEADLINE, ROOM_CHANGES_MAX, WATCH_SILENCE_MAX},
    session::backoff,
    shared::Shared,
    transport::{CallError, within},
};

/// Why a call about a room failed.
#[derive(Debug, Clone, Error)]
pub enum RoomError {
    /// A node refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No node is connected now; what is fire and forget is not kept for later.
    #[error("no node is connected now: {0}")]
    Lost(String),
    /// The client is closed.
    #[error("the client is closed")]
    Closed,
}

impl From<CallError> for RoomError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(refusal) => Self::Refused(refusal),
            CallError::Lost(reason) => Self::Lost(reason),
        }
    }
}

/// A room that is not entered yet.
#[derive(Debug)]
pub struct RoomDoor {
    shared: Arc<Shared>,
    room: String,
}

/// A room that this client is in. Dropped, it leaves.
///
/// ```no_run
/// # async fn example(client: halcyon_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let mut room = client.room("doc-1").enter("ann", r#"{"x":0}"#).await?;
/// room.set_presence(r#"{"x":1}"#);
/// room.set_status(&[("mode", Some("\"review\""))]).await?;
/// room.send("ping", "{}", &[]).await?;
/// while let Some(changes) = room.next().await {
///     println!("{} others, {} messages", room.users().len(), changes.messages.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Room {
    inner: Arc<Inner>,
    changes: mpsc::Receiver<RoomChanges>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    user: String,
    view: Mutex<RoomView>,
    /// What this connection does now.
    presence: watch::Sender<String>,
    /// Where the room is entered.
    place: watch::Sender<Option<Place>>,
    room: Mutex<String>,
}

/// A session that is in the room.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    address: String,
    session: Bytes,
    connection: String,
}

impl RoomDoor {
    pub(crate) fn new(shared: Arc<Shared>, room: &str) -> Self {
        let room = room.to_owned();
        Self { shared, room }
    }

    /// Enters the room; an empty name makes a new one. Returns when it is entered or refused, or when no node was reached
    /// within the client's deadline for reads.
    pub async fn enter(self, user: &str, presence: &str) -> Result<Room, RoomError> {
        let inner = Arc::new(Inner {
            shared: self.shared,
            user: user.to_owned(),
            view: Mutex::default(),
            presence: watch::Sender::new(presence.to_owned()),
            place: watch::Sender::new(None),
            room: Mutex::new(self.room),
        });
        let (tell, changes) = mpsc::channel(ROOM_CHANGES_MAX);
        let (refuse, mut refused) = mpsc::channel(1);
        let tasks = [
            tokio::spawn(listen(inner.clone(), tell, refuse)),
            tokio::spawn(speak(inner.clone())),
        ];
        let (mut place, patience) = (inner.place.subscribe(), inner.shared.read_deadline);
        // Dropped, it leaves: whatever ends the wait.
        let room = Room { inner, changes, tasks };
        tokio::select! {
            biased;
            // Without a word the task ends only with the client.
            refusal = refused.recv() => Err(refusal.unwrap_or(RoomError::Closed)),
            entered = place.wait_for(Option::is_some) => entered.map(|_| room).map_err(|_| RoomError::Closed),
            () = sleep(patience) => Err(RoomError::Lost(format!("none was reached in {patience:?}"))),
        }
    }
}

impl Room {
    /// Its id.
    pub fn id(&self) -> String {
        lock(&self.inner.room).clone()
    }

    /// This connection's name in the room; none while no node is connected.
    pub fn connection(&self) -> Option<String> {
        self.inner.place.borrow().as_ref().map(|place| place.connection.clone())
    }

    /// Whether a node is connected.
    pub fn is_connected(&self) -> bool {
        self.inner.place.borrow().is_some()
    }

    /// The others.
    pub fn users(&self) -> Vec<RoomUser> {
        lock(&self.inner.view).users().cloned().collect()
    }

    /// A field of the room's status, in JSON.
    pub fn status(&self, key: &str) -> Option<String> {
        lock(&self.inner.view).status(key).map(ToOwned::to_owned)
    }

    /// Reads all that is known.
    pub fn read<T>(&self, read: impl FnOnce(&RoomView) -> T) -> T {
        read(&lock(&self.inner.view))
    }

    /// What happens next. A slow reader is told less often, of more at once; None when the client is closed.
    pub async fn next(&mut self) -> Option<RoomChanges> {
        self.changes.recv().await
    }

    /// Says what this connection does. Never waits; of several in a row only the latest is sent.
    pub fn set_presence(&self, presence: &str) {
        self.inner.presence.send_if_modified(|now| {
            let differs = now != presence;
            if differs {
                presence.clone_into(now);
            }
            differs
        });
    }

    /// Sets fields of the room's status, or unsets them. The node stamps them.
    pub async fn set_status(&self, fields: &[(&str, Option<&str>)]) -> Result<(), RoomError> {
        let place = self.place()?;
        let status = fields.iter().map(|(key, value)| v1::RoomStatus {
            key: (*key).to_owned(),
            value: value.unwrap_or_default().to_owned(),
            timestamp: Bytes::new(),
        });
        let message = v1::SetRoomStatusRequest {
            tenant: self.inner.shared.navigator.tenant.clone(),
            session: place.session,
            room: self.id(),
            status: status.collect(),
        };
        let transport = &self.inner.shared.navigator.transport;
        let request = transport.request(message, Some(QUICK_DEADLINE));
        let mut client = transport.rooms(&place.address);
        within(QUICK_DEADLINE, client.set_room_status(request)).await?;
        Ok(())
    }

    /// Tells everybody, or the connections in `to`. Fire and forget: whoever is away does not hear it.
    pub async fn send(&self, topic: &str, payload: &str, to: &[String]) -> Result<(), RoomError> {
        let place = self.place()?;
        let message = v1::SendRoomMessageRequest {
            tenant: self.inner.shared.navigator.tenant.clone(),
            session: place.session,
            room: self.id(),
            message: Some(v1::RoomMessage {
                topic: topic.to_owned(),
                payload: payload.to_owned(),
                ..v1::RoomMessage::default()
            }),
            to: to.to_vec(),
        };
        let transport = &self.inner.shared.navigator.transport;
        let request = transport.request(message, Some(QUICK_DEADLINE));
        let mut client = transport.rooms(&place.address);
        within(QUICK_DEADLINE, client.send_room_message(request)).await?;
        Ok(())
    }

    /// Leaves, and waits for the node's word on it.
    pub async fn leave(self) -> Result<(), RoomError> {
        for task in &self.tasks {
            task.abort();
        }
        leave(&self.inner, self.place()?).await
    }

    fn place(&self) -> Result<Place, RoomError> {
        let place = self.inner.place.borrow().clone();
        place.ok_or_else(|| RoomError::Lost("the connection is being made anew".to_owned()))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        // The session's end would do the same, later.
        let place = self.inner.place.send_replace(None);
        if let (Some(place), Ok(runtime)) = (place, tokio::runtime::Handle::try_current()) {
            let inner = self.inner.clone();
            runtime.spawn(async move { drop(leave(&inner, place).await) });
        }
    }
}

async fn leave(inner: &Inner, place: Place) -> Result<(), RoomError> {
    let message = v1::LeaveRoomRequest {
        tenant: inner.shared.navigator.tenant.clone(),
        session: place.session,
        room: lock(&inner.room).clone(),
    };
    let transport = &inner.shared.navigator.transport;
    let request = transport.request(message, Some(QUICK_DEADLINE));
    within(QUICK_DEADLINE, transport.rooms(&place.address).leave_room(request)).await?;
    Ok(())
}

/// Keeps a stream, and takes in what it says.
async fn listen(inner: Arc<Inner>, tell: mpsc::Sender<RoomChanges>, refuse: mpsc::Sender<RoomError>) {
    let mut session = Bytes::new();
    let mut failures = 0;
    while !inner.shared.is_closed() {
        let Some((route, _)) = inner.shared.navigator.route() else {
            inner.shared.navigator.look.notify_one();
            pause(&inner, &mut failures).await;
            continue;
        };
        let ended = tokio::select! {
            biased;
            () = inner.shared.until_closed() => return,
            ended = follow(&inner, &route.address, &mut session, &tell) => ended,
        };
        if inner.place.send_replace(None).is_some() {
            failures = 0;
        }
        tracing::debug!(address = %route.address, ?ended, "a room's stream ended");
        match ended {
            Err(CallError::Refused(refusal)) => {
                session = Bytes::new();
                if !is_passing(&refusal) {
                    // Nobody may be there to hear it: the room was entered before.
                    let _ = refuse.try_send(refusal.into());
                    return;
                }
                if refusal.code == ErrorCode::WrongRegion {
                    inner.shared.navigator.on_elsewhere(&route.address, refusal.replicas);
                }
            }
            Err(CallError::Lost(_)) => inner.shared.navigator.on_failed(&route.address),
            Ok(()) => {}
        }
        pause(&inner, &mut failures).await;
    }
}

/// Whether the same may do later, or elsewhere.
fn is_passing(refusal: &Refusal) -> bool {
    matches!(
        refusal.code,
        ErrorCode::WrongRegion | ErrorCode::Busy | ErrorCode::Retry | ErrorCode::NotFound | ErrorCode::NoQuorum
    )
}

async fn pause(inner: &Inner, failures: &mut u32) {
    *failures = failures.saturating_add(1);
    sleep(backoff(*failures, inner.shared.env.entropy.next())).await;
}

/// One stream, until it ends.
async fn follow(
    inner: &Inner,
    address: &str,
    session: &mut Bytes,
    tell: &mpsc::Sender<RoomChanges>,
) -> Result<(), CallError> {
    let mut stream = open(inner, address, session.clone()).await?;
    while let Some(answer) = next(&mut stream).await? {
        match answer.event {
            Some(Event::Opened(opened)) => {
                *session = opened.session;
                let place = enter(inner, address, session.clone()).await?;
                inner.place.send_replace(Some(place));
            }
            Some(Event::Room(event)) => {
                let changes = lock(&inner.view).take_in(event);
                if !changes.is_empty() && tell.send(changes).await.is_err() {
                    return Ok(());
                }
            }
            // Of the data, which this stream does not follow.
            Some(Event::Commit(_) | Event::Ended(_) | Event::Held(_)) | None => {}
        }
    }
    Ok(())
}

async fn open(inner: &Inner, address: &str, session: Bytes) -> Result<Streaming<v1::ConnectResponse>, CallError> {
    let navigator = &inner.shared.navigator;
    let message = v1::ConnectRequest {
        tenant: navigator.tenant.clone(),
        session,
        ..v1::ConnectRequest::default()
    };
    let request = navigator.transport.request(message, None);
    within(QUICK_DEADLINE, navigator.transport.sessions(address).connect(request)).await
}

async fn next(stream: &mut Streaming<v1::ConnectResponse>) -> Result<Option<v1::ConnectResponse>, CallError> {
    match timeout(WATCH_SILENCE_MAX, stream.message()).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(CallError::Lost("silence".to_owned())),
    }
}

async fn enter(inner: &Inner, address: &str, session: Bytes) -> Result<Place, CallError> {
    let navigator = &inner.shared.navigator;
    let message = v1::EnterRoomRequest {
        tenant: navigator.tenant.clone(),
        session: session.clone(),
        room: lock(&inner.room).clone(),
        user: inner.user.clone(),
        presence: inner.presence.borrow().clone(),
    };
    let request = navigator.transport.request(message, Some(QUICK_DEADLINE));
    let entered = within(QUICK_DEADLINE, navigator.transport.rooms(address).enter_room(request)).await?;
    navigator.on_worked(address);
    *lock(&inner.room) = entered.room;
    Ok(Place {
        address: address.to_owned(),
        session,
        connection: entered.connection,
    })
}

/// Sends presences: one call at a time, and then the latest.
async fn speak(inner: Arc<Inner>) {
    let mut presence = inner.presence.subscribe();
    let mut place = inner.place.subscribe();
    while presence.changed().await.is_ok() {
        let Ok(entered) = place.wait_for(Option::is_some).await.map(|place| place.clone()) else {
            return;
        };
        let Some(entered) = entered else { continue };
        let message = v1::SetPresenceRequest {
            tenant: inner.shared.navigator.tenant.clone(),
            session: entered.session,
            room: lock(&inner.room).clone(),
            presence: presence.borrow_and_update().clone(),
        };
        let transport = &inner.shared.navigator.transport;
        let request = transport.request(message, Some(QUICK_DEADLINE));
        let mut client = transport.rooms(&entered.address);
        if let Err(error) = within(QUICK_DEADLINE, client.set_presence(request)).await {
            tracing::debug!(%error, "a presence was not taken");
            let wait = match error {
                CallError::Refused(refusal) => refusal.retry_after,
                CallError::Lost(_) => None,
            };
            // It is not known there: the latest goes again, or with the next entering.
            sleep(wait.unwrap_or(PRESENCE_PAUSE)).await;
            presence.mark_changed();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
