//! Whether a client's change set is taken, and what is left of it: decided once, by the writer, before anything is
//! written. What was decided goes into the log.

use std::{collections::BTreeSet, sync::Arc};

use halcyon_core::{
    change::{Change, ChangeSet},
    id::{EntityId, OriginId, Tag},
    mutant::{self, Mutant},
    numbers::Known,
};
use prost::bytes::Bytes;

use super::{
    command::CommitCommand,
    types::{Admit, AdmitError, Admitted, StorageError},
    work::TenantWork,
};

/// What becomes of a client's change set.
#[derive(Debug)]
pub(super) enum Decision {
    /// It had been taken before.
    Again(Tag),
    /// It is taken.
    Take {
        commit: CommitCommand,
        /// Places of changes that lost.
        superseded: Vec<u32>,
    },
    /// It is not taken.
    Refuse(AdmitError),
}

impl TenantWork<'_, '_> {
    /// Decides on a set; `origin` is this node's, for this tenant.
    pub(super) fn decide(&mut self, admit: &Admit, origin: OriginId) -> Result<Decision, StorageError> {
        if !self.state.summary.admitting {
            return Ok(Decision::Refuse(AdmitError::NotServing));
        }
        let content_hash = ChangeSet::content_hash(&admit.encoded);
        match self.lookup(admit, content_hash, origin)? {
            Lookup::New => {}
            Lookup::Taken(tag) => return Ok(Decision::Again(tag)),
            Lookup::Refused(error) => return Ok(Decision::Refuse(error)),
        }
        // What was taken stays taken, wherever this clock has gone since.
        if let Some(ahead) = admit.ahead {
            return Ok(Decision::Refuse(AdmitError::Ahead(ahead)));
        }
        let (superseded, unknown) = self.superseded(&admit.set)?;
        if unknown && !mutant::active(Mutant::LagNotNoticed) && !self.state.summary.vector.covers(&admit.client_vector)
        {
            return Ok(Decision::Refuse(AdmitError::Behind));
        }
        let (set, encoded) = effective(admit, &superseded);
        let seq = self.state.summary.vector.get(origin).next();
        let commit = CommitCommand {
            tag: Tag { origin, seq },
            now: admit.now,
            content_hash,
            encoded,
            set,
        };
        Ok(Decision::Take { commit, superseded })
    }

    /// Whether the client's number was taken, through any origin whose record this node holds whole.
    fn lookup(&mut self, admit: &Admit, content_hash: u64, own: OriginId) -> Result<Lookup, StorageError> {
        let number = admit.set.number;
        let Some(client) = self.find_client(admit.set.client())? else {
            return Ok(Lookup::New);
        };
        let mut known = Vec::new();
        let mut full = None;
        for (&origin, record) in self.numbers(client)?.iter() {
            let found = record.lookup(number, content_hash);
            if found != Known::No {
                known.push((origin, record.last_seq(), found));
            } else if record.is_full_for(number) {
                full = Some(origin);
            }
        }
        for (origin, last, found) in known {
            let origin = self.origin_id(origin)?;
            if self.state.summary.vector.get(origin) < last {
                continue;
            }
            match found {
                Known::Taken(seq) => return Ok(Lookup::Taken(Tag { origin, seq })),
                Known::Conflict => return Ok(Lookup::Refused(AdmitError::NumberReused(number))),
                Known::No => {}
            }
        }
        if let Some(origin) = full
            && self.origin_id(origin)? == own
        {
            return Ok(Lookup::Refused(AdmitError::NumbersFull));
        }
        Ok(Lookup::New)
    }

    /// Places of changes that lose to a tombstone, to an unknown entity or to what was collected, and whether any entity
    /// was unknown.
    fn superseded(&mut self, set: &ChangeSet) -> Result<(Vec<u32>, bool), StorageError> {
        let mut created: Option<BTreeSet<&EntityId>> = None;
        let mut superseded = Vec::new();
        let mut unknown = false;
        let mut last: Option<(&EntityId, Standing)> = None;
        let may_be_late = set.timestamp.get_time().0 <= self.state.traced;
        for (place, change) in (0..).zip(&set.changes) {
            let Some(subject) = change.subject() else { continue };
            let standing = match last {
                Some((before, standing)) if before == subject => standing,
                _ => {
                    let found = self.find_subject(subject)?;
                    match found {
                        Some(id) if self.is_deleted(id)? => Standing::Deleted(id),
                        Some(id) => Standing::Held(id),
                        None => {
                            let created = created.get_or_insert_with(|| creations(set));
                            if created.contains(subject) {
                                Standing::Created
                            } else {
                                Standing::Unknown
                            }
                        }
                    }
                }
            };
            last = Some((subject, standing));
            let loses = match standing {
                Standing::Held(id) => may_be_late && self.is_too_late(id, change, &set.timestamp)?,
                Standing::Created => false,
                Standing::Deleted(id) => !matches!(change, Change::Delete { .. }) || self.is_deleted_for_good(id)?,
                Standing::Unknown => !matches!(change, Change::Delete { .. }),
            };
            if loses {
                superseded.push(place);
                unknown |= standing == Standing::Unknown;
            }
        }
        Ok((superseded, unknown))
    }
}

enum Lookup {
    New,
    Taken(Tag),
    Refused(AdmitError),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// By its number.
    Held(u32),
    /// By its number.
    Deleted(u32),
    /// By the set itself.
    Created,
    Unknown,
}

fn creations(set: &ChangeSet) -> BTreeSet<&EntityId> {
    let created = set
        .changes
        .iter()
        .filter(|change| matches!(change, Change::Create { .. }));
    created.filter_map(Change::subject).collect()
}

/// The set without what was superseded, and its encoding.
fn effective(admit: &Admit, superseded: &[u32]) -> (Arc<ChangeSet>, Bytes) {
    if superseded.is_empty() {
        return (Arc::new(admit.set.clone()), admit.encoded.clone());
    }
    let mut set = admit.set.clone();
    let mut place = 0;
    set.changes.retain(|_| {
        place += 1;
        superseded.binary_search(&(place - 1)).is_err()
    });
    let encoded = set.encode().into();
    (Arc::new(set), encoded)
}

/// Where changes of the set without what was superseded stand in the whole. Both ascend.
pub(super) fn whole_places(places: Vec<u32>, superseded: &[u32]) -> Vec<u32> {
    let mut gone = superseded.iter().peekable();
    let mut shift = 0;
    let mut whole = |place| {
        while gone.next_if(|gone| **gone <= place + shift).is_some() {
            shift += 1;
        }
        place + shift
    };
    places.into_iter().map(&mut whole).collect()
}

/// The answer to a set that was taken before.
pub(super) const fn again(tag: Tag) -> Admitted {
    let superseded = Vec::new();
    let overwritten = Vec::new();
    Admitted {
        tag,
        superseded,
        overwritten,
        again: true,
    }
}
