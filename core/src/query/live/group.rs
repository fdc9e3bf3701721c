//! Groups that bindings come to and go from: a row of a table, with what its aggregates need.

use crate::collections::BTreeMap;
use crate::{
    query::{
        answer::{Datum, Row},
        logic::{Aggregate, Expression},
        sum::ExactSum,
    },
    value::Value,
};

/// The bindings of one group, counted.
#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    bindings: u64,
    /// For each column, plain ones too, which stay empty; none without aggregates.
    parts: Box<[Part]>,
}

#[derive(Debug, Clone, Default)]
struct Part {
    values: u64,
    numbers: u64,
    sum: ExactSum,
    /// Each value with how often it is there, where the order or difference of values matters.
    held: BTreeMap<Value, u64>,
}

impl Group {
    pub(super) fn new(columns: &[Expression]) -> Self {
        let is_of_values = |column: &Expression| matches!(column, Expression::Aggregate(..));
        let parts = if columns.iter().any(is_of_values) {
            columns.len()
        } else {
            0
        };
        Self {
            bindings: 0,
            parts: vec![Part::default(); parts].into(),
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.bindings == 0
    }

    /// A binding comes or goes; `values` has what each column reads.
    pub(super) fn put(&mut self, columns: &[Expression], values: &[Datum], comes: bool) {
        step(&mut self.bindings, comes);
        for ((column, part), datum) in columns.iter().zip(&mut self.parts).zip(values) {
            if let (Expression::Aggregate(aggregate, _), Datum::Value(value)) = (column, datum) {
                part.put(*aggregate, value, comes);
            }
        }
    }

    /// The row, its plain columns from `plain`.
    pub(super) fn row(&self, columns: &[Expression], plain: &Row) -> Row {
        let mut plain = plain.iter().cloned();
        let data = columns.iter().enumerate().map(|(at, column)| match column {
            Expression::Var(_) => plain.next().unwrap_or(Datum::Null),
            Expression::CountAll => count(self.bindings),
            Expression::Aggregate(aggregate, _) => self.parts[at].datum(*aggregate),
        });
        data.collect()
    }
}

impl Part {
    fn put(&mut self, aggregate: Aggregate, value: &Value, comes: bool) {
        step(&mut self.values, comes);
        match aggregate {
            Aggregate::Count => {}
            Aggregate::Sum | Aggregate::Avg => {
                if let Value::Number(number) = value {
                    step(&mut self.numbers, comes);
                    if comes {
                        self.sum.add(*number);
                    } else {
                        self.sum.remove(*number);
                    }
                }
            }
            Aggregate::CountDistinct | Aggregate::Min | Aggregate::Max | Aggregate::Collect => {
                let held = self.held.entry(value.clone()).or_default();
                step(held, comes);
                if *held == 0 {
                    self.held.remove(value);
                }
            }
        }
    }

    fn datum(&self, aggregate: Aggregate) -> Datum {
        match aggregate {
            Aggregate::Count => count(self.values),
            Aggregate::CountDistinct => count(self.held.len() as u64),
            Aggregate::Sum => self.sum.get().map(Value::Number).into(),
            Aggregate::Avg => self.sum.average(self.numbers).map(Value::Number).into(),
            Aggregate::Min => self.held.keys().next().cloned().into(),
            Aggregate::Max => self.held.keys().next_back().cloned().into(),
            Aggregate::Collect => {
                let values = self
                    .held
                    .iter()
                    .flat_map(|(value, times)| (0..*times).map(|_| value.clone()));
                Datum::List(values.collect())
            }
        }
    }
}

fn step(count: &mut u64, comes: bool) {
    *count = if comes {
        *count + 1
    } else {
        count.checked_sub(1).expect("only what came goes")
    };
}

fn count(size: u64) -> Datum {
    #[expect(clippy::cast_precision_loss, reason = "no store holds 2^53 triples")]
    let size = size as f64;
    Value::number(size).ok().into()
}
