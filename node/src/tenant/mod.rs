//! What clients may do with a tenant: push, read, watch. Rules of admission are in [`admit`]; who replicates a tenant is
//! not known here, only whether this replica serves and what others hold.

pub mod admit;
pub mod feed;
mod follow;
pub mod limits;
pub mod rate;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use futures::{Stream, future::join_all, poll};
use halcyon_core::{
    change::ChangeSet,
    clock::{ClientId, DriftError},
    codec::DecodeError,
    env::Env,
    id::{EntityId, NodeId, TenantId},
    version_vector::VersionVector,
};
use prost::bytes::Bytes;
use thiserror::Error;

use self::{admit::Refusal, feed::Feed, rate::Rates};
pub use self::{
    follow::{Followed, Follower},
    watch::WatchEvent,
};
use crate::{
    metadata::{
        settings::{Acknowledgement, Settings, TenantSettings},
        state::{ReplicaState, Tenant},
    },
    query::{Snapshot, Statistics},
    replication::{ControlPlane, Replication},
    storage::{
        Storage,
        types::{Admit, AdmitError, Admitted, LiveTriple, ScanPage, ScanQuery, StorageError},
    },
};

/// Why a change set was not taken, or not yet as far as was asked.
#[derive(Debug, Clone, Error)]
pub enum PushError {
    /// It cannot be read.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// It may not be taken here, or at all.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Storage did not take it.
    #[error(transparent)]
    Admit(#[from] AdmitError),
    /// The tenant hands in too much at once.
    #[error("more than {per_second} change sets in a second; the limit is push_sets_per_second_max")]
    Rate {
        /// The limit.
        per_second: u64,
        /// When it will do.
        retry_after: Duration,
    },
    /// An earlier set of this client in the same push has to be sent again first.
    #[error("an earlier change set of this client was not taken; send both again, in their order")]
    OutOfTurn,
    /// It and what comes after it were too much for one push.
    #[error("a push holds push_bytes_max bytes; send the rest in another")]
    Rest,
    /// It is durable here and not yet in another region.
    #[error("the change set is kept here, but no other region has it yet")]
    NotYetReplicated(Admitted),
}

impl PushError {
    /// Whether the client sends the set again as it is, here or elsewhere.
    pub const fn is_sent_again(&self) -> bool {
        match self {
            Self::Rate { .. } | Self::OutOfTurn | Self::Rest => true,
            Self::Refused(refusal) => matches!(refusal, Refusal::WrongRegion { .. } | Refusal::NotServing),
            Self::Admit(error) => !matches!(error, AdmitError::NumberReused(_) | AdmitError::NumbersFull),
            Self::Malformed(_) | Self::NotYetReplicated(_) => false,
        }
    }
}

/// A set of a push: answered, or with storage.
enum Pushed<F> {
    Done(Result<Admitted, PushError>),
    Waits(F),
}

/// Why nothing was read.
#[derive(Debug, Clone, Error)]
pub enum ReadError {
    /// Another node holds the tenant.
    #[error("this node does not hold the tenant")]
    WrongRegion {
        /// Who does.
        replicas: BTreeMap<NodeId, ReplicaState>,
    },
    /// The replica here is not whole.
    #[error("this replica of the tenant is not ready to be read; another may be")]
    NotServing,
    /// See there.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The tenants of a node. Clones share them.
#[derive(Clone)]
pub struct Tenants {
    env: Env,
    me: NodeId,
    storage: Storage,
    replication: Replication,
    control: Arc<dyn ControlPlane>,
    feed: Feed,
    rates: Arc<Mutex<Rates>>,
}

impl std::fmt::Debug for Tenants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tenants").field(&self.me).finish()
    }
}

impl Tenants {
    /// The tenants of node `me`. `feed` is the sink that `storage` was opened with.
    pub fn new(
        env: &Env,
        me: NodeId,
        storage: Storage,
        replication: Replication,
        control: Arc<dyn ControlPlane>,
        feed: Feed,
    ) -> Self {
        Self {
            env: env.clone(),
            me,
            storage,
            replication,
            control,
            feed,
            rates: Arc::default(),
        }
    }

    /// Takes change sets in order; each is answered on its own, when it is durable or refused.
    pub async fn push(
        &self,
        tenant: &Arc<Tenant>,
        sets: Vec<Bytes>,
        client_vector: VersionVector,
    ) -> Vec<Result<Admitted, PushError>> {
        let settings = self.control.settings();
        let per_second = settings.push_sets_per_second_max;
        if let Err(retry_after) = self.take_rate(tenant.id, sets.len(), per_second) {
            let refused = PushError::Rate {
                per_second,
                retry_after,
            };
            return vec![Err(refused); sets.len()];
        }
        let results = self.push_in_order(tenant, sets, client_vector, &settings).await;
        let waits = TenantSettings::of(&tenant.settings).acknowledgement == Acknowledgement::Region;
        if !waits {
            return results;
        }
        let region = results
            .into_iter()
            .map(|result| self.await_region(tenant.id, result, &settings));
        join_all(region).await
    }

    fn take_rate(&self, tenant: TenantId, sets: usize, per_second: u64) -> Result<(), Duration> {
        let now = self.env.clock.monotonic();
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.take(tenant, sets as u64, per_second, now)
    }

    /// All are handed to storage before the first is awaited: they share one fsync, in their order. Once a client has
    /// to send a set again, its later ones have to wait for that one.
    async fn push_in_order(
        &self,
        tenant: &Tenant,
        sets: Vec<Bytes>,
        client_vector: VersionVector,
        settings: &Settings,
    ) -> Vec<Result<Admitted, PushError>> {
        // A node that covers what the client has seen is never behind it. One that does not finds out set by set.
        let may_be_behind = match self.storage.summary(tenant.id) {
            Ok(Some(own)) => !own.vector.covers(&client_vector),
            Ok(None) | Err(_) => true,
        };
        let client_vector = Arc::new(if may_be_behind {
            self.replication.attainable(tenant.id, client_vector)
        } else {
            client_vector
        });
        let mut waiting = BTreeSet::new();
        let mut results = Vec::with_capacity(sets.len());
        let fits = fitting(&sets, settings.push_bytes_max);
        let rest = sets.len() - fits;
        for encoded in sets.into_iter().take(fits) {
            let (set, ahead) = match self.check_set(tenant, &encoded, settings, &waiting) {
                Ok(checked) => checked,
                Err((client, error)) => {
                    waiting.extend(client.filter(|_| error.is_sent_again()));
                    results.push(Pushed::Done(Err(error)));
                    continue;
                }
            };
            let client = set.client();
            let mut admitting = Box::pin(self.admit(tenant.id, set, ahead, encoded, &client_vector));
            // What has no room is refused by this first poll, before the next one is handed over.
            let first = if may_be_behind || ahead.is_some() {
                Poll::Ready(admitting.as_mut().await)
            } else {
                poll!(admitting.as_mut())
            };
            match first {
                Poll::Ready(result) => {
                    if result.as_ref().is_err_and(PushError::is_sent_again) {
                        waiting.insert(client);
                    }
                    results.push(Pushed::Done(result));
                }
                Poll::Pending => results.push(Pushed::Waits(admitting)),
            }
        }
        let mut answers = Vec::with_capacity(results.len());
        for result in results {
            answers.push(match result {
                Pushed::Done(result) => result,
                Pushed::Waits(admitting) => admitting.await,
            });
        }
        answers.extend((0..rest).map(|_| Err(PushError::Rest)));
        answers
    }

    /// Decodes and checks a set, and tells how far it is ahead if that is too far; where it cannot be taken, also whose it
    /// is.
    fn check_set(
        &self,
        tenant: &Tenant,
        encoded: &[u8],
        settings: &Settings,
        waiting: &BTreeSet<ClientId>,
    ) -> Result<(ChangeSet, Option<DriftError>), (Option<ClientId>, PushError)> {
        let set = ChangeSet::decode(encoded).map_err(|error| (None, error.into()))?;
        let client = set.client();
        if waiting.contains(&client) {
            return Err((None, PushError::OutOfTurn));
        }
        match admit::check(tenant, self.me, &set) {
            Ok(()) => {}
            // Stands for a node of a newer release, which knows the change.
            Err(Refusal::NotUnderstood(_)) if self.env.probe.rare("push.newer-release") => {}
            Err(refusal) => return Err((Some(client), refusal.into())),
        }
        let ahead = admit::ahead(&set, self.env.clock.wall(), settings);
        Ok((set, ahead))
    }

    async fn admit(
        &self,
        tenant: TenantId,
        set: ChangeSet,
        ahead: Option<DriftError>,
        encoded: Bytes,
        client_vector: &Arc<VersionVector>,
    ) -> Result<Admitted, PushError> {
        let admit = Admit {
            tenant,
            set,
            ahead,
            encoded,
            client_vector: Arc::clone(client_vector),
            now: self.env.clock.wall(),
        };
        match self.storage.admit(admit).await {
            // The view is a moment ahead of storage: the tenant is placed here and not open yet.
            Err(AdmitError::Storage(StorageError::NotHeld(_))) => Err(AdmitError::NotServing.into()),
            result => Ok(result?),
        }
    }

    async fn await_region(
        &self,
        tenant: TenantId,
        result: Result<Admitted, PushError>,
        settings: &Settings,
    ) -> Result<Admitted, PushError> {
        let admitted = result?;
        let deadline = settings.region_ack_deadline;
        if self.replication.wait_region(tenant, admitted.tag, deadline).await {
            Ok(admitted)
        } else {
            Err(PushError::NotYetReplicated(admitted))
        }
    }

    /// The live triples of one entity.
    pub fn get(&self, tenant: &Tenant, subject: &EntityId) -> Result<Vec<LiveTriple>, ReadError> {
        self.check_placed(tenant)?;
        Ok(self.storage.get(tenant.id, subject)?)
    }

    /// One page of live triples.
    pub fn scan(&self, tenant: &Tenant, query: &ScanQuery) -> Result<ScanPage, ReadError> {
        self.check_placed(tenant)?;
        Ok(self.storage.scan(tenant.id, query)?)
    }

    /// The tenant as it is now, for a query.
    pub fn snapshot(&self, tenant: &Tenant, statistics: &Statistics) -> Result<Snapshot, ReadError> {
        self.check_placed(tenant)?;
        Ok(Snapshot::of(&self.storage, statistics, tenant.id)?)
    }

    /// All that the tenant took in after `vector`, then all that it takes in from now on.
    pub fn watch(
        &self,
        tenant: &Tenant,
        vector: VersionVector,
    ) -> impl Stream<Item = Result<WatchEvent, ReadError>> + use<> {
        watch::watch(self.clone(), tenant.id, vector)
    }

    /// All that the tenant took in, fact by fact, then all that it takes in from now on.
    pub fn follow(&self, tenant: TenantId) -> Follower {
        Follower::new(self.clone(), tenant, VersionVector::EMPTY)
    }

    /// What a client has seen, without what no replica holds any more. As long as that is not known, all of it.
    pub fn attainable(&self, tenant: TenantId, seen: VersionVector) -> VersionVector {
        self.replication.attainable(tenant, seen)
    }

    /// What is durable here, and of every origin how far another replica is known to have it durable.
    pub fn held(&self, tenant: TenantId) -> Result<(VersionVector, VersionVector), ReadError> {
        let own = self.storage.summary(tenant)?.map(|own| own.vector).unwrap_or_default();
        Ok((own, self.replication.held(tenant)))
    }

    /// Whether this node serves the tenant now.
    pub fn check(&self, tenant: TenantId) -> Result<(), ReadError> {
        let placement = self.control.tenant(tenant).ok_or(StorageError::NotHeld(tenant))?;
        self.check_placed(&placement)
    }

    fn check_placed(&self, tenant: &Tenant) -> Result<(), ReadError> {
        match admit::check_replica(tenant, self.me) {
            Ok(()) if self.replication.serves(tenant.id) => Ok(()),
            Err(Refusal::WrongRegion { replicas }) => Err(ReadError::WrongRegion { replicas }),
            Ok(()) | Err(_) => Err(ReadError::NotServing),
        }
    }
}

/// How many sets fit into a push. The first always does, or it never would.
fn fitting(sets: &[Bytes], bytes_max: u64) -> usize {
    let mut bytes = 0;
    let beyond = sets.iter().position(|set| {
        bytes += set.len() as u64;
        bytes > bytes_max
    });
    beyond.map_or(sets.len(), |at| at.max(1))
}
