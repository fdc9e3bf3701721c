//! A watch: one stream over many connections, without a gap and without a repeat.
//!
//! The watcher keeps the vector of what it delivered and goes on from there after every interruption. A live set that
//! the vector covers was delivered; one that leaves a hole in its origin's sequence means that something was lost, and
//! the watch connects anew. What was missed carries no tags: an interruption among it is bridged by content hashes. A
//! watch that was away while deletions were collected is told to begin anew.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::Stream;
use halcyon_core::{
    change::ChangeSet,
    clock::Timestamp,
    mutant::{self, Mutant},
    version_vector::VersionVector,
};
use halcyon_proto::{
    convert::{self, ConvertError},
    v1::{self, watch_response::Event},
};
use tonic::Streaming;

use crate::{
    error::ReadError,
    limits::{MISSED_REMEMBERED_MAX, QUICK_DEADLINE, WATCH_SILENCE_MAX},
    read::on_refused,
    session::backoff,
    shared::Shared,
    transport::{CallError, within},
    types::WatchEvent,
};

/// The state of a watch.
pub(crate) struct Watching {
    shared: Arc<Shared>,
    /// What was delivered.
    vector: VersionVector,
    /// Hashes of the missed sets delivered since the vector last moved over what was missed.
    missed: BTreeSet<u64>,
    connection: Option<Connection>,
    ready: VecDeque<WatchEvent>,
    failures: u32,
    ended: bool,
    /// The largest timestamp of all that was delivered, for [`Mutant::ResumeByTimestamp`].
    largest: Option<Timestamp>,
}

struct Connection {
    address: String,
    stream: Streaming<v1::WatchResponse>,
}

impl Watching {
    pub(crate) const fn new(shared: Arc<Shared>, from: VersionVector) -> Self {
        Self {
            shared,
            vector: from,
            missed: BTreeSet::new(),
            connection: None,
            ready: VecDeque::new(),
            failures: 0,
            ended: false,
            largest: None,
        }
    }

    pub(crate) fn into_stream(self) -> impl Stream<Item = Result<WatchEvent, ReadError>> + Send + use<> {
        futures::stream::unfold(self, |mut watching| async move {
            let item = watching.next().await?;
            Some((item, watching))
        })
    }

    async fn next(&mut self) -> Option<Result<WatchEvent, ReadError>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            if self.ended {
                return None;
            }
            let shared = self.shared.clone();
            let step = tokio::select! {
                biased;
                () = shared.until_closed() => return None,
                step = self.step() => step,
            };
            if let Err(error) = step {
                self.ended = true;
                return Some(Err(error));
            }
        }
    }

    /// Connects, or takes in one message.
    async fn step(&mut self) -> Result<(), ReadError> {
        let Some(connection) = &mut self.connection else {
            return self.connect().await;
        };
        let message = tokio::time::timeout(WATCH_SILENCE_MAX, connection.stream.message()).await;
        match message {
            Ok(Ok(Some(message))) => {
                self.failures = 0;
                self.take_in(message.event)?;
                Ok(())
            }
            // The node stops, or wants us to read again from our vector. It has not failed.
            Ok(Ok(None)) => {
                self.connection = None;
                self.pause().await;
                Ok(())
            }
            Ok(Err(status)) => self.interrupted(status.into()).await,
            Err(_) => self.interrupted(CallError::Lost("silence".to_owned())).await,
        }
    }

    async fn connect(&mut self) -> Result<(), ReadError> {
        let navigator = &self.shared.navigator;
        if mutant::active(Mutant::SubscriptionDropped) && self.failures > 0 && self.largest.is_some() {
            self.failures = 0;
            return std::future::pending().await;
        }
        let Some((route, mut client)) = navigator.route() else {
            navigator.look.notify_one();
            self.pause().await;
            return Ok(());
        };
        // With an empty vector the node takes us for new, and says nothing of what was deleted and forgotten since we
        // were told the first part of everything.
        if self.vector.is_empty() && !self.missed.is_empty() {
            self.begin_anew();
        }
        let navigator = &self.shared.navigator;
        let message = v1::WatchRequest {
            tenant: navigator.tenant.clone(),
            vector: convert::vector_bytes(&self.vector),
        };
        // Without a deadline on the wire: the stream has no end.
        let request = navigator.transport.request(message, None);
        match within(QUICK_DEADLINE, client.watch(request)).await {
            Ok(stream) => {
                let address = route.address;
                self.connection = Some(Connection { address, stream });
                Ok(())
            }
            Err(error) => self.failed(&route.address, error).await,
        }
    }

    async fn interrupted(&mut self, error: CallError) -> Result<(), ReadError> {
        let Some(connection) = self.connection.take() else {
            return Ok(());
        };
        self.failed(&connection.address, error).await
    }

    async fn failed(&mut self, address: &str, error: CallError) -> Result<(), ReadError> {
        tracing::debug!(address, %error, "a watch is interrupted");
        let mut asked = Duration::ZERO;
        match error {
            CallError::Refused(refusal) => asked = on_refused(&self.shared, address, refusal)?,
            CallError::Lost(_) => self.shared.navigator.on_failed(address),
        }
        tokio::time::sleep(asked).await;
        self.pause().await;
        Ok(())
    }

    async fn pause(&mut self) {
        self.failures = self.failures.saturating_add(1);
        let pause = backoff(self.failures, self.shared.env.entropy.next());
        tokio::time::sleep(pause).await;
    }

    fn take_in(&mut self, event: Option<Event>) -> Result<(), ConvertError> {
        match event {
            Some(Event::Anew(_)) => {
                self.begin_anew();
                Ok(())
            }
            Some(Event::Missed(missed)) => self.on_missed(missed),
            Some(Event::CaughtUp(caught_up)) => self.on_caught_up(&caught_up),
            Some(Event::Live(live)) => self.on_live(&live),
            // A sign of life (the push task asks for itself), or a kind that only a newer release knows.
            Some(Event::Held(_)) | None => Ok(()),
        }
    }

    fn begin_anew(&mut self) {
        self.vector = VersionVector::EMPTY;
        self.missed.clear();
        self.ready.push_back(WatchEvent::Anew);
    }

    fn on_missed(&mut self, missed: v1::Missed) -> Result<(), ConvertError> {
        let moment = self.shared.moment();
        for bytes in missed.change_sets {
            let set = convert::change_set(&bytes)?;
            self.shared.state().engine.session_mut().observe(&set.timestamp, moment);
            let is_new = self.missed.insert(ChangeSet::content_hash(&bytes));
            let is_old = mutant::active(Mutant::ResumeByTimestamp) && Some(set.timestamp) < self.largest;
            self.largest = self.largest.max(Some(set.timestamp));
            if is_new && !is_old {
                self.ready.push_back(WatchEvent::Missed(set));
            }
            if self.missed.len() > MISSED_REMEMBERED_MAX {
                self.missed.pop_first();
            }
        }
        Ok(())
    }

    fn on_caught_up(&mut self, caught_up: &v1::CaughtUp) -> Result<(), ConvertError> {
        let vector = convert::vector(&caught_up.vector)?;
        self.vector.join(&vector);
        self.missed.clear();
        self.shared.state().engine.session_mut().saw(&vector);
        self.ready.push_back(WatchEvent::CaughtUp(self.vector.clone()));
        Ok(())
    }

    fn on_live(&mut self, live: &v1::Live) -> Result<(), ConvertError> {
        let tag = convert::tag(&live.origin, live.seq)?;
        if self.vector.covers_tag(tag) {
            return Ok(());
        }
        if tag.seq != self.vector.get(tag.origin).next() {
            tracing::debug!(?tag, "a watch has a gap and goes back to its vector");
            self.connection = None;
            return Ok(());
        }
        let set = convert::change_set(&live.change_set)?;
        let moment = self.shared.moment();
        {
            let mut state = self.shared.state();
            state.engine.session_mut().observe(&set.timestamp, moment);
            state.engine.session_mut().saw_tag(tag);
        }
        self.largest = self.largest.max(Some(set.timestamp));
        self.vector.raise(tag);
        self.ready.push_back(WatchEvent::Live { tag, set });
        Ok(())
    }
}
