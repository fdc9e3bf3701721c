//! Where each set of changes is durable, and since when: two places of one set are a message between them.

use std::collections::{BTreeMap, BTreeSet};

use super::{LaneAt, Moment};

/// How a set came to where it is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// It is its origin's own.
    Here,
    /// From its origin, where it was durable at this moment.
    From(LaneAt, Moment),
    /// From an origin of which nothing was heard.
    FromAfar,
    /// It was here before: a node reads its log again when it starts.
    Again,
}

/// By tag, as events write it.
#[derive(Debug, Default)]
pub(super) struct Sets {
    origins: BTreeMap<String, (LaneAt, Moment)>,
    held: BTreeSet<(LaneAt, String)>,
}

impl Sets {
    /// A set is durable on a lane, which is its origin's or not.
    pub(super) fn committed(&mut self, lane: LaneAt, tag: String, is_origin: bool, at: Moment) -> Came {
        let origin = self.origin(&tag);
        if is_origin && origin.is_none() {
            self.origins.insert(tag.clone(), (lane, at));
        }
        if !self.held.insert((lane, tag)) {
            return Came::Again;
        }
        match origin {
            _ if is_origin => Came::Here,
            Some((from, sent)) => Came::From(from, sent),
            None => Came::FromAfar,
        }
    }

    /// Where a set was committed first, and when.
    pub(super) fn origin(&self, tag: &str) -> Option<(LaneAt, Moment)> {
        self.origins.get(tag).copied()
    }
}
