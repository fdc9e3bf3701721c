//! Queries that a node answers: what the answer rests on is more than a client is sent, so its rows come.
//!
//! They are shown as they come. What this client has pending does not lie over them, and no disk keeps them: after a
//! restart a query shows what is here until a node is asked again. Where what it rests on becomes little enough, or a node
//! sends more, coverage comes instead, and the query is answered here from then on.

use halcyon_core::{
    codec::DecodeError,
    query::live::{AnswerDelta, Mirror},
};
use halcyon_proto::convert::ConvertError;

use super::{Engine, FollowerId, QueryId, replica::Arrival};

/// An answer that a node keeps up.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) mirror: Mirror,
    /// The subscription that it came by. None if what came must not show any more.
    number: Option<u32>,
}

/// What a part of a delta says of an answer.
#[derive(Debug, Clone)]
pub(super) struct AnswerPart {
    /// Nothing that came before counts.
    pub(super) whole: bool,
    pub(super) delta: AnswerDelta,
}

impl Engine {
    /// Whether the answer is a node's, and not found here.
    pub fn is_answered_by_node(&self, follower: FollowerId) -> bool {
        let id = self.by_follower.get(&follower);
        let followed = id.and_then(|id| self.queries.get(id));
        followed.is_some_and(|followed| followed.answered.is_some())
    }

    /// Takes in all parts of one delta as far as they are of an answer, and leaves what is of coverage and is to be taken
    /// in. A node that lags adds and takes nothing away: where the query has come to the other of the two ways, what that
    /// showed stays until the node has caught up.
    pub(super) fn take_answer(
        &mut self,
        id: QueryId,
        number: u32,
        parts: &mut Vec<Arrival>,
        is_stale: bool,
    ) -> Result<(), ConvertError> {
        let Some(followed) = self.queries.get_mut(&id) else {
            return Ok(());
        };
        let mut of_answer = parts.iter_mut().filter_map(|part| part.answer.take());
        let has_rows = followed.answered.as_ref().is_some_and(|here| here.number.is_some());
        let Some(AnswerPart { whole, mut delta }) = of_answer.next() else {
            if is_stale && has_rows {
                parts.clear();
            } else {
                followed.answered = None;
            }
            return Ok(());
        };
        of_answer.for_each(|part| delta.0.extend(part.delta.0));
        parts.clear();
        if whole {
            if !is_stale || !(has_rows || followed.is_whole) {
                self.answer_is(id, number, delta);
            }
            return Ok(());
        }
        match &mut followed.answered {
            Some(here) if here.number == Some(number) => {
                here.mirror.apply(delta.clone());
                followed.tell_change(delta, &mut self.woken);
                Ok(())
            }
            // Of one that was not taken.
            _ if is_stale => Ok(()),
            _ => Err(DecodeError::invalid("a delta of an answer", "the answer itself never came").into()),
        }
    }

    /// All rows that there are.
    fn answer_is(&mut self, id: QueryId, number: u32, rows: AnswerDelta) {
        let Some(followed) = self.queries.get_mut(&id) else {
            return;
        };
        let mut mirror = Mirror::empty(&followed.query);
        mirror.apply(rows);
        let answered = Answered {
            mirror,
            number: Some(number),
        };
        if let Some(before) = followed.answered.replace(answered) {
            followed.tell_moved(&before.mirror, &mut self.woken);
            return;
        }
        // It would be found from a part of what it rests on.
        self.stop_answering(id);
        self.replica.uncover_all(id);
        if let Some(followed) = self.queries.get_mut(&id) {
            followed.was_not_refused_here();
            followed.tell_whole(&mut self.woken);
        }
    }

    /// Its rows must not show any more.
    pub(super) fn forget_answer(&mut self, id: QueryId) {
        let Some(followed) = self.queries.get_mut(&id) else {
            return;
        };
        if let Some(answered) = &mut followed.answered {
            answered.number = None;
            answered.mirror = Mirror::empty(&followed.query);
            followed.tell_whole(&mut self.woken);
        }
    }
}
