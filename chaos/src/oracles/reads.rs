//! What a client reads was written, is not beaten by what every replica held when the client asked, and is whole where
//! every replica held all that there is of the entity.
//!
//! No more is promised: a read carries no vector, so it may be answered by a replica that lacks what the client itself
//! has written, or has read before.
//!
//! Nothing is asked where a replica is down, and may come back, or lags behind a collection; and of an entity that may
//! have come back (`oracles/deleted.rs`), or of what only a disk had that is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use halcyon_core::{
    change::{Change, ChangeSet},
    id::{EntityId, Predicate, Tag, TenantId},
    value::Value,
    version_vector::VersionVector,
};

use super::{Event, Evidence, Oracle, deleted::may_be_back};
use crate::{
    model::{History, State},
    plan::cluster::Client,
    run::Stage,
};

/// The changes of sets to one entity.
type Touching = BTreeMap<Tag, Arc<ChangeSet>>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Reads {
    touching: BTreeMap<(TenantId, EntityId), Touching>,
    /// What every replica held when a client began to read.
    held: BTreeMap<Client, Vec<VersionVector>>,
}

/// What a client was shown of an entity.
struct Shown<'a> {
    client: Client,
    subject: &'a EntityId,
    triples: &'a [(Predicate, Value)],
}

impl Oracle for Reads {
    fn name(&self) -> &'static str {
        "reads"
    }

    fn hear(&mut self, event: &Event, evidence: Evidence<'_>) -> Result<(), String> {
        match event {
            Event::Committed { tenant, tag, set, .. } => self.committed(*tenant, *tag, set),
            Event::Reading(client, tenant) => {
                self.held.remove(client);
                let held = held_everywhere(*tenant, evidence.stage);
                self.held.extend(held.map(|held| (*client, held)));
            }
            Event::Read {
                client,
                tenant,
                subject,
                shown,
            } => {
                let held = self.held.remove(client);
                let shown = Shown {
                    client: *client,
                    subject,
                    triples: shown,
                };
                return self.check(*tenant, &shown, held.as_deref(), evidence);
            }
            Event::ClientDown(client) => drop(self.held.remove(client)),
            // What a disk held that went back is held no more.
            Event::DiskChanged(_) => self.held.clear(),
            _ => {}
        }
        Ok(())
    }
}

impl Reads {
    fn committed(&mut self, tenant: TenantId, tag: Tag, set: &ChangeSet) {
        let first = set.changes.iter().find_map(Change::subject);
        let touching = first.and_then(|first| self.touching.get(&(tenant, first.clone())));
        // It is told again wherever it goes.
        if touching.is_some_and(|touching| touching.contains_key(&tag)) {
            return;
        }
        let subjects: BTreeSet<&EntityId> = set.changes.iter().filter_map(Change::subject).collect();
        for subject in subjects {
            let touching = self.touching.entry((tenant, subject.clone())).or_default();
            let of_subject = set.changes.iter().filter(|change| change.subject() == Some(subject));
            touching.entry(tag).or_insert_with(|| {
                Arc::new(ChangeSet {
                    timestamp: set.timestamp,
                    number: set.number,
                    changes: of_subject.cloned().collect(),
                })
            });
        }
    }

    fn check(
        &self,
        tenant: TenantId,
        shown: &Shown<'_>,
        held: Option<&[VersionVector]>,
        evidence: Evidence<'_>,
    ) -> Result<(), String> {
        let nothing = Touching::new();
        let touching = self.touching.get(&(tenant, shown.subject.clone())).unwrap_or(&nothing);
        check_written(shown, touching)?;
        let Some(book) = evidence.ledger.book(tenant) else {
            return Ok(());
        };
        match held {
            Some(held) if !may_be_back(tenant, shown.subject, book, evidence.stage) => {
                let is_held = |tag: Tag| !book.is_doubtful(tag) && held.iter().all(|vector| vector.covers_tag(tag));
                check_held(shown, touching, is_held)
            }
            _ => Ok(()),
        }
    }
}

/// Every triple was written by some set.
fn check_written(shown: &Shown<'_>, touching: &Touching) -> Result<(), String> {
    let Shown {
        client,
        subject,
        triples,
    } = shown;
    let changes = || touching.values().flat_map(|set| &set.changes);
    let unwritten = triples
        .iter()
        .find(|triple| !changes().any(|change| writes(change, triple)));
    unwritten.map_or(Ok(()), |(predicate, value)| {
        Err(format!(
            "{client} was shown {subject} {predicate} {value:?}, which nobody wrote"
        ))
    })
}

/// Nothing that is shown was beaten by what was held everywhere, and nothing lacks where that is all that there is.
fn check_held(shown: &Shown<'_>, touching: &Touching, is_held: impl Fn(Tag) -> bool) -> Result<(), String> {
    let Shown {
        client,
        subject,
        triples,
    } = shown;
    let mut everywhere = History::default();
    for (tag, set) in touching.iter().filter(|(tag, _)| is_held(**tag)) {
        // Two contents of one tag were reported when the second came.
        let _ = everywhere.add(*tag, set.clone());
    }
    let due = everywhere.state();
    let is_all = everywhere.sets().count() == touching.len();
    if is_all {
        let mut due = of(&due, subject);
        let mut triples = triples.to_vec();
        due.sort();
        triples.sort();
        return if due == triples {
            Ok(())
        } else {
            Err(format!(
                "{client} was shown {triples:?} of {subject}; every replica held {due:?} and nothing else was written"
            ))
        };
    }
    let due: BTreeSet<(Predicate, Value)> = of(&due, subject).into_iter().collect();
    let later: Vec<_> = triples.iter().filter(|triple| !due.contains(triple)).collect();
    add_later(&mut everywhere, touching, &later);
    let possible: BTreeSet<_> = of(&everywhere.state(), subject).into_iter().collect();
    let beaten = later.into_iter().find(|triple| !possible.contains(triple));
    beaten.map_or(Ok(()), |(predicate, value)| {
        Err(format!(
            "{client} was shown {subject} {predicate} {value:?}, beaten by what every replica held when it asked"
        ))
    })
}

/// Adds the changes that wrote these triples, and nothing else. What does not show with them does not show with more.
fn add_later(everywhere: &mut History, touching: &Touching, triples: &[&(Predicate, Value)]) {
    for (tag, set) in touching {
        let is_one = |change: &&Change| triples.iter().any(|triple| writes(change, triple));
        let changes: Vec<Change> = set.changes.iter().filter(is_one).cloned().collect();
        if !changes.is_empty() {
            let (timestamp, number) = (set.timestamp, set.number);
            // What is held everywhere is there already.
            let _ = everywhere.add(
                *tag,
                ChangeSet {
                    timestamp,
                    number,
                    changes,
                },
            );
        }
    }
}

/// Whether a change writes a triple of its entity.
fn writes(change: &Change, (predicate, value): &(Predicate, Value)) -> bool {
    let is_write = matches!(change, Change::Set { .. } | Change::Add { .. });
    is_write && change.predicate() == Some(predicate) && change.value() == Some(value)
}

fn of(state: &State, subject: &EntityId) -> Vec<(Predicate, Value)> {
    let triples = state.triples_of(subject).into_iter();
    triples
        .map(|(predicate, value)| (predicate.clone(), value.clone()))
        .collect()
}

/// What each host holds of a tenant, if that is known of all that may answer, and they are of one collection epoch.
fn held_everywhere(tenant: TenantId, stage: &Stage) -> Option<Vec<VersionVector>> {
    let lost = stage.lost();
    let (mut held, mut epochs) = (Vec::new(), BTreeSet::new());
    for host in stage.all_hosts() {
        let may_come_back = stage.node_of(host).is_some() && !lost.contains(&host);
        let Some(rooms) = stage.rooms(host) else {
            if may_come_back {
                return None;
            }
            continue;
        };
        if let Some(summary) = rooms.storage.summary(tenant).ok()? {
            epochs.insert(summary.collection_epoch);
            held.push(summary.vector);
        }
    }
    (epochs.len() == 1).then_some(held)
}

#[cfg(test)]
mod tests {
    use halcyon_core::{
        clock::{ClientId, NTP64, timestamp},
        id::{NodeId, OriginId, Seq},
    };

    use super::*;

    const FIELD: &str = "thing/f";

    fn subject() -> EntityId {
        EntityId::new("e").expect("a good name")
    }

    fn field() -> Predicate {
        Predicate::new(FIELD).expect("a good name")
    }

    /// The place of a set is also when it was stamped.
    fn tag(place: u64) -> Tag {
        let origin = OriginId {
            node: NodeId(1),
            incarnation: 1,
        };
        Tag {
            origin,
            seq: Seq(place),
        }
    }

    fn touching(changes: Vec<Change>) -> Touching {
        let set = |(place, change)| {
            let set = ChangeSet {
                timestamp: timestamp(NTP64(place), ClientId::from_random(1)),
                number: place,
                changes: vec![change],
            };
            (tag(place), Arc::new(set))
        };
        (1..).zip(changes).map(set).collect()
    }

    fn set(value: &str) -> Change {
        Change::Set {
            subject: subject(),
            predicate: field(),
            value: Value::string(value),
        }
    }

    /// Every replica held the first sets, and a client was shown these values: what is said to that.
    #[track_caller]
    fn check(changes: &[Change], held: u64, shown: &[&str], expected: &str) {
        let triples: Vec<_> = shown.iter().map(|value| (field(), Value::string(value))).collect();
        let (subject, touching) = (subject(), touching(changes.to_vec()));
        let shown = Shown {
            client: Client(1),
            subject: &subject,
            triples: &triples,
        };
        let said =
            check_written(&shown, &touching).and_then(|()| check_held(&shown, &touching, |tag| tag.seq.0 <= held));
        let said = said.err().unwrap_or_default();
        assert!(
            said.contains(expected) && said.is_empty() == expected.is_empty(),
            "{said:?} is not {expected:?}"
        );
    }

    #[test]
    fn what_nobody_wrote_is_not_shown() {
        check(&[set("a")], 0, &["a"], "");
        check(&[set("a")], 0, &["b"], "which nobody wrote");
        check(&[], 0, &["b"], "which nobody wrote");
    }

    #[test]
    fn what_all_replicas_know_to_be_beaten_is_not_shown() {
        let delete = Change::Delete { subject: subject() };
        check(&[set("a"), set("b")], 1, &["a"], "");
        check(&[set("a"), set("b")], 1, &["b"], "");
        check(&[set("a"), set("b"), set("c")], 2, &["a"], "beaten");
        check(&[set("a"), set("b"), set("c")], 2, &["c"], "");
        check(&[set("a"), delete, set("c")], 2, &["c"], "beaten");
    }

    #[test]
    fn what_all_replicas_hold_and_nobody_changes_is_shown_whole() {
        check(&[set("a"), set("b")], 2, &["b"], "");
        check(&[set("a"), set("b")], 2, &["a"], "nothing else was written");
        check(&[set("a"), set("b")], 2, &[], "nothing else was written");
        check(&[set("a"), set("b")], 2, &["b", "b"], "nothing else was written");
        check(&[set("a"), set("b")], 1, &[], "");
    }
}
