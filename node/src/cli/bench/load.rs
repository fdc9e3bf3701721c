//! What the measurements write: entities of ten fields with about 57 bytes of payload for each triple.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use halcyon_client::{Client, Pending};
use halcyon_core::{
    change::Change,
    id::{EntityId, Predicate},
    value::Value,
};

use crate::cli::{connect, failure::Failure, random::Seeded};

/// Fields of one entity.
const FIELDS: [&str; 10] = [
    "bench/title",
    "bench/state",
    "bench/owner",
    "bench/place",
    "bench/notes",
    "bench/color",
    "bench/start",
    "bench/total",
    "bench/phase",
    "bench/extra",
];

/// Sets on their way for one client that does not wait.
const SETS_IN_FLIGHT: usize = 64;

/// Makes change sets.
#[derive(Debug)]
pub struct Load {
    random: Seeded,
    subject: EntityId,
    field: usize,
    /// Bytes of subjects, fields and values so far.
    pub payload: u64,
}

impl Load {
    /// Another seed makes other entities.
    pub fn new(seed: u64) -> Self {
        let mut random = Seeded::new(seed);
        let subject = random.entity();
        Self {
            random,
            subject,
            field: 0,
            payload: 0,
        }
    }

    /// A set of this many triples. Entities that begin in it are created by it.
    pub fn set(&mut self, triples: usize) -> Vec<Change> {
        let mut changes = Vec::with_capacity(triples + triples / FIELDS.len() + 1);
        for _ in 0..triples {
            if self.field == 0 {
                self.subject = self.random.entity();
                changes.push(Change::Create {
                    subject: self.subject.clone(),
                });
            }
            let value = Value::string(&format!(
                "{:016x} {:07x}",
                self.random.next(),
                self.random.below(1 << 28)
            ));
            let field = FIELDS[self.field];
            self.payload += (self.subject.as_str().len() + field.len() + value.encode().len()) as u64;
            changes.push(Change::Set {
                subject: self.subject.clone(),
                predicate: Predicate::new(field).expect("the names in this file are predicates"),
                value,
            });
            self.field = (self.field + 1) % FIELDS.len();
        }
        changes
    }
}

/// A seed for the next load, so that no two runs write the same entities.
pub fn next_seed() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let random = connect::random_bytes(6);
    let start = random.iter().fold(0_u64, |seed, byte| seed << 8 | u64::from(*byte));
    start
        .wrapping_mul(1 << 16)
        .wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Writes `sets` sets of `triples` each through one client that does not wait for each, until all are acknowledged.
pub async fn fill(client: &Client, sets: u64, triples: usize) -> Result<Duration, Failure> {
    let mut load = Load::new(next_seed());
    let mut flying: VecDeque<Pending> = VecDeque::with_capacity(SETS_IN_FLIGHT);
    let started = connect::clock().monotonic();
    for _ in 0..sets {
        if flying.len() == SETS_IN_FLIGHT {
            land(&mut flying).await?;
        }
        flying.push_back(client.write(load.set(triples)).await.map_err(connect::write_failure)?);
    }
    while !flying.is_empty() {
        land(&mut flying).await?;
    }
    Ok(connect::clock().monotonic().saturating_sub(started))
}

async fn land(flying: &mut VecDeque<Pending>) -> Result<(), Failure> {
    let Some(oldest) = flying.pop_front() else {
        return Ok(());
    };
    oldest
        .acknowledged()
        .await
        .map_err(connect::refused_failure)
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_triple_has_about_57_bytes_of_payload() {
        let mut load = Load::new(1);
        let changes = load.set(1_000);
        assert_eq!(changes.len(), 1_100);
        assert_eq!(load.payload / 1_000, 59);
    }
}
