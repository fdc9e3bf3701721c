//! What is wrong with a query, where, and what would be right.

use std::fmt::{self, Write};

use thiserror::Error;

use super::place::{Excerpt, Place};
use crate::codec::DecodeError;

/// Why a query is not understood, or refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryError {
    /// What is wrong.
    pub problem: Problem,
    /// Where.
    pub at: Place,
    /// What would be right, if that can be guessed.
    pub help: Option<String>,
}

/// What is wrong with a query.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Problem {
    /// Something else was due here.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What was due.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// A quotation without its end.
    #[error("{0} is not closed")]
    Unclosed(&'static str),
    /// A constant that cannot be read.
    #[error("{text} is not {what}: {rule}")]
    Malformed {
        /// How it is written.
        text: String,
        /// What it was taken for.
        what: &'static str,
        /// What holds for such.
        rule: &'static str,
    },
    /// A JSON value that is no value.
    #[error(transparent)]
    Value(#[from] DecodeError),
    /// More than a query may have.
    #[error("{what}: {size} are too many, at most {max} are allowed")]
    OverLimit {
        /// Of what.
        what: &'static str,
        /// How many.
        size: usize,
        /// At most.
        max: usize,
    },
    /// A key that means nothing here.
    #[error("unknown key {key:?}; known here: {known}")]
    UnknownKey {
        /// The key.
        key: String,
        /// Those that would do.
        known: String,
    },
    /// A key that must be there.
    #[error("the key {0:?} is missing")]
    MissingKey(&'static str),
    /// A variable that nothing binds.
    #[error("nothing binds ?{var}, which {user} needs")]
    Unbound {
        /// The variable.
        var: String,
        /// What uses it.
        user: &'static str,
    },
    /// A comparison that can never say anything.
    #[error("{0}")]
    Senseless(String),
    /// Two things of one name.
    #[error("{what} {name:?} is there twice")]
    Twice {
        /// What.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// An order by something that is not asked for.
    #[error("{0} is no column of this query")]
    NoColumn(String),
    /// A rule that is not defined.
    #[error("there is no rule {0:?}")]
    UnknownRule(String),
    /// A rule that nothing uses.
    #[error("nothing uses the rule {0:?}")]
    UnusedRule(String),
    /// A rule used with another number of columns than it has.
    #[error("the rule {name:?} has {expected} columns, here are {found}")]
    Arity {
        /// The rule.
        name: String,
        /// Columns of its first definition.
        expected: usize,
        /// Columns here.
        found: usize,
    },
    /// A rule that needs its own complement, or an aggregate of itself.
    #[error("the rule {name:?} depends on itself through {through}")]
    NotStratified {
        /// The rule.
        name: String,
        /// `not`, or an aggregate.
        through: &'static str,
    },
    /// A clause where it has no meaning.
    #[error("{what} cannot stand {place}")]
    Misplaced {
        /// What.
        what: &'static str,
        /// Where.
        place: &'static str,
    },
    /// A cursor that does not fit the order.
    #[error("the cursor has {found} places, the order has {expected}: {rule}")]
    CursorShape {
        /// Those of the order.
        expected: usize,
        /// Those of the cursor.
        found: usize,
        /// What they are.
        rule: &'static str,
    },
    /// Two disjunctions that each need the other first.
    #[error("these `or` groups each need a variable that another of them binds")]
    NoOrder,
}

impl QueryError {
    /// An error at a place.
    pub fn new(problem: Problem, at: &Place) -> Self {
        Self {
            problem,
            at: at.clone(),
            help: None,
        }
    }

    /// With what would be right.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn expected(expected: impl Into<String>, found: impl Into<String>, at: &Place) -> Self {
        let problem = Problem::Unexpected {
            expected: expected.into(),
            found: found.into(),
        };
        Self::new(problem, at)
    }

    /// With `did you mean`, if one of the words is near.
    pub(crate) fn near(self, word: &str, words: &[&str]) -> Self {
        match nearest(word, words) {
            Some(near) => self.help(format!("did you mean `{near}`?")),
            None => self,
        }
    }

    /// The error with the line it is in and a mark under it, as a terminal shows it. `source` is the text of the query.
    pub fn render(&self, source: &str) -> String {
        let mut out = format!("error: {}", self.problem);
        match &self.at {
            Place::Text { start, end } => {
                let excerpt = Excerpt::of(source, *start, *end);
                let pad = " ".repeat(excerpt.before);
                let mark = "^".repeat(excerpt.width);
                let (line, column) = (excerpt.line, excerpt.column);
                let _ = write!(
                    out,
                    "\n --> line {line}, column {column}\n  | {}\n  | {pad}{mark}",
                    excerpt.text
                );
            }
            Place::Json(path) => {
                let _ = write!(out, "\n --> {path}");
            }
            Place::Unknown => {}
        }
        if let Some(help) = &self.help {
            let _ = write!(out, "\nhelp: {help}");
        }
        out
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Place::Json(path) => write!(f, "{path}: {}", self.problem)?,
            Place::Text { .. } | Place::Unknown => self.problem.fmt(f)?,
        }
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for QueryError {}

/// The word that `word` was probably meant to be: one or two slips away, fewer for short words.
pub(crate) fn nearest<'a>(word: &str, words: &[&'a str]) -> Option<&'a str> {
    let slips_max = match word.chars().count() {
        0 | 1 => return None,
        2 | 3 => 1,
        _ => 2,
    };
    let lower = word.to_ascii_lowercase();
    let scored = words.iter().map(|candidate| (slips(&lower, candidate), *candidate));
    let (score, best) = scored.min_by_key(|(score, _)| *score)?;
    (score <= slips_max && best != word).then_some(best)
}

/// Letters put in, left out, changed or swapped with the next.
fn slips(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let changed = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut least = changed.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(table[i - 2][j - 2] + 1);
                }
                least
            };
        }
    }
    table[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_forgiven_and_a_different_word_is_not() {
        let words = ["where", "order", "limit", "find"];
        for (word, near) in [
            ("wher", Some("where")),
            ("hwere", Some("where")),
            ("LIMIT", Some("limit")),
            ("limti", Some("limit")),
            ("fnd", Some("find")),
            ("post", None),
            ("x", None),
            ("where", None),
        ] {
            assert_eq!(nearest(word, &words), near, "{word}");
        }
    }

    #[test]
    fn an_error_shows_its_line_and_marks_the_place() {
        let error =
            QueryError::expected("`where`", "`wher`", &Place::Text { start: 5, end: 9 }).near("wher", &["where"]);
        assert_eq!(
            error.render("post wher x"),
            "error: expected `where`, found `wher`\n --> line 1, column 6\n  | post wher x\n  |      ^^^^\nhelp: did you mean `where`?"
        );
    }
}
