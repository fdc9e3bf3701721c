//! What a change does to the triples that show.

use super::term::{EntityNumber, PredicateNumber, Term};

/// A triple that shows, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Triple {
    /// The entity.
    pub subject: EntityNumber,
    /// The field.
    pub predicate: PredicateNumber,
    /// The value.
    pub object: Term,
}

/// Triples that came and went. No triple is in both, none is in one of them twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// They show now.
    pub added: Vec<Triple>,
    /// They showed before.
    pub removed: Vec<Triple>,
}

impl Delta {
    /// Whether nothing changed.
    pub const fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    /// What several did together, in this order.
    #[must_use]
    pub fn joined(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut joined = Self::default();
        for part in parts {
            joined.added.extend(part.added);
            joined.removed.extend(part.removed);
        }
        joined.net()
    }

    /// Goes on with what a later change did. [`Self::net`] then makes one delta of all.
    pub fn extend(&mut self, later: Self) {
        if self.is_empty() {
            *self = later;
        } else {
            self.added.extend(later.added);
            self.removed.extend(later.removed);
        }
    }

    /// Takes out what came and went.
    pub fn net(mut self) -> Self {
        if self.removed.is_empty() || self.added.is_empty() {
            return self;
        }
        self.added.sort_unstable();
        self.removed.sort_unstable();
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        let (mut plus, mut minus) = (runs(&self.added).peekable(), runs(&self.removed).peekable());
        loop {
            let next = match (plus.peek(), minus.peek()) {
                (Some((a, _)), Some((b, _))) => *a.min(b),
                (Some((a, _)), None) => *a,
                (None, Some((b, _))) => *b,
                (None, None) => break,
            };
            let count = |found: Option<(Triple, usize)>| found.map_or(0, |(_, count)| count);
            let came = count(plus.next_if(|(triple, _)| *triple == next));
            let went = count(minus.next_if(|(triple, _)| *triple == next));
            if came > went {
                added.push(next);
            } else if went > came {
                removed.push(next);
            }
        }
        Self { added, removed }
    }
}

/// Each triple of a sorted list with how often it is there.
fn runs(sorted: &[Triple]) -> impl Iterator<Item = (Triple, usize)> {
    sorted.chunk_by(|a, b| a == b).map(|run| (run[0], run.len()))
}
