//! What subscriptions are sent: taken apart, gathered until it is whole, and shown in one step.

use std::sync::Arc;

use halcyon_core::collections::{BTreeMap, BTreeSet};
use halcyon_core::{
    change::ChangeSet,
    codec::DecodeError,
    coverage::bucket_of,
    id::EntityId,
    query::live::{AnswerDelta, Mirror},
    version_vector::VersionVector,
};
use halcyon_proto::{
    convert::{self, ConvertError},
    v1,
};
use prost::{Message, bytes::Bytes};

use super::{
    super::{Engine, QueryId, answered::AnswerPart, replica::Arrival},
    Progress, Unsaid,
};
use crate::session::Moment;

/// One delta of a commit, understood.
struct Part {
    number: u32,
    arrival: Arrival,
    is_last: bool,
}

impl Engine {
    pub(super) fn on_commit(&mut self, commit: v1::Commit, moment: Moment) -> Result<(), ConvertError> {
        let shows = convert::vector(&commit.vector)?;
        let parts = self.parts(commit.deltas)?;
        let sets = parts.iter().flat_map(|part| &*part.arrival.sets);
        if let Some(timestamp) = sets.map(|set| set.timestamp).max() {
            self.session.observe(&timestamp, moment);
        }
        let is_part = |part: &Part| {
            let followed = self.queries.get(&part.arrival.query);
            !part.is_last && followed.is_some_and(|followed| followed.progress == Progress::Live(part.number))
        };
        let is_one_in_parts = parts.iter().any(is_part);
        let mut came = BTreeMap::new();
        let mut before: Option<Arc<[ChangeSet]>> = None;
        for part in parts {
            let Part {
                number,
                arrival,
                is_last,
            } = part;
            let (query, is_stale) = (arrival.query, arrival.is_stale);
            self.link.parts.entry(number).or_default().push(arrival);
            if is_last {
                came.insert(query, (number, is_stale));
                let mut arrivals = self.link.parts.remove(&number).unwrap_or_default();
                self.take_answer(query, number, &mut arrivals, is_stale)?;
                self.replica.begin_arrivals(&arrivals);
                for arrival in arrivals {
                    if let Some(unsaid) = self.link.unsaid.get_mut(&query) {
                        unsaid.came.extend(arrival.entered.iter().cloned());
                    }
                    let is_in = before.is_some_and(|before| Arc::ptr_eq(&before, &arrival.sets));
                    self.replica.arrive(&arrival, is_in);
                    before = Some(arrival.sets);
                }
                self.replica.end_arrivals();
            }
        }
        // What comes in parts to a query that is followed comes by itself, and this state is here with the last of them.
        if !(is_one_in_parts && came.is_empty()) {
            self.show(&shows, came);
        }
        Ok(())
    }

    /// A whole state of the node is in.
    fn show(&mut self, shows: &VersionVector, came: BTreeMap<QueryId, (u32, bool)>) {
        self.session.saw(shows);
        self.shown.join(shows);
        self.link.shown_moved = true;
        let mut is_one_new = false;
        for (id, (number, is_stale)) in &came {
            is_one_new |= self.on_coverage(*id, *number, *is_stale);
        }
        for followed in self.queries.values_mut().filter(|followed| followed.is_synced()) {
            followed.vector.join(shows);
        }
        if is_one_new {
            self.ask_after_earlier_runs();
        }
        self.let_go();
        let mut asked_anew = BTreeSet::new();
        for id in came.into_keys() {
            if self.narrow(id) {
                asked_anew.insert(id);
            }
        }
        self.advance_others(&asked_anew);
    }

    /// Answers whether the query is followed from here on.
    fn on_coverage(&mut self, id: QueryId, number: u32, is_stale: bool) -> bool {
        if let Some(Unsaid { buckets, came }) = self.link.unsaid.remove(&id) {
            let mut gone = self.replica.covered_without(id, &came);
            gone.retain(|entity| buckets.contains(&u32::from(bucket_of(entity))));
            for entity in gone {
                self.replica.uncover(id, &entity);
            }
        }
        let Some(followed) = self.queries.get_mut(&id) else {
            return false;
        };
        followed.is_stale = is_stale;
        let is_new = followed.progress != Progress::Live(number);
        if is_new {
            followed.progress = Progress::Live(number);
            followed.attempts = 0;
            self.link.queries_moved.insert(id);
        }
        is_new
    }

    fn parts(&self, deltas: Vec<v1::SubscriptionDelta>) -> Result<Vec<Part>, ConvertError> {
        let mut parts: Vec<Part> = Vec::with_capacity(deltas.len());
        let mut last = Bytes::new();
        for delta in deltas {
            // A query that is gone may hear something still.
            let Some(&query) = self.link.numbers.get(&delta.subscription) else {
                continue;
            };
            // Most queries that a change concerns are sent the same of it.
            let arrival = match parts.last() {
                Some(part) if delta.delta == last => part.arrival.clone(),
                _ => arrival(&delta.delta)?,
            };
            let is_of_query = |part: &AnswerPart| {
                let followed = self.queries.get(&query);
                followed.is_none_or(|followed| Mirror::empty(&followed.query).takes(&part.delta))
            };
            if !arrival.answer.as_ref().is_none_or(is_of_query) {
                return Err(DecodeError::invalid("an answer", "its rows are not the query's").into());
            }
            last = delta.delta;
            parts.push(Part {
                number: delta.subscription,
                is_last: !delta.more,
                arrival: Arrival {
                    query,
                    is_stale: delta.stale,
                    ..arrival
                },
            });
        }
        Ok(parts)
    }
}

/// What a delta says, of whichever query.
fn arrival(delta: &Bytes) -> Result<Arrival, ConvertError> {
    let coverage =
        v1::CoverageDelta::decode(delta.clone()).map_err(|_| ConvertError::Missing("coverage of a subscription"))?;
    let entities = |names: Vec<String>| {
        let ids = names.iter().map(|name| EntityId::new(name));
        ids.collect::<Result<Vec<_>, _>>()
    };
    let mut sets = Vec::with_capacity(coverage.change_sets.len());
    for bytes in &coverage.change_sets {
        sets.push(convert::change_set(bytes)?);
    }
    let answer = match coverage.answer {
        Some(v1::AnswerDelta { whole, changes }) => {
            if !(sets.is_empty() && coverage.entered.is_empty() && coverage.left.is_empty()) {
                return Err(DecodeError::invalid("what a subscription is sent", "both an answer and coverage").into());
            }
            let delta = AnswerDelta::decode(&changes)?;
            Some(AnswerPart { whole, delta })
        }
        None => None,
    };
    Ok(Arrival {
        query: QueryId(0),
        answer,
        sets: sets.into(),
        entered: entities(coverage.entered)?,
        left: entities(coverage.left)?,
        is_stale: false,
    })
}
