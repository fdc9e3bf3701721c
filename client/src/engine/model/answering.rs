//! The pretended node where a query rests on too much: it answers.

use halcyon_core::{
    collections::BTreeSet,
    id::EntityId,
    query::{
        eval::Budget,
        live::{AnswerDelta, Live, Mirror},
    },
};
use halcyon_proto::{
    convert::vector_bytes,
    v1::{self, connect_response::Event},
};

use super::{Node, QUERIES, Subscription, subscription_delta};

impl Node {
    /// Of tables alone the answer is sent.
    pub(super) fn is_too_much(&self, query: usize, covered: &BTreeSet<EntityId>) -> bool {
        QUERIES[query].starts_with("find") && self.entities_max.is_some_and(|most| covered.len() > most)
    }

    pub(super) fn subscribe_to_answer(&mut self, id: u8, number: u32, query: usize) {
        let mirror = self.mirror(query);
        let whole = mirror.whole();
        let (first, second) = whole.0.split_at(whole.0.len() / 2);
        let subscription = Subscription {
            query,
            covered: BTreeSet::new(),
            asked: None,
            answer: Some(mirror),
        };
        let vector = vector_bytes(&self.vector);
        let session = self.sessions.get_mut(&id).unwrap();
        session.subscriptions.insert(number, subscription);
        for (part, is_first) in [(first, true), (second, false)] {
            let delta = answer_delta(&AnswerDelta(part.to_vec()), is_first);
            let deltas = vec![subscription_delta(number, &delta, is_first)];
            let vector = vector.clone();
            session.events.push(Event::Commit(v1::Commit { vector, deltas }));
        }
    }

    pub(super) fn mirror(&self, query: usize) -> Mirror {
        let query = halcyon_core::query::from_text(QUERIES[query]).unwrap();
        Live::open(&query, &self.graph, Budget::default()).unwrap().mirror()
    }
}

pub(super) fn answer_delta(delta: &AnswerDelta, whole: bool) -> v1::CoverageDelta {
    let changes: Vec<u8> = delta.encode().flatten().collect();
    let answer = v1::AnswerDelta {
        whole,
        changes: changes.into(),
    };
    v1::CoverageDelta {
        answer: Some(answer),
        ..v1::CoverageDelta::default()
    }
}
