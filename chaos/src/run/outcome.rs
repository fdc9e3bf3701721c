//! What came of a run.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::world::trace::Trace;

/// A rule that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which rule: the name of its oracle. Shrinking keeps to it.
    pub oracle: String,
    /// What was seen, in words.
    pub what: String,
    /// Simulated milliseconds since the beginning.
    pub at_ms: u64,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.at_ms / 1_000, self.at_ms % 1_000);
        write!(f, "{seconds}.{millis:03} s  {}: {}", self.oracle, self.what)
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Rules that did not hold, in the order in which that was seen.
    pub violations: Vec<Violation>,
    /// How often each kind of event, each marked path and each rare path was met.
    pub reached: BTreeMap<&'static str, u64>,
    /// Everything that happened.
    pub trace: Trace,
    /// How long the simulated cluster lived.
    pub simulated: Duration,
    /// How long that took.
    pub took: Duration,
}

impl Outcome {
    /// Simulated seconds a second.
    pub fn speed(&self) -> f64 {
        self.simulated.as_secs_f64() / self.took.as_secs_f64().max(1e-9)
    }
}
