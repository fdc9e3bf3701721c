//! A scan of many pages, all of one replica.
//!
//! Replicas number what they hold each for itself, and a page follows another in that order: a cursor means nothing to
//! any other. So a scan stays with the replica where it began, for as long as that answers. If it is lost, the scan
//! begins anew at another, and passes over what it has given already: whole entities, or, where it goes through one
//! field by value, triples. The other one must hold all that the first held when the scan began.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use halcyon_core::{id::EntityId, version_vector::VersionVector};
use halcyon_proto::{
    convert::{self, ScanQuery, Triple},
    error::{ErrorCode, Refusal},
    v1,
};
use prost::bytes::Bytes;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::{
    error::ReadError,
    limits::{
        BACKOFF_MAX, BACKOFF_MIN, QUICK_DEADLINE, READ_DEADLINE, SCAN_MOVES_MAX, SCAN_PATIENCE, SCAN_REMEMBERED_MAX,
    },
    routing::Route,
    session::backoff,
    shared::Shared,
    transport::{CallError, within},
};

/// Where a scan is, for one that goes on in another process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanPlace {
    /// The replica where it is.
    pub address: String,
    /// That replica's, for the next page.
    pub cursor: Bytes,
    /// What the replica held when the scan began.
    pub vector: VersionVector,
    /// What was read of the entity that comes next.
    pub open: Vec<Triple>,
}

/// A scan of many pages. Entities come whole and once, unless it goes through one field by value: then triples do.
#[derive(Debug)]
pub struct Pages {
    shared: Arc<Shared>,
    query: ScanQuery,
    at: Option<Route>,
    /// What another replica must hold to go on with the scan.
    vector: VersionVector,
    given: Given,
    /// Of an entity whose end did not come yet.
    open: Vec<Triple>,
    moves: u32,
    is_done: bool,
}

/// Hashes of what was given; `None` when that is too much to remember.
#[derive(Debug)]
struct Given(Option<BTreeSet<u128>>);

/// Why there is no page.
enum NoPage {
    /// The replica is lost, or does not know the cursor.
    Lost(String),
    Failed(ReadError),
}

impl Pages {
    pub(crate) fn new(shared: Arc<Shared>, query: ScanQuery) -> Self {
        Self {
            shared,
            query,
            at: None,
            vector: VersionVector::default(),
            given: Given(Some(BTreeSet::new())),
            open: Vec::new(),
            moves: 0,
            is_done: false,
        }
    }

    /// Goes on where an earlier process was. [`Self::pass_over`] has to be told what that one was given.
    #[must_use]
    pub fn resume(mut self, place: ScanPlace) -> Self {
        self.at = Some(Route {
            address: place.address,
            node: None,
            region: None,
        });
        self.query.cursor = place.cursor;
        self.vector = place.vector;
        self.open = place.open;
        self
    }

    /// This entity was given by an earlier process.
    pub fn pass_over(&mut self, entity: &EntityId) {
        self.given.remember(hash_of_entity(entity));
    }

    /// Where the scan is, behind all that was given.
    pub fn place(&self) -> ScanPlace {
        ScanPlace {
            address: self.at.as_ref().map(|at| at.address.clone()).unwrap_or_default(),
            cursor: self.query.cursor.clone(),
            vector: self.vector.clone(),
            open: self.open.clone(),
        }
    }

    /// How often the scan had to begin anew at another replica.
    pub const fn moves(&self) -> u32 {
        self.moves
    }

    /// What comes next; `None` after the end. Never empty.
    pub async fn next(&mut self) -> Result<Option<Vec<Triple>>, ReadError> {
        while !self.is_done {
            let at = match self.at.clone() {
                Some(at) => at,
                None => self.begin().await?,
            };
            let page = match self.page(&at).await {
                Ok(page) => page,
                Err(NoPage::Failed(error)) => return Err(error),
                Err(NoPage::Lost(reason)) => {
                    self.leave(&at, &reason)?;
                    continue;
                }
            };
            self.query.cursor = page.cursor;
            self.is_done = self.query.cursor.is_empty();
            let triples: Result<Vec<_>, _> = page.triples.into_iter().map(Triple::try_from).collect();
            let triples = self.take(triples?);
            if !triples.is_empty() {
                return Ok(Some(triples));
            }
        }
        Ok(None)
    }

    /// What may be given now.
    fn take(&mut self, triples: Vec<Triple>) -> Vec<Triple> {
        let mut ready = Vec::with_capacity(triples.len());
        for triple in triples {
            if self.query.predicate.is_some() {
                if self.is_new(hash_of_triple(&triple)) {
                    ready.push(triple);
                }
                continue;
            }
            if self.open.first().is_some_and(|open| open.subject != triple.subject) {
                self.close_entity(&mut ready);
            }
            self.open.push(triple);
        }
        if self.is_done {
            self.close_entity(&mut ready);
        }
        ready
    }

    fn close_entity(&mut self, ready: &mut Vec<Triple>) {
        let entity = std::mem::take(&mut self.open);
        let Some(first) = entity.first() else { return };
        if self.is_new(hash_of_entity(&first.subject)) {
            ready.extend(entity);
        }
    }

    /// Whether it was not given before. At the first replica nothing comes twice.
    fn is_new(&mut self, hash: u128) -> bool {
        let is_first = self.given.remember(hash);
        is_first || self.moves == 0
    }

    /// Chooses a replica that holds all that the first held.
    async fn begin(&mut self) -> Result<Route, ReadError> {
        let shared = self.shared.clone();
        let start = shared.env.clock.monotonic();
        let (mut failures, mut last) = (0_u32, "no replica is known".to_owned());
        loop {
            if let Some(route) = shared.navigator.route().map(|(route, _)| route) {
                match self.held(&route).await {
                    Ok(held) if held.covers(&self.vector) => {
                        if self.moves == 0 {
                            self.vector = held;
                        }
                        self.at = Some(route.clone());
                        return Ok(route);
                    }
                    Ok(_) => last = format!("{} lacks what the replica had where the scan began", route.address),
                    Err(CallError::Lost(reason)) => {
                        last = format!("{}: {reason}", route.address);
                        shared.navigator.on_failed(&route.address);
                    }
                    Err(CallError::Refused(refusal)) => {
                        last = format!("{}: {refusal}", route.address);
                        let replicas = refusal.replicas.clone();
                        match self.refused(refusal) {
                            Ok(_) => {}
                            Err(NoPage::Lost(_)) => shared.navigator.on_elsewhere(&route.address, replicas),
                            Err(NoPage::Failed(error)) => return Err(error),
                        }
                    }
                }
            } else {
                shared.navigator.look.notify_one();
            }
            let waited = shared.env.clock.monotonic().saturating_sub(start);
            if shared.is_closed() {
                return Err(ReadError::Closed);
            }
            if waited >= shared.read_deadline {
                return Err(ReadError::Unreachable { waited, last });
            }
            failures = failures.saturating_add(1);
            tokio::time::sleep(BACKOFF_MIN.max(backoff(failures, shared.env.entropy.next()))).await;
        }
    }

    /// What a replica holds. Where calls are passed on it may be another that answers next: then nothing is asked.
    async fn held(&self, route: &Route) -> Result<VersionVector, CallError> {
        let shared = &self.shared;
        if shared.forward {
            return Ok(VersionVector::default());
        }
        let tenant = shared.navigator.tenant.clone();
        let transport = &shared.navigator.transport;
        let message = v1::HeldRequest { tenant, forward: false };
        let request = transport.request(message, Some(QUICK_DEADLINE));
        let mut client = transport.sync(&route.address);
        let deadline = QUICK_DEADLINE.min(shared.read_deadline);
        let held = within(deadline, client.held(request)).await?;
        convert::vector(&held.own).map_err(|error| CallError::Lost(error.to_string()))
    }

    /// The next page, from this replica.
    async fn page(&self, at: &Route) -> Result<v1::ScanResponse, NoPage> {
        let shared = &self.shared;
        let transport = &shared.navigator.transport;
        let message = self.query.clone();
        let message = message.into_request(shared.navigator.tenant.clone(), shared.forward);
        let deadline = READ_DEADLINE.min(shared.read_deadline);
        let start = shared.env.clock.monotonic();
        let mut failures = 0_u32;
        loop {
            if shared.is_closed() {
                return Err(NoPage::Failed(ReadError::Closed));
            }
            let request = transport.request(message.clone(), Some(READ_DEADLINE));
            let mut client = transport.sync(&at.address);
            let answer = transport.answer((&at.address, 0), deadline, client.scan(request)).await;
            let waited = shared.env.clock.monotonic().saturating_sub(start);
            let (reason, pause, patience) = match answer {
                Ok(page) => return Ok(page),
                Err(CallError::Lost(reason)) => {
                    transport.forget(&at.address);
                    (reason, BACKOFF_MIN, self.patience())
                }
                Err(CallError::Refused(refusal)) => (refusal.to_string(), self.refused(refusal)?, shared.read_deadline),
            };
            if waited >= patience {
                return Err(NoPage::Lost(reason));
            }
            failures = failures.saturating_add(1);
            tokio::time::sleep(pause.max(backoff(failures, shared.env.entropy.next()))).await;
        }
    }

    /// How long to wait before the same is asked again there.
    fn refused(&self, refusal: Refusal) -> Result<Duration, NoPage> {
        match refusal.code {
            ErrorCode::Busy | ErrorCode::Retry | ErrorCode::NoQuorum => {
                Ok(refusal.retry_after.unwrap_or(BACKOFF_MIN).min(BACKOFF_MAX))
            }
            ErrorCode::WrongRegion | ErrorCode::Internal | ErrorCode::Unspecified => {
                Err(NoPage::Lost(refusal.to_string()))
            }
            // The question was understood before: it is the cursor, of a replica that was filled anew.
            ErrorCode::Malformed if !self.query.cursor.is_empty() => Err(NoPage::Lost(refusal.to_string())),
            _ => Err(NoPage::Failed(ReadError::Refused(refusal))),
        }
    }

    /// How long to wait for the replica where the scan is.
    fn patience(&self) -> Duration {
        SCAN_PATIENCE.min(self.shared.read_deadline)
    }

    /// Gives a replica up. The scan begins anew elsewhere, if it still knows what it has given.
    fn leave(&mut self, at: &Route, reason: &str) -> Result<(), ReadError> {
        self.moves += 1;
        if self.given.0.is_none() || self.moves > SCAN_MOVES_MAX {
            let last = format!(
                "{}: {reason}; so much was given already that the scan cannot go on at another replica without giving \
                 some of it twice",
                at.address
            );
            return Err(ReadError::Unreachable {
                waited: self.patience(),
                last,
            });
        }
        tracing::debug!(address = at.address, reason, "a scan begins anew at another replica");
        self.shared.navigator.on_failed(&at.address);
        self.at = None;
        self.query.cursor = Bytes::new();
        self.open.clear();
        Ok(())
    }
}

impl Given {
    /// Returns false for what was remembered before.
    fn remember(&mut self, hash: u128) -> bool {
        let Some(hashes) = &mut self.0 else { return true };
        if hashes.len() >= SCAN_REMEMBERED_MAX {
            self.0 = None;
            return true;
        }
        hashes.insert(hash)
    }
}

fn hash_of_entity(entity: &EntityId) -> u128 {
    xxh3_128(entity.as_str().as_bytes())
}

fn hash_of_triple(triple: &Triple) -> u128 {
    let mut hash = Xxh3::new();
    for part in [triple.subject.as_str(), triple.predicate.as_str()] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.update(&triple.value.encode());
    hash.digest128()
}
