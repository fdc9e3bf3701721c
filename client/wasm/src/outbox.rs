//! Change sets on their way: in order, one push at a time, the same bytes until a node answers for them.
//!
//! What always holds: no set is pushed before an earlier one that waits, and none before the disk has it.

use std::collections::VecDeque;

use halcyon_core::{change::ChangeSet, id::Tag, version_vector::VersionVector};
use halcyon_proto::{
    convert::Taken,
    error::{ErrorCode, Refusal},
};
use prost::bytes::Bytes;

/// Sets in one push: a node answers a thousand small sets after one shared fsync.
const PUSH_SETS_MAX: usize = 1_024;

/// Bytes of sets in one push: half a message.
const PUSH_BYTES_MAX: usize = 2 << 20;

/// A set that is not yet part of what is confirmed.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) place: u64,
    pub(crate) set: ChangeSet,
    pub(crate) bytes: Bytes,
    is_durable: bool,
    /// A node has it, under this tag.
    tag: Option<Tag>,
}

/// What became of a set.
#[derive(Debug, Clone, PartialEq)]
pub enum Settled {
    /// A node has it on disk. Places, in the set, of changes that lost.
    Confirmed {
        /// The set's place.
        place: u64,
        /// Which of its changes lost to a deletion, or to an entity long gone.
        superseded: Vec<u32>,
    },
    /// A node refused it for good.
    Refused {
        /// The set's place.
        place: u64,
        /// Why.
        refusal: Refusal,
    },
}

/// What to do before the next push.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Next {
    Go,
    /// Wait a little: the node is busy, or could not tell.
    Wait(Refusal),
    /// The client as a whole is refused, or is at the wrong node.
    Blocked(Refusal),
}

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: VecDeque<Waiting>,
    under_way: usize,
}

impl Outbox {
    pub(crate) fn push_back(&mut self, place: u64, set: ChangeSet, bytes: Bytes, is_durable: bool) {
        let tag = None;
        self.waiting.push_back(Waiting {
            place,
            set,
            bytes,
            is_durable,
            tag,
        });
    }

    /// The disk has everything up to this place.
    pub(crate) fn durable(&mut self, up_to: u64) {
        for waiting in &mut self.waiting {
            waiting.is_durable |= waiting.place <= up_to;
        }
    }

    /// Sets that no node has answered for.
    pub(crate) fn len(&self) -> usize {
        self.waiting.iter().filter(|waiting| waiting.tag.is_none()).count()
    }

    /// The bodies of the next push, unless one is under way.
    pub(crate) fn next_push(&mut self) -> Vec<Bytes> {
        if self.under_way > 0 {
            return Vec::new();
        }
        let unanswered = self.waiting.iter().filter(|waiting| waiting.tag.is_none());
        let mut bytes = 0;
        let sets = unanswered.take(PUSH_SETS_MAX).take_while(|waiting| {
            let is_first = bytes == 0;
            bytes += waiting.bytes.len();
            waiting.is_durable && (is_first || bytes <= PUSH_BYTES_MAX)
        });
        let sets: Vec<Bytes> = sets.map(|waiting| waiting.bytes.clone()).collect();
        self.under_way = sets.len();
        sets
    }

    /// No answer came.
    pub(crate) fn lost(&mut self) {
        self.under_way = 0;
    }

    /// A node answered for each set of the push, in order.
    pub(crate) fn answered(&mut self, results: Vec<Result<Taken, Refusal>>) -> (Vec<Settled>, Next) {
        let (mut settled, mut next) = (Vec::new(), Next::Go);
        let mut refused = Vec::new();
        let under_way = std::mem::take(&mut self.under_way);
        let unanswered = self.waiting.iter_mut().filter(|waiting| waiting.tag.is_none());
        for (waiting, result) in unanswered.take(under_way).zip(results) {
            let place = waiting.place;
            match result {
                Ok(Taken { tag, superseded, .. }) => {
                    waiting.tag = Some(tag);
                    settled.push(Settled::Confirmed { place, superseded });
                }
                Err(refusal) => match meaning(refusal.code) {
                    Meaning::Again => next = Next::Wait(refusal),
                    Meaning::Client => next = Next::Blocked(refusal),
                    Meaning::Never => {
                        refused.push(place);
                        settled.push(Settled::Refused { place, refusal });
                    }
                },
            }
        }
        (settled, next)
    }

    /// The call as a whole was refused.
    pub(crate) fn refused(&mut self, refusal: Refusal) -> (Vec<Settled>, Next) {
        let first = self.waiting.iter().find(|waiting| waiting.tag.is_none());
        let place = first.map_or(0, |waiting| waiting.place);
        let alone = std::mem::take(&mut self.under_way) == 1;
        match meaning(refusal.code) {
            Meaning::Again => (Vec::new(), Next::Wait(refusal)),
            Meaning::Never if alone && !matches!(refusal.code, ErrorCode::NotFound | ErrorCode::Forbidden) => {
                (vec![Settled::Refused { place, refusal }], Next::Go)
            }
            Meaning::Client | Meaning::Never => (Vec::new(), Next::Blocked(refusal)),
        }
    }

    /// Takes out what the confirmed state shows by itself now, and the set at `refused`.
    pub(crate) fn release(&mut self, vector: &VersionVector, refused: &[u64]) -> Vec<Waiting> {
        let is_done = |waiting: &Waiting| {
            waiting.tag.is_some_and(|tag| vector.covers_tag(tag)) || refused.contains(&waiting.place)
        };
        let (done, rest): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.waiting).into_iter().partition(is_done);
        self.waiting = rest;
        done.into()
    }
}

enum Meaning {
    Again,
    Client,
    Never,
}

const fn meaning(code: ErrorCode) -> Meaning {
    match code {
        ErrorCode::Busy
        | ErrorCode::Retry
        | ErrorCode::NoQuorum
        | ErrorCode::NotYetReplicated
        | ErrorCode::Internal
        | ErrorCode::Unspecified => Meaning::Again,
        ErrorCode::WrongRegion | ErrorCode::Unauthenticated | ErrorCode::WireVersion | ErrorCode::ClockDrift => {
            Meaning::Client
        }
        ErrorCode::Limit
        | ErrorCode::NotFound
        | ErrorCode::Forbidden
        | ErrorCode::Malformed
        | ErrorCode::NumberReused
        | ErrorCode::Exists
        | ErrorCode::Conflict => Meaning::Never,
    }
}
