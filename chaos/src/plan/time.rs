//! Simulated time: whole milliseconds since the start of a run, and spans of them.

use std::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// A moment since the start of a run, or a length of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// So many seconds.
    pub const fn secs(seconds: u64) -> Self {
        Self(seconds * 1_000)
    }

    /// As the standard library has it.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// The length from `earlier`; nothing if that is later.
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

impl Add for Millis {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Millis {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03} s", self.0 / 1_000, self.0 % 1_000);
        f.pad(&text)
    }
}

/// From `start` up to, not including, `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    /// The first moment inside.
    pub start: Millis,
    /// The first moment after.
    pub end: Millis,
}

impl Span {
    /// Whether `at` is inside.
    pub fn contains(&self, at: Millis) -> bool {
        self.start <= at && at < self.end
    }

    /// Whether the two share a moment.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_reads_as_seconds() {
        assert_eq!(Millis(12_034).to_string(), "12.034 s");
        assert_eq!(format!("{:>10}", Millis(5)), "   0.005 s");
        assert_eq!(Millis::secs(2).duration(), Duration::from_secs(2));
    }

    #[test]
    fn spans_that_only_touch_do_not_overlap() {
        let span = |start, end| Span {
            start: Millis(start),
            end: Millis(end),
        };
        assert!(span(0, 5).overlaps(&span(4, 6)));
        assert!(!span(0, 5).overlaps(&span(5, 6)));
        assert!(span(0, 5).contains(Millis(0)) && !span(0, 5).contains(Millis(5)));
    }
}
