//! Live queries: what clients follow, kept up to date at a cost that follows the change.
//!
//! A tenant that somebody follows has its triples in memory ([`halcyon_core::graph`]), read from storage once and fed by
//! the feed of commits without a gap, in a task of its own. Equal queries share one plan: the coverage of the query and
//! how it changes. A changed triple finds its plans through an index; a plan's delta is encoded once for all who follow
//! it; a session hears of each state in one event. Writers and watchers never wait for any of this: the task takes
//! commits from a queue of its own, and what it has missed it reads from storage.

mod asks;
mod delta;
mod ends;
mod kept;
pub mod limits;
mod pace;
mod plan;
mod query;
mod sending;
mod state;
mod task;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use halcyon_core::{
    coverage::Digest,
    env::Env,
    id::TenantId,
    query::{live::Refused, logic::Query},
    version_vector::VersionVector,
};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use self::{
    asks::Bounds,
    limits::COMMANDS_MAX,
    task::{Command, Task},
};
use crate::{
    metadata::View,
    session::Session,
    tenant::{ReadError, Tenants},
};

pub use kept::AnswerError;
pub use plan::Held;
pub use query::read;
pub use state::{LiveFigures, Subscribed};

/// What a subscription asks for.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Where its coverage goes.
    pub session: Session,
    /// The session's number for it.
    pub number: u32,
    /// What is followed.
    pub query: Query,
    /// What the client has seen.
    pub vector: VersionVector,
    /// What it still holds for the query.
    pub digest: Option<Digest>,
    /// In the second call: its entities in the buckets that differ.
    pub held: Option<Held>,
    /// The client takes the answer itself where what it rests on is too much.
    pub answers: bool,
}

/// Why a query is not followed.
#[derive(Debug, Clone, Error)]
pub enum SubscribeError {
    /// It cannot be, ever or now.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The session has a subscription of that number.
    #[error("the session has a subscription {0}; take a number that is new in it")]
    NumberInUse(u32),
    /// There is nothing to go on with.
    #[error("subscription {0} is not one that waits for what the client holds; subscribe again with a new number")]
    NotResuming(u32),
    /// The session follows too much.
    #[error("a session has {0} subscriptions at the most; end some, or open another session")]
    TooMany(usize),
    /// The tenant has too many different queries.
    #[error("the tenant has {0} different live queries on this node; share some, or run them once")]
    TooManyPlans(usize),
    /// The tenant takes too much memory.
    #[error(
        "the tenant's live queries would take more than {0} bytes of this node; run the query once, or raise the \
         setting live_bytes_per_tenant_max"
    )]
    Memory(usize),
    /// What it covers is more than a session holds for a client.
    #[error("the query's answer rests on more than {0} bytes; make it more selective, or run it once instead")]
    TooManyBytes(usize),
    /// What it covers is too much, and so is its answer.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// The session has too much to take in.
    #[error("the session has yet to take in what it subscribed to before; try again when it has")]
    Busy,
    /// The session is over.
    #[error("the session is over; connect again")]
    Gone,
    /// The tenant is not, or no longer, served here.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The node stops.
    #[error("live queries are closing on this node; try again, or elsewhere")]
    Closed,
    /// The tenant's memory is full of what is gone.
    #[error("this node makes room in the tenant's memory; subscribe again")]
    MakingRoom,
    /// The node was away while deletions were collected: what it holds in memory of the tenant may lack them.
    #[error("this node begins anew to follow the tenant; subscribe again")]
    Anew,
}

/// The live queries of a node. Clones share them.
#[derive(Debug, Clone)]
pub struct Live {
    inner: Arc<Inner>,
}

struct Inner {
    env: Env,
    tenants: Tenants,
    view: View,
    stop: watch::Receiver<bool>,
    open: Mutex<BTreeMap<TenantId, Open>>,
}

/// A tenant that is followed.
#[derive(Debug)]
struct Open {
    commands: mpsc::Sender<Command>,
    figures: LiveFigures,
}

impl Live {
    /// None yet; all end with `stop`.
    pub fn new(env: &Env, tenants: Tenants, view: View, stop: watch::Receiver<bool>) -> Self {
        let inner = Inner {
            env: env.clone(),
            tenants,
            view,
            stop,
            open: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Follows a query. Its coverage comes on the session's stream.
    pub async fn subscribe(&self, ask: Ask) -> Result<Subscribed, SubscribeError> {
        let tenant = ask.session.owner().tenant;
        let mut ask = Box::new(ask);
        for _ in 0..OPEN_TRIES {
            let (reply, answer) = oneshot::channel();
            match self.commands(tenant).send(Command::Subscribe(ask, reply)).await {
                Ok(()) => return answer.await.unwrap_or(Err(SubscribeError::Closed)),
                // The task was idle and has just ended.
                Err(mpsc::error::SendError(Command::Subscribe(back, _))) => ask = back,
                Err(_) => break,
            }
        }
        Err(SubscribeError::Closed)
    }

    /// Follows it no longer. False if it was not followed.
    pub async fn unsubscribe(&self, session: &Session, number: u32) -> bool {
        let Some(commands) = self.inner.commands(session.owner().tenant) else {
            return false;
        };
        let (reply, answer) = oneshot::channel();
        let command = Command::Unsubscribe((session.id(), number), reply);
        commands.send(command).await.is_ok() && answer.await.unwrap_or(false)
    }

    /// The sum over all tenants.
    pub fn figures(&self) -> LiveFigures {
        let mut sum = LiveFigures::default();
        for Open { figures, .. } in self.inner.open().values() {
            sum.plans += figures.plans;
            sum.subscribers += figures.subscribers;
            sum.triples += figures.triples;
            sum.bytes += figures.bytes;
        }
        sum
    }

    /// The door to a tenant's task, which is started where there is none.
    fn commands(&self, tenant: TenantId) -> mpsc::Sender<Command> {
        let mut open = self.inner.open();
        if let Some(open) = open.get(&tenant).filter(|open| !open.commands.is_closed()) {
            return open.commands.clone();
        }
        let (commands, asked) = mpsc::channel(COMMANDS_MAX);
        let of_tenant = Open {
            commands: commands.clone(),
            figures: LiveFigures::default(),
        };
        open.insert(tenant, of_tenant);
        drop(open);
        let task = Task::new(Arc::clone(&self.inner), tenant, asked);
        tokio::spawn(task.run(self.inner.stop.clone()));
        commands
    }
}

/// How often a subscription tries to meet a tenant's task: it may end just then, but not again and again.
const OPEN_TRIES: usize = 3;

impl Inner {
    fn open(&self) -> std::sync::MutexGuard<'_, BTreeMap<TenantId, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The door to a tenant's task, where there is one.
    fn commands(&self, tenant: TenantId) -> Option<mpsc::Sender<Command>> {
        Some(self.open().get(&tenant)?.commands.clone())
    }

    fn bounds(&self) -> Bounds {
        let settings = self.view.settings();
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Bounds {
            bytes: size(settings.live_bytes_per_tenant_max),
            entities: size(settings.live_entities_max),
        }
    }

    fn report(&self, tenant: TenantId, figures: LiveFigures) {
        if let Some(open) = self.open().get_mut(&tenant) {
            open.figures = figures;
        }
    }

    /// A tenant's task has ended: what comes from now on starts another.
    fn forget(&self, tenant: TenantId) {
        self.open().remove(&tenant);
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Live")
    }
}
