//! Random schemas, data over them, and changes of that data. Small on purpose: values meet, references dangle, and a
//! field now and then holds what its neighbours do not.

use super::{Triple, choices::Choices};
use crate::collections::BTreeSet;
use crate::{
    change::Change,
    id::{EntityId, Predicate},
    query::logic::Kind,
    value::Value,
};

/// Which types there are, with which fields.
#[derive(Debug, Clone)]
pub struct Schema {
    /// At least one.
    pub fields: Vec<FieldSchema>,
}

/// A field of a type.
#[derive(Debug, Clone)]
pub struct FieldSchema {
    /// Its predicate.
    pub predicate: Predicate,
    /// What its values mostly are.
    pub kind: Kind,
    /// Whether an entity may have several.
    pub many: bool,
}

/// A change of a set of triples.
#[derive(Debug, Clone, Default)]
pub struct Edit {
    /// Triples that were there.
    pub removed: Vec<Triple>,
    /// Triples that were not.
    pub added: Vec<Triple>,
}

const TYPES: [&str; 3] = ["a", "b", "c"];

/// Some fields are of several types, so that a path through an untyped reference meets both.
const FIELDS: [(&str, Kind, bool); 9] = [
    ("name", Kind::String, false),
    ("rank", Kind::Number, false),
    ("to", Kind::Ref, false),
    ("up", Kind::Ref, false),
    ("tags", Kind::String, true),
    ("links", Kind::Ref, true),
    ("on", Kind::Boolean, false),
    ("at", Kind::Date, false),
    ("marks", Kind::Number, true),
];

/// Entities that have triples.
const ENTITIES: usize = 7;

/// A schema: one or more types with the first fields, and whatever else the choices give them.
pub fn schema(choices: &mut Choices<'_>) -> Schema {
    let types = 1 + choices.below(TYPES.len());
    let mut fields = Vec::new();
    for of_type in &TYPES[..types] {
        for (at, (field, kind, many)) in FIELDS.iter().enumerate() {
            if at < 3 || choices.one_in(3) {
                fields.push(FieldSchema {
                    predicate: predicate(&format!("{of_type}/{field}")),
                    kind: *kind,
                    many: *many,
                });
            }
        }
    }
    Schema { fields }
}

/// Data: up to so many triples, and mostly more than half of that.
pub fn data(schema: &Schema, triples_max: usize, choices: &mut Choices<'_>) -> BTreeSet<Triple> {
    let mut data = BTreeSet::new();
    for _ in 0..triples_max - choices.below(triples_max / 2 + 1) {
        let edit = write(schema, &data, choices);
        edit.apply(&mut data);
    }
    data
}

/// One to four writes, each a new value, a changed one, one taken away, or a whole entity deleted.
pub fn edit(schema: &Schema, data: &BTreeSet<Triple>, choices: &mut Choices<'_>) -> Edit {
    let mut after = data.clone();
    for _ in 0..=choices.below(4) {
        let held: Vec<&Triple> = after.iter().collect();
        let edit = match choices.below(4) {
            _ if held.is_empty() => write(schema, &after, choices),
            2 => Edit {
                removed: vec![(*choices.pick(&held)).clone()],
                added: Vec::new(),
            },
            3 if choices.one_in(3) => {
                let subject = &choices.pick(&held).0;
                let removed = after.iter().filter(|triple| triple.0 == *subject).cloned().collect();
                let added = Vec::new();
                Edit { removed, added }
            }
            _ => write(schema, &after, choices),
        };
        edit.apply(&mut after);
    }
    Edit {
        removed: data.difference(&after).cloned().collect(),
        added: after.difference(data).cloned().collect(),
    }
}

/// One to three changes of any kind, as clients write them.
pub fn changes(schema: &Schema, choices: &mut Choices<'_>) -> Vec<Change> {
    (0..=choices.below(3)).map(|_| change(schema, choices)).collect()
}

fn change(schema: &Schema, choices: &mut Choices<'_>) -> Change {
    let field = choices.pick(&schema.fields);
    let subject = entity(choices.below(ENTITIES));
    let predicate = field.predicate.clone();
    let value = stored_value(field.kind, choices);
    match choices.below(12) {
        0..=4 if field.many => Change::Add {
            subject,
            predicate,
            value,
        },
        0..=7 => Change::Set {
            subject,
            predicate,
            value,
        },
        8 => Change::Unset { subject, predicate },
        9 | 10 => Change::Remove {
            subject,
            predicate,
            value,
        },
        _ => Change::Delete { subject },
    }
}

impl Edit {
    /// Makes the change.
    pub fn apply(&self, data: &mut BTreeSet<Triple>) {
        for triple in &self.removed {
            data.remove(triple);
        }
        data.extend(self.added.iter().cloned());
    }
}

fn write(schema: &Schema, data: &BTreeSet<Triple>, choices: &mut Choices<'_>) -> Edit {
    let field = choices.pick(&schema.fields);
    let subject = entity(choices.below(ENTITIES));
    let added = vec![(
        subject.clone(),
        field.predicate.clone(),
        stored_value(field.kind, choices),
    )];
    let same_cell = |triple: &&Triple| triple.0 == subject && triple.1 == field.predicate;
    let removed = if field.many {
        Vec::new()
    } else {
        data.iter().filter(same_cell).cloned().collect()
    };
    Edit { removed, added }
}

/// A value as data holds it: of the field's type, but for one in nine.
fn stored_value(kind: Kind, choices: &mut Choices<'_>) -> Value {
    if choices.one_in(9) {
        let other = *choices.pick(&Kind::ALL);
        return value(other, choices);
    }
    value(kind, choices)
}

/// A value of a type, out of few.
pub fn value(kind: Kind, choices: &mut Choices<'_>) -> Value {
    let small = choices.below(6);
    match kind {
        Kind::String => Value::string(["x", "xy", "y", "", "zé", "\"q\""][small]),
        Kind::Number => Value::number([1.0, 2.0, 3.0, -1.5, 0.1, 1e300][small]).expect("none of them is NaN"),
        Kind::Boolean => Value::Boolean(small.is_multiple_of(2)),
        Kind::Date => Value::Date([0, 1, 86_400_000, -1, 1_767_225_600_000, i64::MAX][small]),
        Kind::Ref => Value::Ref(entity(choices.below(ENTITIES + 2))),
        Kind::Bytes => Value::Bytes(vec![0xab; small].into()),
        Kind::Json => Value::Json(["{}", "[1]", "null", "{\"a\":1}", "0", "\"\""][small].into()),
    }
}

/// All entities that can have triples.
pub fn entities() -> impl Iterator<Item = EntityId> {
    (0..ENTITIES).map(entity)
}

/// The entity of a number. The last two that values refer to have no triples.
pub fn entity(number: usize) -> EntityId {
    EntityId::new(&format!("e{number}")).expect("it is short and plain")
}

fn predicate(text: &str) -> Predicate {
    Predicate::new(text).expect("it is type/field")
}
