//! Finding the entities that keys rest on, now.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    super::{Budget, EvalError, Query, Shape, Triples, Value, Var, entities::objects_of, probe},
    witness::{Witness, Witnesses},
};
use crate::query::{
    answer::{Member, Object},
    eval::Stream,
    logic::{Field, FieldValue, Filter},
    plan,
    triples::{EntityNumber, Term},
};

/// Entities by key.
pub(super) type Found = BTreeMap<Term, BTreeSet<EntityNumber>>;

/// Which entities show in the objects of each key, by include.
type Shown = BTreeSet<(Term, usize, Term)>;

#[derive(Debug)]
pub(super) struct Supports {
    key: Var,
    is_table: bool,
    witnesses: Witnesses,
    /// The query's objects with nothing but their includes; the places of the includes go with the fields.
    objects: Option<Query>,
}

impl Supports {
    pub(super) fn new(query: &Query, key: Var, witnesses: Witnesses) -> Self {
        let objects = witnesses.has_includes.then(|| {
            let mut objects = query.clone();
            objects.select.order = Vec::new();
            objects.select.after = None;
            objects.select.limit = None;
            if let Shape::Entities { fields, .. } = &mut objects.select.shape {
                keep_includes(fields);
            }
            objects
        });
        Self {
            key,
            is_table: matches!(query.select.shape, Shape::Table(_)),
            witnesses,
            objects,
        }
    }

    /// What all keys rest on, or those of `only`; keys without bindings are left out.
    pub(super) fn find<T: Triples + ?Sized>(
        &self,
        only: Option<&[Value]>,
        store: &T,
        budget: Budget,
    ) -> Result<Found, EvalError> {
        let mut found = Found::new();
        let nothing = Shown::new();
        for witness in &self.witnesses.body {
            self.ask(witness, only, &nothing, (store, budget), &mut found)?;
        }
        if !self.is_table {
            for (key, entities) in &mut found {
                entities.extend(key.as_entity());
            }
        }
        if found.is_empty() || (self.objects.is_none() && self.witnesses.rows.is_empty()) {
            return Ok(found);
        }
        let members: BTreeSet<Value> = found.keys().map(|term| store.value(*term)).collect();
        let members: Vec<Value> = members.into_iter().collect();
        let mut shown = Shown::new();
        if let Some(objects) = &self.objects {
            let Shape::Entities { fields, .. } = &objects.select.shape else {
                return Ok(found);
            };
            let rows = probe(objects, Some((self.key, &members)), store, budget)?;
            for object in objects_of(rows) {
                let Some(key) = store.term(&Value::Ref(object.id.clone())) else {
                    continue;
                };
                let entities = found.entry(key).or_default();
                walk(&object, fields, &mut 0, &mut |place, id| {
                    let term = store.term(&Value::Ref(id.clone()));
                    entities.extend(term.and_then(Term::as_entity));
                    shown.extend(term.map(|term| (key, place, term)));
                });
            }
        }
        for witness in &self.witnesses.rows {
            self.ask(witness, Some(&members), &shown, (store, budget), &mut found)?;
        }
        Ok(found)
    }

    fn ask<T: Triples + ?Sized>(
        &self,
        witness: &Witness,
        only: Option<&[Value]>,
        shown: &Shown,
        (store, budget): (&T, Budget),
        found: &mut Found,
    ) -> Result<(), EvalError> {
        let mut query = witness.query.clone();
        if let Some(values) = only {
            query.select.body.filters.push(Filter::In(self.key, values.to_vec()));
        }
        let plan = plan::plan(Arc::new(query), store);
        let mut stream = Stream::new(&plan, store, budget, None)?;
        let width = stream.width();
        while let Some(terms) = stream.next_terms()? {
            for row in terms.chunks_exact(width) {
                let key = row[0];
                if witness
                    .only_shown
                    .is_some_and(|place| !shown.contains(&(key, place, row[1])))
                {
                    continue;
                }
                let entities = found.entry(key).or_default();
                // A table's key may be what a triple holds, and need no entity.
                let from = usize::from(self.is_table && !witness.has_key_as_subject);
                entities.extend(row[from..].iter().filter_map(|term| term.as_entity()));
            }
        }
        Ok(())
    }
}

/// Leaves out what is no include.
pub(super) fn keep_includes(fields: &mut Vec<Field>) {
    fields.retain_mut(|field| match &mut field.value {
        FieldValue::Many(select) | FieldValue::First(select) => {
            if let Shape::Entities { fields, .. } = &mut select.shape {
                keep_includes(fields);
            }
            true
        }
        FieldValue::One(_) | FieldValue::All(_) | FieldValue::Everything => false,
    });
}

/// Shows the entities in an object, with the place of their include: includes are counted as they are written, each
/// before those in it.
fn walk(object: &Object, fields: &[Field], place: &mut usize, show: &mut impl FnMut(usize, &crate::id::EntityId)) {
    for (field, (_, member)) in fields.iter().zip(&object.members) {
        let this = *place;
        *place += 1;
        let (FieldValue::Many(select) | FieldValue::First(select)) = &field.value else {
            continue;
        };
        let Shape::Entities { fields, .. } = &select.shape else {
            continue;
        };
        let inside = *place;
        let mut objects: Vec<&Object> = Vec::new();
        match member {
            Member::Object(object) => objects.push(object),
            Member::Objects(all) => objects.extend(all),
            Member::Datum(_) => {}
        }
        for object in objects {
            show(this, &object.id);
            *place = inside;
            walk(object, fields, place, show);
        }
        *place = inside + count(fields);
    }
}

/// Includes in these fields, those inside of them too.
fn count(fields: &[Field]) -> usize {
    let inside = fields.iter().map(|field| match &field.value {
        FieldValue::Many(select) | FieldValue::First(select) => match &select.shape {
            Shape::Entities { fields, .. } => 1 + count(fields),
            Shape::Table(_) => 1,
        },
        FieldValue::One(_) | FieldValue::All(_) | FieldValue::Everything => 0,
    });
    inside.sum()
}
