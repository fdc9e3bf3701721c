//! One run: a plan carried out on a simulated cluster, and what came of it.
//!
//! Phases: the cluster forms and nothing goes wrong; clients work while the plan's faults come and go; everything that
//! can heal is healed and the clients finish; the cluster settles. Safety is checked all the time, liveness at the end.

mod faults;
mod idle;
mod links;
mod machines;
mod node;
mod operator;
mod order;
mod outcome;
mod releases;
mod runner;
mod settled;
mod stage;

/// Paths that a sweep must reach now and then: marked ones, rare ones, and events of a probe. A sweep that never
/// reaches one tests less than it seems to.
pub const MARKS: [&str; 20] = [
    "catch-up.began",
    "catch-up.broke",
    "catch-up.cut",
    "catch-up.ended",
    "catch-up.newer-epoch",
    "catch-up.resumed",
    "catch-up.small-batches",
    "collection.ended",
    "gossip.as-poke",
    "gossip.gap",
    "metadata.answer-lost",
    "metadata.repeated",
    "metadata.small-log",
    "metadata.snapshot-installed",
    "push.answer-lost",
    "push.newer-release",
    "storage.damaged",
    "storage.erased",
    "storage.fold-early",
    "storage: a change set cannot be applied",
];

pub(crate) use operator::connect as connect_operator;
pub use outcome::{Outcome, Violation};
pub use runner::run;
pub use stage::{Access, Order, Phase, Place, Stage};
