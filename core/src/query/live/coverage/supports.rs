//! Finding the entities that keys rest on, now.

use super::{
    super::{EvalError, Ground, Keyed, Query, Shape, Triples, Value, Var},
    witness::{Witness, Witnesses},
};
use crate::collections::{BTreeMap, BTreeSet};
use crate::query::{
    answer::{Member, Object},
    logic::{Field, FieldValue},
    triples::{EntityNumber, Term},
};

/// About what a query with its plan takes, and what one for objects in objects does.
const PLAN_BYTES: usize = 2 << 10;
const INCLUDES_BYTES: usize = 5 << 10;

/// Entities by key.
pub(super) type Found = BTreeMap<Term, BTreeSet<EntityNumber>>;

/// Which entities show in the objects of each key, by include.
type Shown = BTreeSet<(Term, usize, Term)>;

#[derive(Debug)]
pub(super) struct Supports {
    is_table: bool,
    /// The outermost body's witnesses. A key without a row of theirs has no binding.
    body: Box<[Asked]>,
    /// What the rows of such keys rest on besides.
    rows: Box<[Asked]>,
    /// The query's objects with nothing but their includes; the places of the includes go with the fields.
    objects: Option<(Keyed, Vec<Field>)>,
}

/// A witness, to be asked again and again.
#[derive(Debug)]
struct Asked {
    witness: Keyed,
    has_key_as_subject: bool,
    only_shown: Option<usize>,
}

impl Supports {
    pub(super) fn new(query: &Query, key: Var, witnesses: Witnesses) -> Self {
        let objects = witnesses.has_includes.then(|| {
            let mut objects = query.clone();
            objects.select.order = Vec::new();
            objects.select.after = None;
            objects.select.limit = None;
            let mut includes = Vec::new();
            if let Shape::Entities { fields, .. } = &mut objects.select.shape {
                keep_includes(fields);
                includes.clone_from(fields);
            }
            (Keyed::new(objects, key), includes)
        });
        let asked = |witness: Witness| Asked {
            witness: Keyed::new(witness.query, key),
            has_key_as_subject: witness.has_key_as_subject,
            only_shown: witness.only_shown,
        };
        Self {
            is_table: matches!(query.select.shape, Shape::Table(_)),
            body: witnesses.body.into_iter().map(asked).collect(),
            rows: witnesses.rows.into_iter().map(asked).collect(),
            objects,
        }
    }

    /// Only given keys will be asked for from now on.
    pub(super) fn narrow(&mut self) {
        for asked in self.body.iter_mut().chain(&mut self.rows) {
            asked.witness.narrow();
        }
    }

    /// Reads a little of what the next [`Self::find`] will read.
    pub(super) fn warm(&self) -> usize {
        self.body.iter().map(|asked| asked.witness.warm()).sum()
    }

    /// About how many bytes all of this takes.
    pub(super) fn bytes(&self) -> usize {
        let all = self.body.iter().chain(&self.rows);
        let planned = all.filter(|asked| asked.witness.is_planned()).count();
        planned * PLAN_BYTES + self.objects.as_ref().map_or(0, |_| INCLUDES_BYTES)
    }

    /// What all keys rest on, or those of `only`; keys without bindings are left out.
    pub(super) fn find<T: Triples + ?Sized>(
        &mut self,
        only: Option<&[Term]>,
        store: &T,
        ground: Ground<'_>,
    ) -> Result<Found, EvalError> {
        let mut found = Found::new();
        let nothing = Shown::new();
        let is_table = self.is_table;
        for asked in &mut self.body {
            asked.ask(only, (&nothing, is_table), (store, ground), &mut found)?;
        }
        if !is_table {
            for (key, entities) in &mut found {
                entities.extend(key.as_entity());
            }
        }
        if found.is_empty() || (self.objects.is_none() && self.rows.is_empty()) {
            return Ok(found);
        }
        let members: Vec<Term> = found.keys().copied().collect();
        let mut shown = Shown::new();
        if let Some((objects, fields)) = &mut self.objects {
            // Those that a `not` keeps out show nothing.
            let show = objects.find(Some(&members), store, ground)?.terms.into_iter();
            let show: Vec<EntityNumber> = show.filter_map(Term::as_entity).collect();
            for object in objects.objects(&show, store, ground)? {
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
        for asked in &mut self.rows {
            asked.ask(Some(&members), (&shown, is_table), (store, ground), &mut found)?;
        }
        Ok(found)
    }
}

impl Asked {
    fn ask<T: Triples + ?Sized>(
        &mut self,
        only: Option<&[Term]>,
        (shown, is_table): (&Shown, bool),
        (store, ground): (&T, Ground<'_>),
        found: &mut Found,
    ) -> Result<(), EvalError> {
        // A table's key may be what a triple holds, and need no entity.
        let from = usize::from(is_table && !self.has_key_as_subject);
        let is_shown = |place: usize, row: &[Term]| shown.contains(&(row[0], place, row[1]));
        for row in self.witness.find(only, store, ground)?.rows() {
            if self.only_shown.is_none_or(|place| is_shown(place, row)) {
                let entities = found.entry(row[0]).or_default();
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
            Member::Objects(all) => objects.extend(all.iter().map(|object| &**object)),
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
