//! The Sessions service: one stream to each client, and what it follows.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt};
use halcyon_core::{
    clock::ClientId,
    coverage::{BUCKETS, Digest, ENTITIES_MAX, FINGERPRINT_BYTES},
    fingerprint::Fingerprint,
    id::EntityId,
};
use halcyon_proto::{
    convert,
    error::{ErrorCode, Refusal},
    v1::{self, connect_response::Event, sessions_server},
};
use tonic::{Request, Response, Status};

use super::{rooms::Rooms, status::refusal, sync::held_message};
use crate::{
    live::{self, Ask},
    metadata::state::Tenant,
    rooms::RoomEvents,
    session::{
        Connected, End, Events, Next, Owner, Seldom, Session, SessionId,
        limits::{GRACE, HEARTBEAT},
    },
};

/// See there.
#[derive(Debug)]
pub(super) struct SessionsService {
    rooms: Rooms,
}

impl SessionsService {
    pub(super) const fn new(rooms: Rooms) -> Self {
        Self { rooms }
    }
}

type Connection = Pin<Box<dyn Stream<Item = Result<v1::ConnectResponse, Status>> + Send>>;

#[tonic::async_trait]
impl sessions_server::Sessions for SessionsService {
    type ConnectStream = Connection;

    async fn connect(&self, request: Request<v1::ConnectRequest>) -> Result<Response<Connection>, Status> {
        let message = request.get_ref();
        let (_, owner) = self.rooms.enter(request.metadata(), &message.tenant).await?;
        let asked = match &*message.session {
            [] => None,
            bytes => Some((session_id(bytes)?, message.after)),
        };
        let client = match &*message.client {
            [] => None,
            bytes => Some(client_id(bytes)?),
        };
        let connected = self.rooms.sessions.connect(owner, client, asked).map_err(refusal)?;
        Ok(Response::new(Opened::new(self.rooms.clone(), connected).boxed()))
    }

    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<v1::SubscribeResponse>, Status> {
        let message = request.get_ref();
        let (tenant, owner) = self.rooms.enter(request.metadata(), &message.tenant).await?;
        let session = self.rooms.session(owner, &message.session)?;
        let ask = ask(session, message)?;
        let subscribed = self.rooms.live.subscribe(ask).await;
        let subscribed = subscribed.map_err(|error| self.rooms.subscribe_refusal(&tenant, error))?;
        Ok(Response::new(v1::SubscribeResponse {
            differing: subscribed.differing.into_iter().map(u32::from).collect(),
            buckets: u32::try_from(BUCKETS).unwrap_or(u32::MAX),
        }))
    }

    async fn unsubscribe(
        &self,
        request: Request<v1::UnsubscribeRequest>,
    ) -> Result<Response<v1::UnsubscribeResponse>, Status> {
        let message = request.get_ref();
        let (_, owner) = self.rooms.enter(request.metadata(), &message.tenant).await?;
        let session = self.rooms.session(owner, &message.session)?;
        // One that is not there has ended already.
        self.rooms.live.unsubscribe(&session, message.subscription).await;
        Ok(Response::new(v1::UnsubscribeResponse {}))
    }
}

impl Rooms {
    /// The tenant and whose call it is; refused where this node does not serve the tenant.
    pub(super) async fn enter(
        &self,
        metadata: &tonic::metadata::MetadataMap,
        tenant: &str,
    ) -> Result<(Arc<Tenant>, Owner), Refusal> {
        let (tenant, key) = self.authorize_key(metadata, tenant).await?;
        if !self.serves(&tenant) {
            return Err(self.wrong_region(&tenant));
        }
        self.until_open(tenant.id).await;
        let owner = Owner { tenant: tenant.id, key };
        Ok((tenant, owner))
    }

    /// The caller's session of that id.
    pub(super) fn session(&self, owner: Owner, id: &[u8]) -> Result<Session, Refusal> {
        self.sessions.require(session_id(id)?, owner).map_err(refusal)
    }

    /// The tenant of a session. Refused once it, or the key, is served here no more.
    fn served(&self, owner: Owner) -> Result<Arc<Tenant>, Refusal> {
        let gone = || refusal(End::NotServed);
        let tenant = self.view.tenant(owner.tenant).ok_or_else(gone)?;
        if !self.serves(&tenant) {
            return Err(self.wrong_region(&tenant));
        }
        self.check_key(&tenant, &owner.key)?;
        Ok(tenant)
    }

    /// A sign of life: what is durable.
    fn beat(&self, owner: Owner) -> Result<v1::HeldResponse, Refusal> {
        let tenant = self.served(owner)?;
        let held = self
            .tenants
            .check(tenant.id)
            .and_then(|()| self.tenants.held(tenant.id));
        let (own, second) = held.map_err(|error| self.read_refusal(&tenant, error))?;
        Ok(held_message(&own, &second))
    }
}

/// What a stream says first, its events, and whether it has ended.
struct Opened {
    rooms: Rooms,
    first: Option<v1::ConnectResponse>,
    events: Events,
    stopped: Seldom<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// What happens in the session's rooms; none when another stream has it.
    room_events: Seldom<Option<RoomEvents>>,
    /// When the last sign of life went: what happens in rooms does not stand for it.
    beat_at: Duration,
    owner: Owner,
    /// The index of the control plane at which the owner was looked at last.
    looked_at: u64,
    session: SessionId,
    is_over: bool,
}

impl Opened {
    fn new(rooms: Rooms, connected: Connected) -> Self {
        let opened = v1::SessionOpened {
            session: connected.session.id().0.to_vec().into(),
            resumed: connected.resumed,
            grace_ms: u32::try_from(GRACE.as_millis()).unwrap_or(u32::MAX),
            metadata_index: rooms.view.index(),
        };
        let (id, lobby) = (connected.session.id(), rooms.lobby.clone());
        let tenant = connected.session.owner().tenant;
        let room_events = Some(lobby.events(id, tenant));
        if !connected.resumed {
            // Of a new session nobody else has asked. One that is over already leaves its rooms when its stream is dropped.
            let _ = rooms.sessions.on_end(id, Box::new(move || lobby.end(id)));
        }
        let first = message(connected.events.last_taken(), Event::Opened(opened));
        Self {
            beat_at: rooms.env.clock.monotonic(),
            stopped: Seldom::new(Box::pin(rooms.stopped())),
            room_events: Seldom::new(room_events),
            rooms,
            first: Some(first),
            owner: connected.session.owner(),
            looked_at: 0,
            session: connected.session.id(),
            events: connected.events,
            is_over: false,
        }
    }

    fn beat(&mut self, number: u64) -> Result<v1::ConnectResponse, Status> {
        self.beat_at = self.rooms.env.clock.monotonic();
        let held = self.rooms.beat(self.owner).map_err(|refused| self.end(refused))?;
        Ok(message(number, Event::Held(held)))
    }

    fn end(&self, refused: Refusal) -> Status {
        self.rooms.sessions.end(self.session, End::NotServed);
        refused.into()
    }

    /// Whether the session is still served, if the control plane has changed anything since that was asked.
    fn check_owner(&mut self) -> Result<(), Status> {
        let index = self.rooms.view.index();
        if std::mem::replace(&mut self.looked_at, index) != index {
            self.rooms.served(self.owner).map_err(|refused| self.end(refused))?;
        }
        Ok(())
    }

    /// The next message; the error that ends the stream; or its quiet end.
    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<v1::ConnectResponse, Status>>> {
        let is_stopped = self
            .stopped
            .poll(context, |stopped, context| stopped.as_mut().poll(context));
        if is_stopped.is_ready() {
            return Poll::Ready(None);
        }
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if let Err(refused) = self.check_owner() {
            return Poll::Ready(Some(Err(refused)));
        }
        let now = self.rooms.env.clock.monotonic();
        if now.saturating_sub(self.beat_at) >= HEARTBEAT {
            return Poll::Ready(Some(self.beat(self.events.last_taken())));
        }
        match self.events.poll_next(context) {
            Poll::Ready(Next::Event(number, event)) => Poll::Ready(Some(Ok(message(number, Event::clone(&event))))),
            Poll::Ready(Next::Beat(number)) => Poll::Ready(Some(self.beat(number))),
            Poll::Ready(Next::Over(end)) => Poll::Ready(Some(Err(refusal(end).into()))),
            Poll::Ready(Next::Replaced) => Poll::Ready(None),
            Poll::Pending => {
                let room = self.room_events.poll(context, poll_rooms);
                room.map(|room| Some(Ok(message(self.events.last_taken(), Event::Room(room)))))
            }
        }
    }
}

impl Stream for Opened {
    type Item = Result<v1::ConnectResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        let next = this.poll_message(context);
        this.is_over = matches!(next, Poll::Ready(None | Some(Err(_))));
        next
    }
}

/// What happens next in the session's rooms. Where another stream has the session, nothing does.
fn poll_rooms(events: &mut Option<RoomEvents>, context: &mut Context<'_>) -> Poll<v1::RoomEvent> {
    let Some(open) = events else { return Poll::Pending };
    match open.poll_next_unpin(context) {
        Poll::Ready(Some(event)) => Poll::Ready(event),
        Poll::Ready(None) => {
            *events = None;
            Poll::Pending
        }
        Poll::Pending => Poll::Pending,
    }
}

const fn message(number: u64, event: Event) -> v1::ConnectResponse {
    v1::ConnectResponse {
        number,
        event: Some(event),
    }
}

/// A subscription's call, checked.
fn ask(session: Session, message: &v1::SubscribeRequest) -> Result<Ask, Refusal> {
    let query = live::read(&message.query).map_err(|text| Refusal::new(ErrorCode::Malformed, text))?;
    let digest = match &*message.digest {
        [] => None,
        buckets => Some(Digest::decode(buckets).map_err(refusal)?),
    };
    let held = match &*message.held {
        [] => None,
        buckets => Some(held(buckets)?),
    };
    Ok(Ask {
        session,
        number: message.subscription,
        query,
        vector: convert::vector(&message.vector).map_err(refusal)?,
        digest,
        held,
        answers: message.answers,
    })
}

fn held(buckets: &[v1::BucketEntities]) -> Result<live::Held, Refusal> {
    let count: usize = buckets.iter().map(|bucket| bucket.entities.len()).sum();
    if count > ENTITIES_MAX {
        let text = format!("a subscription covers {ENTITIES_MAX} entities at the most; the client names {count}");
        return Err(Refusal::limit("entities_per_subscription", text));
    }
    let malformed = |text: String| Refusal::new(ErrorCode::Malformed, text);
    let mut held = live::Held::new();
    for of_bucket in buckets {
        u8::try_from(of_bucket.bucket).map_err(|_| malformed(format!("there are {BUCKETS} buckets")))?;
        let (fingerprints, rest) = of_bucket.fingerprints.as_chunks::<FINGERPRINT_BYTES>();
        let (names, told) = (of_bucket.entities.len(), fingerprints.len());
        if !rest.is_empty() || (told != 0 && told != names) {
            let text =
                format!("{names} entities of a bucket need {FINGERPRINT_BYTES} bytes each of fingerprints, or none");
            return Err(malformed(text));
        }
        let mut fingerprints = fingerprints.iter();
        for name in &of_bucket.entities {
            let fingerprint = fingerprints
                .next()
                .map(|bytes| Fingerprint(u128::from_le_bytes(*bytes)));
            held.insert(EntityId::new(name).map_err(refusal)?, fingerprint);
        }
    }
    Ok(held)
}

fn session_id(bytes: &[u8]) -> Result<SessionId, Refusal> {
    SessionId::from_bytes(bytes).ok_or_else(|| {
        Refusal::new(
            ErrorCode::Malformed,
            "a session has 16 bytes; take them from its first event",
        )
    })
}

fn client_id(bytes: &[u8]) -> Result<ClientId, Refusal> {
    let malformed = || Refusal::new(ErrorCode::Malformed, "a client has 16 bytes, or none");
    let bytes = bytes.try_into().map_err(|_| malformed())?;
    ClientId::from_bytes(bytes).map_err(refusal)
}
