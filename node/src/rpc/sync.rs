//! The Sync service: what apps' clients say.
//!
//! A node that does not serve the tenant answers `WRONG_REGION` with those that do, or passes the call on where it is
//! asked to. What is passed on is neither kept nor logged: this node may not have it.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use halcyon_core::{
    env::BoxFuture,
    id::{EntityId, NodeId},
    mutant::{self, Mutant},
    version_vector::VersionVector,
};
use halcyon_proto::{
    convert,
    error::Refusal,
    v1::{self, sync_server},
};
use prost::bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tonic::{Request, Response, Status};

use super::{
    rooms::Rooms,
    status::{named, refusal, refuse},
};
use crate::{
    limits::{FORWARD_TIMEOUT, OPEN_WAIT_FIRST, OPEN_WAIT_MAX, PUSH_SETS_MAX, SCAN_LIMIT_DEFAULT, WATCHES_MAX},
    metadata::state::{ReplicaState, SecretHash, Tenant},
    peers::PeerClient,
    storage::types::{AdmitError, Admitted, LiveTriple, ScanQuery},
    tenant::{PushError, ReadError, WatchEvent},
};

/// See there.
#[derive(Debug)]
pub(super) struct SyncService {
    rooms: Rooms,
    watches: Arc<Semaphore>,
}

impl SyncService {
    pub(super) fn new(rooms: Rooms) -> Self {
        let watches = Arc::new(Semaphore::new(WATCHES_MAX));
        Self { rooms, watches }
    }
}

/// A peer's answer to a call that was passed on.
type Answer<T> = BoxFuture<'static, Result<Response<T>, Status>>;

type Watched = Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

#[tonic::async_trait]
impl sync_server::Sync for SyncService {
    async fn hello(&self, request: Request<v1::HelloRequest>) -> Result<Response<v1::HelloResponse>, Status> {
        Ok(Response::new(self.rooms.hello(request.get_ref())?))
    }

    async fn locate(&self, request: Request<v1::LocateRequest>) -> Result<Response<v1::LocateResponse>, Status> {
        let tenant = self
            .rooms
            .authorize(request.metadata(), &request.get_ref().tenant)
            .await?;
        Ok(Response::new(v1::LocateResponse {
            tenant_id: tenant.id.to_string(),
            tenant_name: tenant.name.to_string(),
            replicas: self.rooms.routing.locate(&tenant),
            home: tenant.home.to_string(),
            metadata_index: self.rooms.view.index(),
        }))
    }

    async fn push(&self, request: Request<v1::PushRequest>) -> Result<Response<v1::PushResponse>, Status> {
        let tenant = self
            .rooms
            .authorize(request.metadata(), &request.get_ref().tenant)
            .await?;
        let message = request.into_inner();
        if self.rooms.serves(&tenant) {
            let answer = self.rooms.push_here(&tenant, message).await?;
            if self.rooms.env.probe.rare("push.answer-lost") {
                return Err(Status::unavailable("the answer is lost"));
            }
            return Ok(Response::new(answer));
        }
        let forward = message.forward;
        if mutant::active(Mutant::PlacementNotChecked) && forward {
            return Ok(Response::new(self.rooms.keep_unplaced(&tenant, message).await?));
        }
        self.rooms
            .pass_on(&tenant, forward, message, |mut peer, message| {
                Box::pin(async move { peer.forward_push(message).await })
            })
            .await
    }

    async fn held(&self, request: Request<v1::HeldRequest>) -> Result<Response<v1::HeldResponse>, Status> {
        let tenant = self
            .rooms
            .authorize(request.metadata(), &request.get_ref().tenant)
            .await?;
        if self.rooms.serves(&tenant) {
            return Ok(Response::new(self.rooms.held_here(&tenant)?));
        }
        let message = request.into_inner();
        let forward = message.forward;
        self.rooms
            .pass_on(&tenant, forward, message, |mut peer, message| {
                Box::pin(async move { peer.forward_held(message).await })
            })
            .await
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        let tenant = self
            .rooms
            .authorize(request.metadata(), &request.get_ref().tenant)
            .await?;
        if self.rooms.serves(&tenant) {
            return Ok(Response::new(self.rooms.get_here(&tenant, request.get_ref()).await?));
        }
        let message = request.into_inner();
        let forward = message.forward;
        self.rooms
            .pass_on(&tenant, forward, message, |mut peer, message| {
                Box::pin(async move { peer.forward_get(message).await })
            })
            .await
    }

    async fn scan(&self, request: Request<v1::ScanRequest>) -> Result<Response<v1::ScanResponse>, Status> {
        let tenant = self
            .rooms
            .authorize(request.metadata(), &request.get_ref().tenant)
            .await?;
        let message = request.into_inner();
        if self.rooms.serves(&tenant) {
            return Ok(Response::new(self.rooms.scan_here(&tenant, message).await?));
        }
        let forward = message.forward;
        self.rooms
            .pass_on(&tenant, forward, message, |mut peer, message| {
                Box::pin(async move { peer.forward_scan(message).await })
            })
            .await
    }

    type WatchStream = Watched;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Watched>, Status> {
        let (tenant, key) = self
            .rooms
            .authorize_key(request.metadata(), &request.get_ref().tenant)
            .await?;
        if !self.rooms.serves(&tenant) {
            return Err(self.rooms.wrong_region(&tenant).into());
        }
        let Ok(permit) = self.watches.clone().try_acquire_owned() else {
            let text = format!("{WATCHES_MAX} watches are open on this node; go to another");
            let busy = Refusal::busy(text, Duration::from_secs(1));
            return Err(named("watches_per_node", busy).into());
        };
        self.rooms.until_open(tenant.id).await;
        let vector = convert::vector(&request.get_ref().vector).map_err(refuse)?;
        let events = self.rooms.tenants.watch(&tenant, vector);
        let events = events.take_until(Box::pin(self.rooms.stopped()));
        Ok(Response::new(Box::pin(watched(
            self.rooms.clone(),
            (tenant, key),
            events,
            permit,
        ))))
    }
}

/// Events as messages, as long as the key is one of the tenant's. The permit goes when the stream does.
fn watched(
    rooms: Rooms,
    (tenant, key): (Arc<Tenant>, SecretHash),
    events: impl Stream<Item = Result<WatchEvent, ReadError>> + Send + 'static,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<v1::WatchResponse, Status>> + Send {
    events.map(move |event| {
        let _held = &permit;
        rooms.check_key(&tenant, &key)?;
        let event = event.map_err(|error| rooms.read_refusal(&tenant, error))?;
        Ok(v1::WatchResponse {
            event: Some(watch_message(event)),
        })
    })
}

fn watch_message(event: WatchEvent) -> v1::watch_response::Event {
    use v1::watch_response::Event;
    match event {
        WatchEvent::Anew => Event::Anew(v1::Anew {}),
        WatchEvent::Missed(change_sets) => Event::Missed(v1::Missed { change_sets }),
        WatchEvent::CaughtUp(vector) => Event::CaughtUp(v1::CaughtUp {
            vector: convert::vector_bytes(&vector),
        }),
        WatchEvent::Live { tag, change_set } => Event::Live(v1::Live {
            origin: convert::origin_bytes(tag.origin),
            seq: tag.seq.0,
            change_set,
        }),
        WatchEvent::Held { own, second } => Event::Held(held_message(&own, &second)),
    }
}

impl Rooms {
    /// [`Mutant::PlacementNotChecked`]: takes in what another node should have.
    async fn keep_unplaced(&self, tenant: &Arc<Tenant>, message: v1::PushRequest) -> Result<v1::PushResponse, Refusal> {
        // Whatever comes of it, the push itself answers.
        let _ = self.storage.open_tenant(tenant.id, tenant.collection_epoch).await;
        let _ = self.storage.set_admitting(tenant.id, true).await;
        let mut placed = Tenant::clone(tenant);
        placed.replicas.insert(self.me, ReplicaState::Active);
        self.push_here(&Arc::new(placed), message).await
    }

    /// Takes change sets in on this node.
    pub(super) async fn push_here(
        &self,
        tenant: &Arc<Tenant>,
        message: v1::PushRequest,
    ) -> Result<v1::PushResponse, Refusal> {
        if message.change_sets.len() > PUSH_SETS_MAX {
            let text = format!("a push holds {PUSH_SETS_MAX} change sets at the most; send several");
            return Err(Refusal::limit("push_sets", text));
        }
        let bytes = message.change_sets.iter().map(|set| set.len() as u64).sum::<u64>();
        let bytes_max = self.view.settings().push_bytes_max;
        if bytes > bytes_max {
            let text = format!("the push has {bytes} bytes of change sets; the limit is {bytes_max}; send several");
            return Err(Refusal::limit("push_bytes_max", text));
        }
        if !self.serves(tenant) {
            return Err(self.wrong_region(tenant));
        }
        let vector = convert::vector(&message.vector).map_err(refusal)?;
        let results = self.push_when_open(tenant, &message.change_sets, &vector).await;
        let answers = results.into_iter().map(|result| {
            let result = match result {
                Ok(admitted) => v1::push_result::Result::Taken(taken(admitted)),
                Err(error) => v1::push_result::Result::Refused(self.push_refusal(tenant, error).into()),
            };
            v1::PushResult { result: Some(result) }
        });
        Ok(v1::PushResponse {
            results: answers.collect(),
            held: convert::vector_bytes(&self.replication.held(tenant.id)),
        })
    }

    /// A tenant that was made a moment ago is placed here before its replica is open; nobody should hear of that.
    async fn push_when_open(
        &self,
        tenant: &Arc<Tenant>,
        sets: &[Bytes],
        vector: &VersionVector,
    ) -> Vec<Result<Admitted, PushError>> {
        self.until_open(tenant.id).await;
        let mut pause = OPEN_WAIT_FIRST;
        loop {
            let results = self.tenants.push(tenant, sets.to_vec(), vector.clone()).await;
            let is_closed = |result: &Result<_, _>| matches!(result, Err(PushError::Admit(AdmitError::NotServing)));
            if pause > OPEN_WAIT_MAX / 2 || results.is_empty() || !results.iter().all(is_closed) {
                return results;
            }
            sleep(pause).await;
            pause *= 2;
        }
    }

    /// What this node holds, what a second replica is known to hold, and who the replicas are.
    pub(super) fn held_here(&self, tenant: &Tenant) -> Result<v1::HeldResponse, Refusal> {
        if !self.serves(tenant) {
            return Err(self.wrong_region(tenant));
        }
        let held = self.tenants.held(tenant.id);
        let (own, second) = held.map_err(|error| self.read_refusal(tenant, error))?;
        Ok(v1::HeldResponse {
            replicas: tenant.replicas.keys().map(|node| node.0).collect(),
            node: self.me.0,
            ..held_message(&own, &second)
        })
    }

    /// The live triples of one entity, from this node.
    pub(super) async fn get_here(
        &self,
        tenant: &Arc<Tenant>,
        message: &v1::GetRequest,
    ) -> Result<v1::GetResponse, Refusal> {
        let subject = EntityId::new(&message.subject).map_err(refusal)?;
        self.until_open(tenant.id).await;
        let triples = self
            .tenants
            .get(tenant, &subject)
            .map_err(|error| self.read_refusal(tenant, error))?;
        Ok(v1::GetResponse {
            triples: triples.into_iter().map(triple).collect(),
        })
    }

    /// One page of the live triples that match, from this node.
    pub(super) async fn scan_here(
        &self,
        tenant: &Arc<Tenant>,
        message: v1::ScanRequest,
    ) -> Result<v1::ScanResponse, Refusal> {
        let query = convert::ScanQuery::try_from(message).map_err(refusal)?;
        self.until_open(tenant.id).await;
        let max = usize::try_from(self.view.settings().scan_limit_max).unwrap_or(usize::MAX);
        let limit = match query.limit {
            0 => SCAN_LIMIT_DEFAULT,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        let query = ScanQuery {
            subject: query.subject,
            predicate: query.predicate,
            entity_type: query.entity_type,
            from: query.from,
            to: query.to,
            limit: limit.min(max),
            cursor: query.cursor,
        };
        let page = self
            .tenants
            .scan(tenant, &query)
            .map_err(|error| self.read_refusal(tenant, error))?;
        Ok(v1::ScanResponse {
            triples: page.triples.into_iter().map(triple).collect(),
            cursor: page.cursor,
        })
    }

    /// Asks the replicas for the caller, the nearest first; only where the caller wants that.
    async fn pass_on<M: Clone, T>(
        &self,
        tenant: &Tenant,
        wanted: bool,
        message: M,
        call: impl Fn(PeerClient, M) -> Answer<T>,
    ) -> Result<Response<T>, Status> {
        if !wanted {
            return Err(self.wrong_region(tenant).into());
        }
        let mut last = None;
        for node in self.forward_to(tenant) {
            match self.ask(node, |peer| call(peer, message.clone())).await {
                Ok(answer) => return Ok(answer),
                // A node's own answer stands; a lost connection says nothing, so the next one is asked.
                Err(status) if Refusal::from_status(&status).is_some() => return Err(status),
                Err(status) => last = Some(status.message().to_owned()),
            }
        }
        let text = last.unwrap_or_else(|| "none of them serves it now".to_owned());
        let text = format!(
            "no replica of tenant {} could be reached from here: {text}",
            tenant.name
        );
        Err(Refusal::retry(text, Duration::from_millis(500)).into())
    }

    async fn ask<T>(&self, node: NodeId, call: impl FnOnce(PeerClient) -> Answer<T>) -> Result<Response<T>, Status> {
        let client = self
            .pool
            .client(node)
            .map_err(|error| Status::unavailable(error.to_string()))?;
        self.metrics.on_forward();
        let late = |_| Status::unavailable(format!("node {node} did not answer within {FORWARD_TIMEOUT:?}"));
        timeout(FORWARD_TIMEOUT, call(client)).await.map_err(late)?
    }
}

fn taken(admitted: Admitted) -> v1::Taken {
    convert::Taken {
        tag: admitted.tag,
        superseded: admitted.superseded,
        overwritten: admitted.overwritten,
        again: admitted.again,
    }
    .into()
}

fn triple(live: LiveTriple) -> v1::Triple {
    convert::Triple {
        subject: live.subject,
        predicate: live.predicate,
        value: live.value,
    }
    .into()
}

pub(super) fn held_message(own: &VersionVector, second: &VersionVector) -> v1::HeldResponse {
    v1::HeldResponse {
        own: convert::vector_bytes(own),
        second: convert::vector_bytes(second),
        ..v1::HeldResponse::default()
    }
}
