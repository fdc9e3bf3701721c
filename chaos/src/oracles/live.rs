//! A live query misses nothing, invents nothing, and ends equal to a fresh one.
//!
//! - What its updates make together is what the client answers when it is asked.
//! - All that it shows was written to the tenant.
//! - Where it says that it is synced, it is no older than anything that its client was shown before it asked.
//! - Where it says that it is synced, and nothing of the client's own lies over it, it shows all that its client was told
//!   is durable, and it is the answer over what its vector covers by the independent model: not a delta more or less.
//! - In the end it is synced (unless its client has seen what a lost host had that nobody has removed), and it is the answer over what the replicas show.
//!
//! A node may hold sets above its vector, and the client is not told which. Where few are possible, a choice of them makes
//! the answer. Where many are, or none makes it, it is asked again later: where a catch-up broke off, the node holds a part
//! of a set, and what that has overwritten it can tell nobody (seed 700816). Nor is anything asked of what only a disk had
//! that is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    rc::Rc,
    sync::Arc,
};

use halcyon_client::engine::QueryStatus;
use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{ClientId, NTP64, timestamp},
    graph::Graph,
    id::{EntityId, NodeId, OriginId, Predicate, Seq, Tag, TenantId},
    query::{
        self,
        answer::{Answer, Rows},
        eval,
    },
    value::Value,
    version_vector::VersionVector,
};

use super::{
    Event, Evidence, Followed, Follower, Moment, Oracle,
    ledger::{Book, Told},
    shown::{self, Stored, Wrong},
};
use crate::{model::History, plan::cluster::Client, run::Stage};

/// Of so many sets above a vector each choice is tried.
const BEYOND_MAX: usize = 6;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Live {
    open: BTreeMap<Follower, Rc<Followed>>,
    /// Whose answer is to be held against the model when it is told next.
    due: BTreeSet<Follower>,
    /// Hashes of all that was written.
    written: BTreeSet<(TenantId, u64)>,
    /// What was shown before anybody was seen to write it: a client shows its own before it tells of it.
    unknown: BTreeMap<(TenantId, u64), (Follower, String)>,
    /// What a client was told is durable.
    acknowledged: BTreeMap<Client, BTreeSet<Tag>>,
    /// What a client was shown, by all that it followed.
    seen: BTreeMap<Client, VersionVector>,
    /// What its client had been shown when it began to follow.
    floors: BTreeMap<Follower, VersionVector>,
}

impl Oracle for Live {
    fn name(&self) -> &'static str {
        "live"
    }

    fn hear(&mut self, event: &Event, evidence: Evidence<'_>) -> Result<(), String> {
        match event {
            Event::Committed { tenant, set, .. } => self.note_written(*tenant, &set.changes),
            Event::Wrote { client, changes, .. } => {
                let planned = evidence.stage.plan.client(*client);
                if let Some(access) = planned.and_then(|planned| evidence.stage.access(planned.tenant)) {
                    self.note_written(access.id, changes);
                }
            }
            Event::Acknowledged { client, tag, .. } => {
                self.acknowledged.entry(*client).or_default().insert(*tag);
            }
            Event::Followed(followed) => return self.followed(followed, evidence),
            Event::FollowEnded(follower) => {
                self.open.remove(follower);
                self.floors.remove(follower);
            }
            Event::NotFollowed(follower, query, why) => {
                return Err(format!("{follower} cannot follow {query}: {why}"));
            }
            Event::ClientDown(client) => {
                self.open.retain(|follower, _| follower.client != *client);
                self.unknown.retain(|_, (follower, _)| follower.client != *client);
                self.acknowledged.remove(client);
                self.seen.remove(client);
                self.floors.retain(|follower, _| follower.client != *client);
            }
            _ => {}
        }
        Ok(())
    }

    fn unsettled(&self, evidence: Evidence<'_>) -> Option<String> {
        let finished = |follower: &Follower| evidence.stage.has_finished(follower.client);
        let mut open = self.open.iter().filter(|(follower, _)| finished(follower));
        open.find_map(|(follower, followed)| {
            let now = &followed.now;
            if now.status == QueryStatus::Synced && now.pending == 0 {
                return check_end(followed, evidence).err();
            }
            if now.status == QueryStatus::Stale && waits_for_lost(followed.tenant, evidence.stage) {
                return None;
            }
            let held = evidence.stage.vector_of(followed.tenant);
            Some(format!(
                "{follower} of {} is {:?} at {:?} with {} sets pending, and the replicas hold {held:?}",
                followed.query, now.status, now.vector, now.pending
            ))
        })
    }

    fn look(&mut self, moment: Moment, _evidence: Evidence<'_>) -> Result<(), String> {
        if let Some((_, (follower, what))) = self.unknown.first_key_value() {
            return Err(format!("{follower} was shown {what}, which nobody wrote"));
        }
        if moment == Moment::Closely {
            self.due.extend(self.open.keys());
        }
        Ok(())
    }
}

impl Live {
    fn note_written(&mut self, tenant: TenantId, changes: &[Change]) {
        for change in changes {
            let subject = change.subject().map(|subject| hash(&Value::Ref(subject.clone())));
            let value = change.value().map(hash);
            for written in subject.into_iter().chain(value) {
                self.written.insert((tenant, written));
                self.unknown.remove(&(tenant, written));
            }
        }
    }

    fn followed(&mut self, followed: &Rc<Followed>, evidence: Evidence<'_>) -> Result<(), String> {
        let Followed {
            follower,
            tenant,
            query,
            told: (told, status),
            now,
        } = &**followed;
        if told.as_ref() != Some(&now.answer) {
            let differs = told.as_ref().map_or_else(
                || "nothing was told".to_owned(),
                |told| difference(told, &now.answer).unwrap_or_default(),
            );
            return Err(format!(
                "{follower}'s updates of {query} make another answer: {differs}"
            ));
        }
        if *status != now.status {
            return Err(format!(
                "{follower} was told {status:?} of {query}, which is {:?}",
                now.status
            ));
        }
        for value in values(&now.answer) {
            let key = (*tenant, hash(value));
            if !self.written.contains(&key) {
                self.unknown.insert(key, (*follower, format!("{value:?} by {query}")));
            }
        }
        self.open.insert(*follower, followed.clone());
        let seen = self.seen.entry(follower.client).or_default();
        let floor = self.floors.entry(*follower).or_insert_with(|| seen.clone());
        seen.join(&now.vector);
        if now.status == QueryStatus::Synced && !now.vector.covers(floor) {
            let lacks = evidence.ledger.book(*tenant).and_then(|book| {
                let mut tags = book.sets().map(|(tag, _)| tag);
                tags.find(|tag| floor.covers_tag(*tag) && !now.vector.covers_tag(*tag) && !book.is_doubtful(*tag))
            });
            if let Some(lacks) = lacks {
                return Err(format!(
                    "{follower} of {query} is synced without {}, which its client had been shown before",
                    Told(lacks)
                ));
            }
        }
        let is_settled = now.status == QueryStatus::Synced && now.pending == 0;
        let Some(book) = evidence.ledger.book(*tenant).filter(|_| is_settled) else {
            return Ok(());
        };
        let acknowledged = self.acknowledged.get(&follower.client).into_iter().flatten();
        let mut sure = acknowledged.filter(|tag| !book.is_doubtful(**tag));
        if let Some(lacks) = sure.find(|tag| !now.vector.covers_tag(**tag)) {
            return Err(format!(
                "{follower} is synced without {}, of which its client was told that it is durable",
                Told(*lacks)
            ));
        }
        if self.due.contains(follower) && check_exact(followed, book)? {
            self.due.remove(follower);
        }
        Ok(())
    }
}

/// Whether the answer is that of the model over what its vector covers; `false` if that cannot be said.
fn check_exact(followed: &Followed, book: &Book) -> Result<bool, String> {
    let Followed {
        follower, query, now, ..
    } = followed;
    if !book.is_sure_of(&now.vector) || book.may_any_be_back(&now.vector) {
        return Ok(false);
    }
    let beyond: Vec<(Tag, &ChangeSet)> = book
        .sets()
        .filter(|(tag, set)| !now.vector.covers_tag(*tag) && concerns(set, query))
        .collect();
    if beyond.len() > BEYOND_MAX {
        return Ok(false);
    }
    let (history, _) = book.covered_by(&now.vector);
    let mut first = None;
    for chosen in 0..1_u32 << beyond.len() {
        let mut history = history.clone();
        for (_, (tag, set)) in beyond.iter().enumerate().filter(|(at, _)| chosen >> at & 1 == 1) {
            // Two contents of one tag were reported when the second came.
            let _ = history.add(*tag, (*set).clone());
        }
        match difference(&due(query, &history)?, &now.answer) {
            None => return Ok(true),
            differs => first = first.or(differs),
        }
    }
    if !beyond.is_empty() {
        return Ok(false);
    }
    Err(format!(
        "{follower} is synced, and its answer to {query} is not that of {:?}: {}",
        now.vector,
        first.unwrap_or_default()
    ))
}

/// Whether the tenant has a replica on a lost host that nobody has removed: what its clients saw of that one alone may come
/// back, for all that others know, so what they are shown without it is stale (seeds 90262 and 91018).
fn waits_for_lost(tenant: TenantId, stage: &Stage) -> bool {
    let lost = stage.lost();
    let placed = stage
        .running()
        .into_values()
        .find_map(|rooms| rooms.view.tenant(tenant));
    let on_lost = |node: &NodeId| stage.host_of(*node).is_some_and(|host| lost.contains(&host));
    placed.is_some_and(|placed| placed.replicas.keys().any(on_lost))
}

/// Whether the answer is that over what a replica shows.
fn check_end(followed: &Followed, evidence: Evidence<'_>) -> Result<(), String> {
    let Followed {
        follower,
        tenant,
        query,
        now,
        ..
    } = followed;
    let running = evidence.stage.running();
    let held = evidence.stage.vector_of(*tenant);
    let mut equal = running.iter().filter(|(_, rooms)| {
        let summary = rooms.storage.summary(*tenant).ok().flatten();
        summary.is_some_and(|summary| summary.is_exact() && Some(summary.vector) == held)
    });
    let Some((host, rooms)) = equal.next() else {
        return Ok(());
    };
    let storage = &rooms.storage;
    let shown = match shown::whole(&Stored {
        storage,
        tenant: *tenant,
    }) {
        Ok(shown) => shown,
        // The model's oracle tells of that.
        Err(Wrong::Unreadable(_)) => return Ok(()),
        Err(Wrong::Shown(what)) => return Err(what),
    };
    let fresh = answer(
        query,
        shown
            .into_iter()
            .map(|(subject, predicate, value, _)| (subject, predicate, value)),
    )?;
    match difference(&fresh, &now.answer) {
        None => Ok(()),
        Some(differs) => Err(format!(
            "in the end {follower}'s answer to {query} is not that of what {host} shows: {differs}"
        )),
    }
}

/// Whether a set can change the answer of a query.
fn concerns(set: &ChangeSet, query: &str) -> bool {
    let mut changes = set.changes.iter();
    changes.any(|change| match change.predicate() {
        Some(predicate) => query.contains(predicate.field()),
        None => matches!(change, Change::Delete { .. }),
    })
}

/// What the model answers.
fn due(query: &str, history: &History) -> Result<Answer, String> {
    let state = history.state();
    let triples = state.triples().into_iter();
    answer(
        query,
        triples.map(|(subject, predicate, value)| (subject.clone(), predicate.clone(), value.clone())),
    )
}

/// The answer over these triples, by the evaluator of fresh queries: it knows nothing of deltas and of coverage.
fn answer(query: &str, triples: impl Iterator<Item = (EntityId, Predicate, Value)>) -> Result<Answer, String> {
    const TAG: Tag = Tag {
        origin: OriginId {
            node: NodeId(1),
            incarnation: 1,
        },
        seq: Seq(1),
    };
    let add = |(subject, predicate, value)| Change::Add {
        subject,
        predicate,
        value,
    };
    let set = ChangeSet {
        timestamp: timestamp(NTP64(1), ClientId::from_random(1)),
        number: 1,
        changes: triples.map(add).collect(),
    };
    let mut graph = Graph::default();
    graph.apply_set(TAG, &set);
    let query = query::read(query).map_err(|error| error.render(query))?;
    eval::answer(&Arc::new(query), &graph).map_err(|error| error.to_string())
}

/// The first row that one has and the other has not, or that only their order differs.
fn difference(must: &Answer, is: &Answer) -> Option<String> {
    if must == is {
        return None;
    }
    let (must, is) = (lines(must), lines(is));
    let missing = must.iter().find(|line| !is.contains(line));
    let surplus = is.iter().find(|line| !must.contains(line));
    Some(match (missing, surplus) {
        (None, None) => format!("the same {} rows in another order", must.len()),
        _ => format!(
            "of {} rows it lacks {}, of its {} too many is {}",
            must.len(),
            missing.map_or("none", String::as_str),
            is.len(),
            surplus.map_or("none", String::as_str)
        ),
    })
}

/// A line for each row or object.
fn lines(answer: &Answer) -> Vec<String> {
    match &answer.rows {
        Rows::Table { rows, .. } => rows.iter().map(|row| cut(&format!("{row:?}"))).collect(),
        Rows::Entities(objects) => objects.iter().map(|object| cut(&format!("{object:?}"))).collect(),
    }
}

/// Values are long, and what they begin with tells them apart.
fn cut(text: &str) -> String {
    const SHOWN: usize = 400;
    text.chars().take(SHOWN).collect()
}

/// All refs and texts in the cells of a table, which stand for what was written; numbers are counts.
fn values(answer: &Answer) -> Vec<&Value> {
    let rows = match &answer.rows {
        Rows::Table { rows, .. } => rows.as_slice(),
        Rows::Entities(_) => &[],
    };
    let values = rows.iter().flatten().filter_map(|datum| datum.value());
    values
        .filter(|value| matches!(value, Value::Ref(_) | Value::String(_)))
        .collect()
}

fn hash(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.encode().hash(&mut hasher);
    hasher.finish()
}
