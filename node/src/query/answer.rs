//! Understanding a query, answering it in chunks, explaining it.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use halcyon_core::query::{
    self,
    answer::{Datum, Row, Rows},
    error::QueryError,
    eval::{Budget, EvalError, Stream, evaluate},
    logic,
    plan::{Counters, Plan, plan},
};
use thiserror::Error;

use super::{
    Snapshot,
    limits::{MESSAGE_ROWS_BYTES, MESSAGE_ROWS_MAX, ROW_BYTES_MAX, STEPS_MAX},
    store::{self, Fault, Store},
};

/// A query that was understood.
#[derive(Debug, Clone)]
pub struct Asked {
    query: Arc<logic::Query>,
    is_json: bool,
}

/// What one query may cost.
#[derive(Clone, Copy)]
pub struct Bounds<'a> {
    /// Rows of the answer.
    pub rows: u64,
    /// Bytes that it holds while it is answered.
    pub memory: u64,
    /// Bytes of the answer.
    pub answer: u64,
    /// How long it may take, for the message; `go_on` keeps the time.
    pub time: Duration,
    /// Whether to go on: asked every tenth of a millisecond or so.
    pub go_on: &'a dyn Fn() -> bool,
}

impl std::fmt::Debug for Bounds<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bounds")
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Names of the columns; none where rows are objects. It comes first.
    Columns(Vec<String>),
    /// Rows in typed JSON.
    Rows(Vec<String>),
    /// It comes last.
    End {
        /// How many there were.
        rows: u64,
        /// Where to go on, as `after` takes it in the form in which the query was put; empty: nowhere.
        next: String,
    },
}

/// How a query is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// For people.
    pub text: String,
    /// For machines.
    pub json: serde_json::Value,
}

/// Why there is no answer, or not all of it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Failed {
    /// Too many rows.
    #[error(
        "the answer, or an include in all of its rows together, has more than {0} rows; ask for a `limit` there, and \
         page on with `after`"
    )]
    Rows(u64),
    /// Too many bytes.
    #[error("the answer has more than {0} bytes; ask for a `limit` and page on with `after`, or for fewer fields")]
    Bytes(u64),
    /// One row is too long.
    #[error("a row of the answer has more than {0} bytes; collect less in it, or give its includes a `limit`")]
    Row(usize),
    /// Too much memory.
    #[error("the query needs more than {0} bytes of memory; group, sort or derive less")]
    Memory(u64),
    /// Too long.
    #[error(
        "the query took more than {}; make it more selective, or ask for a `limit` in an order that one field gives",
        humantime::format_duration(*.0)
    )]
    Time(Duration),
    /// Too much work.
    #[error("the query took more than {0} steps; make it more selective")]
    Steps(u64),
    /// A count that no number shows.
    #[error("{}", EvalError::CountTooLarge)]
    Count,
    /// Whoever asked wants no more.
    #[error("nobody waits for the answer any more")]
    Gone,
    /// The store failed.
    #[error("the index cannot be read: {0}")]
    Store(Arc<str>),
}

impl Asked {
    /// Reads a query: JSON if it begins with a brace, else text.
    pub fn read(source: &str) -> Result<Self, QueryError> {
        Ok(Self {
            query: Arc::new(query::read(source)?),
            is_json: query::is_json(source),
        })
    }

    /// Answers from a snapshot, part by part, until the taker breaks.
    pub fn answer(
        &self,
        snapshot: &Snapshot,
        bounds: Bounds<'_>,
        take: &mut dyn FnMut(Part) -> ControlFlow<()>,
    ) -> Result<(), Failed> {
        let store = store_of(snapshot, bounds);
        let mut sending = Sending {
            bounds,
            take,
            rows: 0,
            bytes: 0,
            chunk: Vec::new(),
            chunk_bytes: 0,
        };
        let plan = plan(Arc::clone(&self.query), &store);
        // What needs no order and no page goes out as it is found.
        let streams = matches!(self.query.select.shape, logic::Shape::Table(_)) && self.query.select.limit.is_none();
        let done = if streams {
            self.stream(&plan, &store, &mut sending)
        } else {
            self.whole(&plan, &store, &mut sending)
        };
        done.map_err(|error| reason(error, &store, bounds))
    }

    /// How a query is answered; with `analyze` it is, and rows are counted.
    pub fn explain(&self, snapshot: &Snapshot, bounds: Bounds<'_>, analyze: bool) -> Result<Explained, Failed> {
        let store = store_of(snapshot, bounds);
        let plan = plan(Arc::clone(&self.query), &store);
        let counters = analyze.then(|| run(&plan, &store, bounds)).transpose();
        let counters = counters.map_err(|error| reason(error, &store, bounds))?;
        if store.fault().is_some() {
            return Err(reason(EvalError::Interrupted.into(), &store, bounds));
        }
        Ok(Explained {
            text: plan.explain(counters.as_ref()),
            json: plan.explain_json(counters.as_ref()),
        })
    }

    fn stream(&self, plan: &Plan, store: &Store<'_>, sending: &mut Sending<'_>) -> Result<(), Ended> {
        let bounds = sending.bounds;
        let interrupt = || interrupt(bounds);
        let mut stream = Stream::new(plan, store, budget(bounds), Some(&interrupt))?;
        sending.give(Part::Columns(self.columns()))?;
        while let Some(tuples) = stream.next_tuples()? {
            for tuple in &tuples {
                sending.row(row_json(tuple))?;
            }
        }
        sending.end(String::new())
    }

    fn whole(&self, plan: &Plan, store: &Store<'_>, sending: &mut Sending<'_>) -> Result<(), Ended> {
        let bounds = sending.bounds;
        let interrupt = || interrupt(bounds);
        let answer = evaluate(plan, store, budget(bounds), Some(&interrupt))?.answer;
        sending.give(Part::Columns(self.columns()))?;
        match answer.rows {
            Rows::Table { rows, .. } => {
                for row in rows {
                    sending.row(row_json(&row))?;
                }
            }
            Rows::Entities(objects) => {
                for object in objects {
                    sending.row(object.to_json(Datum::to_typed_json).to_string())?;
                }
            }
        }
        let next = answer.next.map_or_else(String::new, |cursor| {
            if self.is_json {
                cursor.to_typed_json().to_string()
            } else {
                cursor.to_string()
            }
        });
        sending.end(next)
    }

    fn columns(&self) -> Vec<String> {
        match &self.query.select.shape {
            logic::Shape::Table(columns) => columns.iter().map(|column| column.name.to_string()).collect(),
            logic::Shape::Entities { .. } => Vec::new(),
        }
    }
}

/// How an answer ended early.
enum Ended {
    Eval(EvalError),
    Failed(Failed),
}

impl From<EvalError> for Ended {
    fn from(error: EvalError) -> Self {
        Self::Eval(error)
    }
}

/// An answer on its way out.
struct Sending<'a> {
    bounds: Bounds<'a>,
    take: &'a mut dyn FnMut(Part) -> ControlFlow<()>,
    rows: u64,
    bytes: u64,
    chunk: Vec<String>,
    chunk_bytes: usize,
}

impl Sending<'_> {
    fn give(&mut self, part: Part) -> Result<(), Ended> {
        if (self.take)(part).is_break() {
            return Err(Ended::Failed(Failed::Gone));
        }
        Ok(())
    }

    fn row(&mut self, row: String) -> Result<(), Ended> {
        self.rows += 1;
        if row.len() > ROW_BYTES_MAX {
            return Err(Ended::Failed(Failed::Row(ROW_BYTES_MAX)));
        }
        self.bytes += row.len() as u64;
        if self.rows > self.bounds.rows {
            return Err(Ended::Failed(Failed::Rows(self.bounds.rows)));
        }
        if self.bytes > self.bounds.answer {
            return Err(Ended::Failed(Failed::Bytes(self.bounds.answer)));
        }
        self.chunk_bytes += row.len();
        self.chunk.push(row);
        if self.chunk_bytes >= MESSAGE_ROWS_BYTES || self.chunk.len() >= MESSAGE_ROWS_MAX {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Ended> {
        self.chunk_bytes = 0;
        let chunk = std::mem::take(&mut self.chunk);
        self.give(Part::Rows(chunk))
    }

    fn end(&mut self, next: String) -> Result<(), Ended> {
        if !self.chunk.is_empty() {
            self.flush()?;
        }
        let rows = self.rows;
        self.give(Part::End { rows, next })
    }
}

/// Answers for nothing but what it takes.
fn run(plan: &Plan, store: &Store<'_>, bounds: Bounds<'_>) -> Result<Counters, Ended> {
    let interrupt = || interrupt(bounds);
    Ok(evaluate(plan, store, budget(bounds), Some(&interrupt))?.counters)
}

fn row_json(row: &Row) -> String {
    let cells: serde_json::Value = row.iter().map(Datum::to_typed_json).collect();
    cells.to_string()
}

fn store_of<'a>(snapshot: &Snapshot, bounds: Bounds<'a>) -> Store<'a> {
    let bounds = store::Bounds {
        go_on: bounds.go_on,
        bytes_max: usize::try_from(bounds.memory).unwrap_or(usize::MAX),
    };
    Store::new(snapshot.view.clone(), Arc::clone(&snapshot.statistics), bounds)
}

fn budget(bounds: Bounds<'_>) -> Budget {
    Budget {
        fuel: STEPS_MAX,
        tuples: usize::try_from(bounds.rows).unwrap_or(usize::MAX),
        bytes: usize::try_from(bounds.memory).unwrap_or(usize::MAX),
    }
}

fn interrupt(bounds: Bounds<'_>) -> ControlFlow<()> {
    if (bounds.go_on)() {
        ControlFlow::Continue(())
    } else {
        ControlFlow::Break(())
    }
}

/// Why an answer ended, in the words of the bounds. What the store knows goes before what the engine saw of it.
fn reason(ended: Ended, store: &Store<'_>, bounds: Bounds<'_>) -> Failed {
    match (store.fault(), ended) {
        (Some(Fault::Read(text)), _) => Failed::Store(text),
        (Some(Fault::Memory), _) | (None, Ended::Eval(EvalError::OutOfMemory(_))) => Failed::Memory(bounds.memory),
        (Some(Fault::Stopped), _) | (None, Ended::Eval(EvalError::Interrupted)) => Failed::Time(bounds.time),
        (None, Ended::Eval(EvalError::TooManyTuples(_))) => Failed::Rows(bounds.rows),
        (None, Ended::Eval(EvalError::OutOfFuel(steps))) => Failed::Steps(steps),
        (None, Ended::Eval(EvalError::CountTooLarge)) => Failed::Count,
        (None, Ended::Eval(EvalError::Store(failure))) => Failed::Store(failure.0),
        (None, Ended::Failed(failed)) => failed,
    }
}
