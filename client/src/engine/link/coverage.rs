//! What subscriptions are sent: taken apart, gathered until it is whole, and shown in one step.

use halcyon_core::collections::BTreeMap;
use halcyon_core::{id::EntityId, version_vector::VersionVector};
use halcyon_proto::{
    convert::{self, ConvertError},
    v1,
};
use prost::Message;

use super::{
    super::{Engine, QueryId, replica::Arrival},
    Progress,
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
        let sets = parts.iter().flat_map(|part| &part.arrival.sets);
        if let Some(timestamp) = sets.map(|set| set.timestamp).max() {
            self.session.observe(&timestamp, moment);
        }
        let mut came = BTreeMap::new();
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
                for arrival in self.link.parts.remove(&number).unwrap_or_default() {
                    if let Some(entities) = self.link.anew.get_mut(&query) {
                        entities.extend(arrival.entered.iter().cloned());
                    }
                    self.replica.arrive(&arrival);
                }
            }
        }
        self.show(&shows, came);
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
        for id in came.into_keys() {
            self.narrow(id);
        }
        self.advance();
    }

    /// Answers whether the query is followed from here on.
    fn on_coverage(&mut self, id: QueryId, number: u32, is_stale: bool) -> bool {
        if let Some(entered) = self.link.anew.remove(&id) {
            for entity in self.replica.covered_without(id, &entered) {
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
        let mut parts = Vec::with_capacity(deltas.len());
        for delta in deltas {
            // A query that is gone may hear something still.
            let Some(&query) = self.link.numbers.get(&delta.subscription) else {
                continue;
            };
            let coverage = v1::CoverageDelta::decode(delta.delta)
                .map_err(|_| ConvertError::Missing("coverage of a subscription"))?;
            let entities = |names: Vec<String>| {
                let ids = names.iter().map(|name| EntityId::new(name));
                ids.collect::<Result<Vec<_>, _>>()
            };
            let sets = coverage.change_sets.iter().map(|bytes| convert::change_set(bytes));
            parts.push(Part {
                number: delta.subscription,
                is_last: !delta.more,
                arrival: Arrival {
                    query,
                    sets: sets.collect::<Result<_, _>>()?,
                    entered: entities(coverage.entered)?,
                    left: entities(coverage.left)?,
                    is_stale: delta.stale,
                },
            });
        }
        Ok(parts)
    }
}
