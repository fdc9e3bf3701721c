//! What is kept of a query and sent: what its answer rests on, or, where that is too much, the answer.
//!
//! A client that has what an answer rests on answers the query itself, and its own writes lie over what the node has. A
//! count over a million entities rests on all of them: of such a query the node keeps the answer, and sends its rows and
//! what becomes of them.

use std::time::Duration;

use halcyon_core::{
    graph::{Delta, EntityNumber, Graph},
    mutant::{self, Mutant},
    query::{
        live::{AnswerDelta, Coverage, CoverageChange, Live, LiveId, Lost, Refused, Registry},
        logic::{Query, Shape},
    },
};
use halcyon_proto::{error::Refusal, v1};
use prost::{Message, bytes::Bytes};
use thiserror::Error;

use super::{
    Ask, SubscribeError,
    limits::{ANSWER_BUDGET, ANSWER_CHANGE_BYTES_MAX, ANSWER_DELTA_BYTES_MAX, ANSWER_ROWS_MAX, BUDGET, CHUNK_BYTES},
};
use crate::session::limits::LOAD_BYTES_MAX;

/// See the module's page.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most are coverages, each in the box of its plan"
)]
pub(super) enum Kept {
    Coverage(Coverage),
    Answer(Box<Answered>),
}

/// An answer, and all of it as it is sent, from when somebody wants that until it moves.
#[derive(Debug)]
pub(super) struct Answered {
    live: Live,
    whole: Option<Vec<Bytes>>,
}

/// What a change did.
#[derive(Debug)]
pub(super) enum Moved {
    Coverage(CoverageChange),
    /// Parts of a delta.
    Answer(Vec<Bytes>),
}

/// Why an answer is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AnswerError {
    /// It is too long.
    #[error(
        "the query rests on too much to be sent, and its answer has more than {0} rows; make it more selective, or run it \
         once instead"
    )]
    Rows(usize),
    /// One row is too large.
    #[error("a row of the query's answer has more than {0} bytes; ask for less of it, or run the query once instead")]
    RowBytes(usize),
    /// One change is too large to be told as it happens.
    #[error("a change to the query's answer has more than {0} bytes; subscribe again for all of it")]
    DeltaBytes(usize),
    /// All of it is too large.
    #[error("the query's answer has more than {0} bytes; ask for less of it, or run the query once instead")]
    Bytes(usize),
}

/// Why a query is no longer kept.
#[derive(Debug, Clone, PartialEq, Error)]
pub(super) enum KeepError {
    #[error(transparent)]
    Lost(#[from] Lost),
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

impl KeepError {
    /// What is too much for one change may not be when the query is opened anew, and of what rests on too much the answer
    /// may be short enough: where that is so, whoever follows it subscribes again.
    pub(super) fn refusal(&self, query_can_be_answered: bool) -> Refusal {
        let may_be_opened = match self {
            Self::Lost(Lost::TooFar(_) | Lost::Eval(_)) | Self::Answer(AnswerError::DeltaBytes(_)) => true,
            Self::Lost(Lost::TooLarge(_) | Lost::TooManyEntities(_)) => query_can_be_answered,
            Self::Answer(AnswerError::Rows(_) | AnswerError::RowBytes(_) | AnswerError::Bytes(_)) => false,
        };
        if may_be_opened {
            Refusal::retry(self.to_string(), Duration::ZERO)
        } else {
            Refusal::limit("live_query", self.to_string())
        }
    }
}

impl Kept {
    /// Keeps up what the query's answer rests on, so many entities at the most; or the answer, if the client takes that.
    pub(super) fn open(ask: &Ask, graph: &Graph, entities_max: usize) -> Result<Self, SubscribeError> {
        let refused = match Coverage::open(&ask.query, graph, BUDGET, entities_max) {
            Ok(coverage) => return Ok(Self::Coverage(coverage)),
            Err(refused) => refused,
        };
        let is_too_much = matches!(
            refused,
            Refused::TooManyEntities(_) | Refused::TooLarge(_) | Refused::Eval(_)
        );
        if !ask.answers || !is_too_much || !can_be_answered(&ask.query) {
            return Err(refused.into());
        }
        let live = Live::open(&ask.query, graph, ANSWER_BUDGET)?;
        if live.rows() > ANSWER_ROWS_MAX {
            return Err(AnswerError::Rows(ANSWER_ROWS_MAX).into());
        }
        Ok(Self::Answer(Box::new(Answered { live, whole: None })))
    }

    pub(super) fn register(&self, id: LiveId, registry: &mut Registry, graph: &Graph) {
        match self {
            Self::Coverage(coverage) => registry.insert_coverage(id, coverage, graph),
            Self::Answer(answered) => registry.insert(id, &answered.live, graph),
        }
    }

    /// Takes in what a state did to the triples.
    pub(super) fn apply(&mut self, delta: Option<&Delta>, graph: &Graph) -> Result<Moved, KeepError> {
        match (self, delta) {
            (Self::Coverage(coverage), Some(delta)) => Ok(Moved::Coverage(coverage.apply(delta, graph)?)),
            (Self::Coverage(_), None) => Ok(Moved::Coverage(CoverageChange::default())),
            (Self::Answer(_), None) => Ok(Moved::Answer(Vec::new())),
            (Self::Answer(answered), Some(delta)) => {
                let change = answered.live.apply(delta, graph)?;
                if change.is_empty() {
                    return Ok(Moved::Answer(Vec::new()));
                }
                answered.whole = None;
                if answered.live.rows() > ANSWER_ROWS_MAX {
                    return Err(AnswerError::Rows(ANSWER_ROWS_MAX).into());
                }
                if mutant::active(Mutant::AnswerNotTold) {
                    return Ok(Moved::Answer(Vec::new()));
                }
                Ok(Moved::Answer(delta_parts(&change)?))
            }
        }
    }

    pub(super) fn covers(&self, entity: EntityNumber) -> bool {
        matches!(self, Self::Coverage(coverage) if coverage.contains(entity))
    }

    /// All that is covered.
    pub(super) fn entities(&self) -> Vec<EntityNumber> {
        match self {
            Self::Coverage(coverage) => coverage.entities(),
            Self::Answer(_) => Vec::new(),
        }
    }

    pub(super) const fn is_answer(&self) -> bool {
        matches!(self, Self::Answer(_))
    }

    /// About how many bytes it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Coverage(coverage) => coverage.bytes(),
            Self::Answer(answered) => {
                let whole = answered.whole.iter().flatten().map(Bytes::len).sum::<usize>();
                answered.live.bytes() + whole
            }
        }
    }

    /// See [`Live::warm`].
    pub(super) fn warm(&self) -> usize {
        match self {
            Self::Coverage(coverage) => coverage.warm(),
            Self::Answer(answered) => answered.live.warm(),
        }
    }
}

impl Answered {
    /// All of it, for one who begins to follow it.
    pub(super) fn whole(&mut self) -> Result<Vec<Bytes>, AnswerError> {
        if let Some(whole) = &self.whole {
            return Ok(whole.clone());
        }
        let whole = whole_parts(&self.live.mirror().whole())?;
        self.whole = Some(whole.clone());
        Ok(whole)
    }
}

/// Whether a query may have a short answer though it rests on much: a table of aggregates, or the first rows of an order.
/// Not one that gathers all values in a row, which every change would send again; nor objects, which hold others.
pub(super) fn can_be_answered(query: &Query) -> bool {
    let Shape::Table(columns) = &query.select.shape else {
        return false;
    };
    let gathers = columns.iter().any(|column| column.value.gathers());
    let is_short = query.select.limit.is_some() || columns.iter().any(|column| column.value.is_aggregate());
    is_short && !gathers
}

/// All of an answer in parts that fit messages, one at the least.
pub(super) fn whole_parts(rows: &AnswerDelta) -> Result<Vec<Bytes>, AnswerError> {
    let mut parts = parts(rows, LOAD_BYTES_MAX, AnswerError::Bytes(LOAD_BYTES_MAX))?;
    if parts.is_empty() {
        parts.push(Vec::new());
    }
    let parts = parts.into_iter().enumerate();
    Ok(parts.map(|(at, changes)| message(changes, at == 0)).collect())
}

/// What became of an answer.
fn delta_parts(change: &AnswerDelta) -> Result<Vec<Bytes>, AnswerError> {
    let most = ANSWER_DELTA_BYTES_MAX;
    let parts = parts(change, most, AnswerError::DeltaBytes(most))?;
    Ok(parts.into_iter().map(|changes| message(changes, false)).collect())
}

fn parts(delta: &AnswerDelta, bytes_max: usize, too_much: AnswerError) -> Result<Vec<Vec<u8>>, AnswerError> {
    let (mut parts, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
    for change in delta.encode() {
        if change.len() > ANSWER_CHANGE_BYTES_MAX {
            return Err(AnswerError::RowBytes(ANSWER_CHANGE_BYTES_MAX));
        }
        bytes += change.len();
        if bytes > bytes_max {
            return Err(too_much);
        }
        part.extend(change);
        if part.len() >= CHUNK_BYTES {
            parts.push(std::mem::take(&mut part));
        }
    }
    if !part.is_empty() {
        parts.push(part);
    }
    Ok(parts)
}

fn message(changes: Vec<u8>, whole: bool) -> Bytes {
    let delta = v1::CoverageDelta {
        answer: Some(v1::AnswerDelta {
            whole,
            changes: changes.into(),
        }),
        ..v1::CoverageDelta::default()
    };
    delta.encode_to_vec().into()
}
