//! What a replica shows, read in every way there is: the whole tenant, a field in the order of its values, a type, an
//! entity, a query, and the facts that a peer would be sent. Each goes through an index of its own, and a fingerprint,
//! which is kept as sets come in, says nothing of any of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    time::Duration,
};

use halcyon_core::{
    clock::Timestamp,
    fact::FactBody,
    id::{EntityId, Predicate, Tag, TenantId},
    value::Value,
    version_vector::VersionVector,
};
use halcyon_node::{
    query::{Asked, Bounds, Part, Snapshot, Statistics},
    storage::{
        Storage,
        types::{LiveTriple, ScanPage, ScanQuery, StorageError},
    },
};

use crate::model::{Entity, State};

/// Entities of a tenant that are read one by one: a read of each of many thousands would be most of a run.
const ENTITIES_READ: usize = 64;

/// Triples in a page: a cursor has to lead through the rest.
const PAGE: usize = 500;

/// Bytes of facts in one step.
const BATCH_BYTES: usize = 1 << 20;

/// A query may cost what it likes here: more than a disk holds.
const BOUNDS: Bounds<'_> = Bounds {
    rows: 1 << 30,
    memory: 1 << 30,
    answer: 1 << 30,
    time: Duration::from_hours(1),
    go_on: &|| true,
};

/// An entity, a field, a value, and when that was written.
pub(super) type Triple = (EntityId, Predicate, Value, Timestamp);

/// How a replica shows otherwise than it must.
#[derive(Debug)]
pub(super) enum Wrong {
    /// It cannot be read.
    Unreadable(String),
    /// It shows something else, in words.
    Shown(String),
}

impl From<StorageError> for Wrong {
    fn from(error: StorageError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// A replica of a tenant, as it is read.
pub(super) trait Replica {
    /// A page of triples.
    fn scan(&self, query: &ScanQuery) -> Result<ScanPage, Wrong>;

    /// An entity's.
    fn get(&self, subject: &EntityId) -> Result<Vec<LiveTriple>, Wrong>;

    /// Rows of a query, in any order.
    fn ask(&self, query: &str) -> Result<Vec<String>, Wrong>;

    /// What a peer would be sent that has nothing: triples, each with the commit that brought it.
    fn facts(&self) -> Result<Vec<(Tag, Triple)>, Wrong>;
}

/// A replica in a node's storage.
pub(super) struct Stored<'a> {
    pub(super) storage: &'a Storage,
    pub(super) tenant: TenantId,
}

impl Replica for Stored<'_> {
    fn scan(&self, query: &ScanQuery) -> Result<ScanPage, Wrong> {
        Ok(self.storage.scan(self.tenant, query)?)
    }

    fn get(&self, subject: &EntityId) -> Result<Vec<LiveTriple>, Wrong> {
        Ok(self.storage.get(self.tenant, subject)?)
    }

    fn ask(&self, query: &str) -> Result<Vec<String>, Wrong> {
        let snapshot = Snapshot::of(self.storage, &Statistics::default(), self.tenant)?;
        let asked = Asked::read(query).map_err(|error| Wrong::Shown(format!("{query} is not understood: {error}")))?;
        let mut found = Vec::new();
        let answered = asked.answer(&snapshot, BOUNDS, &mut |part| {
            if let Part::Rows(rows) = part {
                found.extend(rows);
            }
            ControlFlow::Continue(())
        });
        answered.map_err(|failed| Wrong::Unreadable(failed.to_string()))?;
        Ok(found)
    }

    fn facts(&self) -> Result<Vec<(Tag, Triple)>, Wrong> {
        let mut reader = self.storage.open_delta(self.tenant, &VersionVector::EMPTY, None)?;
        let mut found = Vec::new();
        while let Some(facts) = reader.next_batch(BATCH_BYTES)? {
            found.extend(facts.into_iter().filter_map(|fact| Some((fact.tag, live(fact.body)?))));
        }
        Ok(found)
    }
}

/// The triple of a fact that shows one.
fn live(body: FactBody) -> Option<Triple> {
    match body {
        FactBody::Register {
            subject,
            predicate,
            timestamp,
            value: Some(value),
        }
        | FactBody::Element {
            subject,
            predicate,
            timestamp,
            value,
            present: true,
        } => Some((subject, predicate, value, timestamp)),
        _ => None,
    }
}

/// Whether a replica that holds all of this shows just that, page by page.
pub(super) fn check_pages(replica: &impl Replica, state: &State) -> Result<(), Wrong> {
    let triples = triples(state);
    same("scanned", &scanned(replica, &ScanQuery::default())?, &triples)?;
    let fields = by_field(&triples);
    for (field, of_field) in &fields {
        check_field(replica, field, of_field)?;
    }
    for entity_type in fields.keys().map(|field| field.entity_type()).collect::<BTreeSet<_>>() {
        check_type(replica, entity_type, &triples)?;
    }
    check_entities(replica, &triples)
}

/// The same of what is read from a snapshot. Taking one may close a layer of the storage, so this is for the end.
pub(super) fn check_snapshots(replica: &impl Replica, state: &State) -> Result<(), Wrong> {
    let (mut found, mut facts) = (replica.facts()?, due(state));
    found.sort();
    facts.sort();
    same("sent to a peer", &found, &facts)?;
    for (field, of_field) in by_field(&triples(state)) {
        let source = format!("find ?entity, ?value where ?entity {field} ?value");
        let (mut found, mut rows) = (replica.ask(&source)?, rows(&of_field));
        found.sort();
        rows.sort();
        rows.dedup();
        same(&format!("answered to {source}"), &found, &rows)?;
    }
    Ok(())
}

fn check_field(replica: &impl Replica, field: &Predicate, due: &[&Triple]) -> Result<(), Wrong> {
    let wanted = |wants: &dyn Fn(&Value) -> bool| -> Vec<Triple> {
        let wanted = due.iter().filter(|(_, _, value, _)| wants(value));
        wanted.map(|triple| (*triple).clone()).collect()
    };
    let query = ScanQuery {
        predicate: Some(field.clone()),
        ..ScanQuery::default()
    };
    same(
        &format!("scanned for {field}"),
        &scanned(replica, &query)?,
        &wanted(&|_| true),
    )?;
    let mut values: Vec<&Value> = due.iter().map(|(_, _, value, _)| value).collect();
    values.sort();
    let middle = values[values.len() / 2];
    let below = ScanQuery {
        to: Some(middle.clone()),
        ..query.clone()
    };
    same(
        &format!("scanned for {field} below {middle:?}"),
        &scanned(replica, &below)?,
        &wanted(&|value| value < middle),
    )?;
    let above = ScanQuery {
        from: Some(middle.clone()),
        ..query
    };
    same(
        &format!("scanned for {field} from {middle:?}"),
        &scanned(replica, &above)?,
        &wanted(&|value| middle <= value),
    )
}

/// Triples as a query for entities and values answers them.
fn rows(triples: &[&Triple]) -> Vec<String> {
    let row = |(subject, _, value, _): &Triple| {
        let cells = [Value::Ref(subject.clone()).to_typed_json(), value.to_typed_json()];
        serde_json::Value::from(cells.to_vec()).to_string()
    };
    triples.iter().map(|triple| row(triple)).collect()
}

fn check_type(replica: &impl Replica, entity_type: &str, due: &[Triple]) -> Result<(), Wrong> {
    let query = ScanQuery {
        entity_type: Some(entity_type.to_owned()),
        ..ScanQuery::default()
    };
    let of_type = due.iter().filter(|triple| triple.1.entity_type() == entity_type);
    let of_type: Vec<Triple> = of_type.cloned().collect();
    same(
        &format!("scanned for entities of {entity_type}"),
        &scanned(replica, &query)?,
        &of_type,
    )
}

fn check_entities(replica: &impl Replica, due: &[Triple]) -> Result<(), Wrong> {
    let entities: BTreeSet<&EntityId> = due.iter().map(|(subject, ..)| subject).collect();
    let step = entities.len() / ENTITIES_READ + 1;
    for entity in entities.into_iter().step_by(step) {
        let mut found: Vec<Triple> = replica.get(entity)?.into_iter().map(triple).collect();
        found.sort();
        let of_entity = due.iter().filter(|(subject, ..)| subject == entity);
        let of_entity: Vec<Triple> = of_entity.cloned().collect();
        same(&format!("read of {entity}"), &found, &of_entity)?;
    }
    Ok(())
}

/// All that a replica shows, in order.
pub(super) fn whole(replica: &impl Replica) -> Result<Vec<Triple>, Wrong> {
    scanned(replica, &ScanQuery::default())
}

/// All pages of a scan, in order.
fn scanned(replica: &impl Replica, query: &ScanQuery) -> Result<Vec<Triple>, Wrong> {
    let mut query = ScanQuery {
        limit: PAGE,
        ..query.clone()
    };
    let mut found = Vec::new();
    loop {
        let page = replica.scan(&query)?;
        found.extend(page.triples.into_iter().map(triple));
        if page.cursor.is_empty() {
            found.sort();
            return Ok(found);
        }
        query.cursor = page.cursor;
    }
}

fn triple(live: LiveTriple) -> Triple {
    (live.subject, live.predicate, live.value, live.timestamp)
}

/// What must show, in order.
fn triples(state: &State) -> Vec<Triple> {
    let mut triples: Vec<Triple> = due(state).into_iter().map(|(_, triple)| triple).collect();
    triples.sort();
    triples
}

fn by_field(triples: &[Triple]) -> BTreeMap<&Predicate, Vec<&Triple>> {
    let mut fields: BTreeMap<&Predicate, Vec<&Triple>> = BTreeMap::new();
    for triple in triples {
        fields.entry(&triple.1).or_default().push(triple);
    }
    fields
}

/// The same, with the commits that brought it.
fn due(state: &State) -> Vec<(Tag, Triple)> {
    let mut due = Vec::new();
    for (subject, entity) in &state.entities {
        let Entity::Live(cells) = entity else { continue };
        for (predicate, cell) in cells {
            let register = cell.register.as_ref().and_then(|register| {
                let value = register.content.as_ref()?;
                Some((register.tag, value, register.timestamp))
            });
            let elements = cell.elements.iter().filter(|(_, element)| element.content);
            let elements = elements.map(|(value, element)| (element.tag, value, element.timestamp));
            let of_cell = register.into_iter().chain(elements);
            due.extend(of_cell.map(|(tag, value, at)| (tag, (subject.clone(), predicate.clone(), value.clone(), at))));
        }
    }
    due
}

/// Both are sorted. Twice the same is not once the same: a row that has gone on shows what its successor shows.
fn same<T: PartialEq + std::fmt::Debug>(how: &str, found: &[T], due: &[T]) -> Result<(), Wrong> {
    if found == due {
        return Ok(());
    }
    let shared = found.iter().zip(due).take_while(|(found, due)| found == due).count();
    let (counts, first) = ((found.len(), due.len()), (found.get(shared), due.get(shared)));
    Err(Wrong::Shown(format!(
        "{how}: {} shown, {} due; the first that differ are {:?} and {:?}",
        counts.0, counts.1, first.0, first.1
    )))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use halcyon_core::{
        change::{Change, ChangeSet},
        clock::{ClientId, NTP64, timestamp},
        id::{NodeId, OriginId, Seq},
    };

    use super::*;
    use crate::model::History;

    /// A replica whose indexes are lists, each of which may be wrong.
    struct Lists {
        whole: Vec<Triple>,
        by_value: Vec<Triple>,
        by_type: Vec<Triple>,
        by_entity: Vec<Triple>,
        answers: Vec<Triple>,
        facts: Vec<(Tag, Triple)>,
    }

    impl Replica for Lists {
        fn scan(&self, query: &ScanQuery) -> Result<ScanPage, Wrong> {
            let index = match (&query.predicate, &query.entity_type) {
                (Some(_), _) => &self.by_value,
                (None, Some(_)) => &self.by_type,
                (None, None) => &self.whole,
            };
            let wanted = index.iter().filter(|(_, predicate, value, _)| {
                query.predicate.as_ref().is_none_or(|wanted| wanted == predicate)
                    && query.from.as_ref().is_none_or(|from| from <= value)
                    && query.to.as_ref().is_none_or(|to| value < to)
            });
            let triples = wanted.cloned().map(shown).collect();
            Ok(ScanPage {
                triples,
                ..ScanPage::default()
            })
        }

        fn get(&self, subject: &EntityId) -> Result<Vec<LiveTriple>, Wrong> {
            let of_entity = self.by_entity.iter().filter(|triple| triple.0 == *subject);
            Ok(of_entity.cloned().map(shown).collect())
        }

        fn ask(&self, query: &str) -> Result<Vec<String>, Wrong> {
            let of_field = self.answers.iter().filter(|triple| query.contains(triple.1.as_str()));
            Ok(rows(&of_field.collect::<Vec<_>>()))
        }

        fn facts(&self) -> Result<Vec<(Tag, Triple)>, Wrong> {
            Ok(self.facts.clone())
        }
    }

    fn shown((subject, predicate, value, timestamp): Triple) -> LiveTriple {
        LiveTriple {
            subject,
            predicate,
            value,
            timestamp,
        }
    }

    fn state() -> State {
        let mut history = History::default();
        for place in 1..=6 {
            let set = ChangeSet {
                timestamp: timestamp(NTP64(place), ClientId::from_random(1)),
                number: place,
                changes: vec![Change::Set {
                    subject: EntityId::new(&format!("e{}", place % 3)).expect("a good name"),
                    predicate: Predicate::new(&format!("thing/f{}", place % 2)).expect("a good name"),
                    value: Value::string(&format!("value {place}")),
                }],
            };
            let origin = OriginId {
                node: NodeId(1),
                incarnation: 1,
            };
            let tag = Tag {
                origin,
                seq: Seq(place),
            };
            history.add(tag, Arc::new(set)).expect("each tag once");
        }
        history.state()
    }

    /// A replica that shows what it must, but for one harm.
    #[track_caller]
    fn check(harm: impl FnOnce(&mut Lists), expected: &str) {
        let state = state();
        let all = triples(&state);
        let mut lists = Lists {
            whole: all.clone(),
            by_value: all.clone(),
            by_type: all.clone(),
            by_entity: all.clone(),
            answers: all,
            facts: due(&state),
        };
        harm(&mut lists);
        let said = match check_pages(&lists, &state).and_then(|()| check_snapshots(&lists, &state)) {
            Ok(()) => String::new(),
            Err(Wrong::Shown(what) | Wrong::Unreadable(what)) => what,
        };
        assert!(
            said.starts_with(expected) && said.is_empty() == expected.is_empty(),
            "{said:?}"
        );
    }

    #[test]
    fn one_triple_too_few_in_any_index_is_found() {
        check(|_| {}, "");
        check(|lists| drop(lists.whole.pop()), "scanned: 5 shown, 6 due");
        check(|lists| drop(lists.by_value.pop()), "scanned for thing/f");
        check(|lists| drop(lists.by_type.pop()), "scanned for entities of thing");
        check(|lists| drop(lists.by_entity.pop()), "read of e");
        check(|lists| drop(lists.answers.pop()), "answered to find");
        check(|lists| drop(lists.facts.pop()), "sent to a peer: 5 shown, 6 due");
    }

    #[test]
    fn a_triple_twice_another_value_another_time_or_another_commit_is_found() {
        check(
            |lists| lists.by_value.push(lists.by_value[0].clone()),
            "scanned for thing/f",
        );
        check(|lists| lists.by_entity[2].2 = Value::string("another"), "read of e");
        let other = timestamp(NTP64(99), ClientId::from_random(1));
        check(|lists| lists.by_type[2].3 = other, "scanned for entities");
        check(|lists| lists.facts[2].0.seq = Seq(99), "sent to a peer: 6 shown, 6 due");
    }
}
