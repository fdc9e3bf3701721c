//! Where in a query something stands, so that an error can point at it.

use std::sync::Arc;

/// A place in a query as it was written. Two places are always equal, so that syntax compares by what it says.
#[derive(Debug, Clone, Default)]
pub enum Place {
    /// Made by a builder.
    #[default]
    Unknown,
    /// Bytes of a text.
    Text {
        /// The first.
        start: usize,
        /// The one after the last.
        end: usize,
    },
    /// A path into JSON, such as `where[2][1]`.
    Json(Arc<str>),
}

impl PartialEq for Place {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Place {}

impl Place {
    /// From where this one begins to where another ends, in one text.
    pub(crate) fn to(&self, last: &Self) -> Self {
        match (self, last) {
            (Self::Text { start, .. }, Self::Text { end, .. }) => Self::Text {
                start: *start,
                end: *end,
            },
            _ => self.clone(),
        }
    }
}

/// A line of a text and what to mark in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The line, cut to what surrounds the mark if it is long.
    pub text: String,
    /// Characters before the mark in `text`.
    pub before: usize,
    /// Characters to mark, at least 1.
    pub width: usize,
}

/// Characters of a line that are shown on each side of a mark.
const AROUND_CHARS: usize = 60;

impl Excerpt {
    /// What stands at these bytes. Bytes outside the text, or inside a character, are moved to the nearest place.
    pub fn of(source: &str, start: usize, end: usize) -> Self {
        let start = floor(source, start);
        let end = floor(source, end).max(start);
        let line_start = source[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = source[start..].find('\n').map_or(source.len(), |at| start + at);
        let column = source[line_start..start].chars().count();
        let width = source[start..end.min(line_end).max(start)].chars().count().max(1);
        let skipped = column.saturating_sub(AROUND_CHARS);
        let shown = source[line_start..line_end]
            .chars()
            .skip(skipped)
            .take(column - skipped + width + AROUND_CHARS)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        Self {
            line: source[..line_start].matches('\n').count() + 1,
            column: column + 1,
            text: shown,
            before: column - skipped,
            width: width.min(2 * AROUND_CHARS),
        }
    }
}

/// The nearest place at or before `at` that is between two characters.
fn floor(source: &str, at: usize) -> usize {
    (0..=at.min(source.len()))
        .rev()
        .find(|at| source.is_char_boundary(*at))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, (start, end): (usize, usize), line: usize, column: usize, marked: &str) {
        let excerpt = Excerpt::of(source, start, end);
        assert_eq!((excerpt.line, excerpt.column), (line, column));
        let found: String = excerpt.text.chars().skip(excerpt.before).take(excerpt.width).collect();
        assert_eq!(found, marked);
    }

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        check("post wher x", (5, 9), 1, 6, "wher");
        check("post\n  where é x", (16, 17), 2, 11, "x");
        check("ab", (2, 2), 1, 3, "");
        check("", (7, 9), 1, 1, "");
        check(
            &format!("{}x{}", "a".repeat(500), "b".repeat(500)),
            (500, 501),
            1,
            501,
            "x",
        );
    }
}
