//! A watch misses nothing, invents nothing, gives no set of changes twice, and ends equal to what is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use halcyon_client::WatchEvent;
use halcyon_core::{
    change::ChangeSet,
    id::{EntityId, NodeId, OriginId, Seq, Tag, TenantId},
    version_vector::VersionVector,
};

use super::{Event, Evidence, Moment, Oracle, deleted::may_be_back, ledger::Told};
use crate::{model::History, plan::cluster::Client};

/// Stands for the commits of what was missed, whose own are not told.
const MISSED: OriginId = OriginId {
    node: NodeId(u64::MAX),
    incarnation: 0,
};

/// What one watch was told since it began.
#[derive(Debug, Default)]
struct Watch {
    tenant: Option<TenantId>,
    /// All that it was told holds up to here.
    vector: VersionVector,
    /// Until what was missed is in, tags come out of order.
    is_caught_up: bool,
    told: BTreeSet<Tag>,
    sets: Vec<(Tag, ChangeSet)>,
    missed: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Watches {
    open: BTreeMap<Client, Watch>,
}

impl Watches {
    fn hear_watch(
        &mut self,
        client: Client,
        tenant: TenantId,
        event: &WatchEvent,
        evidence: Evidence<'_>,
    ) -> Result<(), String> {
        let watch = self.open.entry(client).or_default();
        watch.tenant = Some(tenant);
        match event {
            // What was deleted while it was away is forgotten, so it is told everything again.
            WatchEvent::Anew => {
                *watch = Watch {
                    tenant: watch.tenant,
                    missed: watch.missed,
                    ..Watch::default()
                };
            }
            WatchEvent::Missed(set) => {
                watch.missed += 1;
                let seq = Seq(watch.missed);
                let tag = Tag { origin: MISSED, seq };
                watch.sets.push((tag, set.clone()));
            }
            WatchEvent::CaughtUp(vector) => {
                watch.is_caught_up = true;
                watch.vector.join(vector);
            }
            WatchEvent::Live { tag, set } => {
                let committed = evidence.ledger.book(tenant).and_then(|book| book.set(*tag));
                if committed != Some(set) {
                    return Err(format!(
                        "{client}'s watch told of {} as {set:?}; committed is {committed:?}",
                        Told(*tag)
                    ));
                }
                if !watch.told.insert(*tag) {
                    return Err(format!("{client}'s watch told of {} twice", Told(*tag)));
                }
                watch.vector.raise(*tag);
                watch.sets.push((*tag, set.clone()));
            }
        }
        Ok(())
    }
}

impl Oracle for Watches {
    fn name(&self) -> &'static str {
        "watch"
    }

    fn hear(&mut self, event: &Event, evidence: Evidence<'_>) -> Result<(), String> {
        match event {
            Event::WatchBegan(client) => {
                // One that never tells anything owes as much as the others, unless its client reaches a node only that
                // may not hold the tenant: a watch is not passed on.
                let planned = evidence.stage.plan.client(*client);
                let planned = planned.filter(|planned| !planned.forward);
                let access = planned.and_then(|planned| evidence.stage.access(planned.tenant));
                let watch = Watch {
                    tenant: access.map(|access| access.id),
                    ..Watch::default()
                };
                self.open.insert(*client, watch);
                Ok(())
            }
            Event::ClientDown(client) => {
                self.open.remove(client);
                Ok(())
            }
            Event::Watched(client, tenant, event) => self.hear_watch(*client, *tenant, event, evidence),
            _ => Ok(()),
        }
    }

    fn unsettled(&self, evidence: Evidence<'_>) -> Option<String> {
        self.open.iter().find_map(|(client, watch)| {
            let held = evidence.stage.vector_of(watch.tenant?)?;
            let lacks = !watch.vector.covers(&held);
            lacks.then(|| {
                format!(
                    "{client}'s watch has told up to {:?} and the replicas hold {held:?}",
                    watch.vector
                )
            })
        })
    }

    fn look(&mut self, moment: Moment, evidence: Evidence<'_>) -> Result<(), String> {
        if moment != Moment::End {
            return Ok(());
        }
        for (client, watch) in &self.open {
            let Some(tenant) = watch.tenant else { continue };
            let Some(book) = evidence.ledger.book(tenant) else {
                continue;
            };
            let Some(vector) = evidence.stage.vector_of(tenant) else {
                continue;
            };
            let (must, is_sure) = book.covered_by(&vector);
            // What a lost disk alone held the watch may have been told of.
            let is_sure = is_sure && book.is_sure_of(&watch.vector);
            let mut told = History::default();
            for (tag, set) in &watch.sets {
                // A repeated tag was reported when it came.
                let _ = told.add(*tag, set.clone());
            }
            let may_differ = |subject: &EntityId| may_be_back(tenant, subject, book, evidence.stage);
            if is_sure && let Some(first) = first_difference(&must, &told, may_differ) {
                return Err(format!("what {client}'s watch told makes something else: {first}"));
            }
        }
        Ok(())
    }
}

/// A watch is not told under which tags things were committed, so only what shows is compared. An entity whose deletion was
/// collected before its creation came again may be back (see [`super::deleted`]).
fn first_difference(must: &History, told: &History, may_be_back: impl Fn(&EntityId) -> bool) -> Option<String> {
    let (must_be, is) = (must.state(), told.state());
    let must_be: BTreeSet<_> = must_be.triples().into_iter().collect();
    let is: BTreeSet<_> = is.triples().into_iter().collect();
    let missing = must_be.difference(&is).find(|(subject, ..)| !may_be_back(subject));
    let surplus = is.difference(&must_be).find(|(subject, ..)| !may_be_back(subject));
    let (what, (subject, predicate, value)) = match (missing, surplus) {
        (Some(missing), _) => ("lacks", missing),
        (None, Some(surplus)) => ("has too much:", surplus),
        (None, None) => return None,
    };
    let (committed, heard) = (about(must, subject), about(told, subject));
    Some(format!(
        "it {what} {subject} {predicate} {value:?}\ncommitted of it:{committed}\ntold of it:{heard}"
    ))
}

/// Every change of an entity, a line each.
fn about(history: &History, subject: &EntityId) -> String {
    let mut lines = String::new();
    for (tag, set) in history.sets() {
        for change in set.changes.iter().filter(|change| change.subject() == Some(subject)) {
            let at = if tag.origin == MISSED {
                "missed".to_owned()
            } else {
                Told(tag).to_string()
            };
            // Writing to a text does not fail.
            let _ = write!(lines, "\n  {at} {} {change:?}", set.timestamp);
        }
    }
    lines
}
