//! Memory of texts that nothing needs any more.
//!
//! A graph keeps every text that it has met: queries know them by number, and a number must not change its meaning. Whoever
//! types for a day leaves each state of a document there. So now and then, when most of what is kept is of values that are
//! gone, the store is made anew from what it holds, and every query is asked again. The answers are what they were; only a
//! query that could just be followed, and takes more than it may to be asked, ends here.

use halcyon_core::collections::{BTreeMap, BTreeSet};
use halcyon_core::{
    graph::EntityNumber,
    query::live::{LiveId, Registry},
};

use super::{CONFIRMED, Replica, Unsaved, confirmed_sets};
use crate::{
    engine::{Engine, queries::reopen},
    limits::TEXTS_LOOKED_AT_FROM,
};

impl Engine {
    /// Lets go of texts, if most of those that are kept are of values that are gone. Between two steps only.
    pub(in crate::engine) fn let_go_of_texts(&mut self) {
        if self.replica.graph.is_mostly_gone(TEXTS_LOOKED_AT_FROM, false) {
            self.make_anew();
        }
    }

    pub(in crate::engine) fn make_anew(&mut self) {
        self.replica.make_anew();
        self.registry = Registry::default();
        let queries = self.queries.iter_mut().filter(|(_, followed)| followed.is_kept_up());
        for (&id, followed) in queries {
            reopen(id, followed, &self.replica, &mut self.woken);
            if let Some(live) = followed.live.as_ref().filter(|_| followed.is_kept_up()) {
                let view = self.replica.view(followed.is_whole.then_some(id));
                self.registry.insert(LiveId(id.0), live, &view);
            }
        }
    }
}

impl Replica {
    /// The same in a new graph. What moved must have been taken.
    fn make_anew(&mut self) {
        let old = std::mem::take(&mut self.graph);
        let graph = &mut self.graph;
        graph.begin_load();
        for number in 0..u32::try_from(old.dictionary().entities()).unwrap_or(u32::MAX) {
            for set in confirmed_sets(&old, EntityNumber(number)) {
                graph.apply_set(CONFIRMED, &set);
            }
        }
        graph.end_load();
        for pending in self.pending.values() {
            graph.propose(&pending.set);
        }
        let mut renumber = |number: EntityNumber| graph.intern_entity(old.dictionary().entity(number));
        let Unsaved { entities, covered } = std::mem::take(&mut self.unsaved);
        let covered = covered.into_iter().map(|(query, number)| (query, renumber(number)));
        self.unsaved.covered = covered.collect();
        self.unsaved.entities = entities.into_iter().map(&mut renumber).collect();
        let covered = std::mem::take(&mut self.covered).into_iter();
        let covered: BTreeMap<_, BTreeSet<_>> = covered
            .map(|(query, numbers)| (query, numbers.iter().map(&mut renumber).collect()))
            .collect();
        self.counts.clear();
        for (query, numbers) in covered {
            for number in numbers {
                self.count(query, number);
            }
        }
    }
}
