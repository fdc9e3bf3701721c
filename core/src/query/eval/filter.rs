//! Tests of one binding. Whatever meets null fails.

use super::{batch::Batch, context::Context};
use crate::{
    query::{
        logic::{Comparison, Kind, TextTest},
        plan::{Column, Side, Test},
        triples::{Term, Triples},
    },
    value::Value,
};

/// A test with its constants as terms.
#[derive(Debug)]
pub(super) enum TestRun<'p> {
    Compare(Column, Comparison, Right),
    In(Column, Vec<Term>),
    Text(Column, TextTest, &'p str),
    Kind(Column, u8),
}

/// The right side of a comparison.
#[derive(Debug, Clone, Copy)]
pub(super) enum Right {
    Column(Column),
    Term(Term),
}

impl<'p> TestRun<'p> {
    pub(super) fn new<T: Triples + ?Sized>(test: &'p Test, cx: &Context<'_, T>) -> Self {
        match test {
            Test::Compare(column, comparison, side) => {
                let right = match side {
                    Side::Column(column) => Right::Column(*column),
                    Side::Constant(value) => Right::Term(cx.term(value)),
                };
                Self::Compare(*column, *comparison, right)
            }
            Test::In(column, values) => {
                let term = |value: &Value| cx.term(value);
                let mut terms: Vec<Term> = values.iter().map(term).collect();
                terms.sort_unstable();
                Self::In(*column, terms)
            }
            Test::Text(column, test, text) => Self::Text(*column, *test, text),
            Test::Kind(column, kind) => Self::Kind(*column, *kind as u8),
        }
    }

    pub(super) fn passes<T: Triples + ?Sized>(&self, batch: &Batch, at: usize, cx: &Context<'_, T>) -> bool {
        match self {
            Self::Compare(left, comparison, right) => {
                let left = batch.get(*left, at);
                let right = match right {
                    Right::Column(column) => batch.get(*column, at),
                    Right::Term(term) => *term,
                };
                !left.is_null() && !right.is_null() && holds(*comparison, left, right, cx)
            }
            Self::In(column, terms) => terms.binary_search(&batch.get(*column, at)).is_ok(),
            Self::Text(column, test, text) => {
                let term = batch.get(*column, at);
                term.code() == Kind::String as u8
                    && cx.bytes_pass(term, |bytes| match test {
                        TextTest::StartsWith => bytes.starts_with(text.as_bytes()),
                        TextTest::Contains => contains(bytes, text.as_bytes()),
                    })
            }
            Self::Kind(column, code) => batch.get(*column, at).code() == *code,
        }
    }
}

fn holds<T: Triples + ?Sized>(comparison: Comparison, left: Term, right: Term, cx: &Context<'_, T>) -> bool {
    match comparison {
        Comparison::Equal => left == right,
        Comparison::NotEqual => left != right,
        Comparison::Less => cx.compare(left, right).is_lt(),
        Comparison::AtMost => cx.compare(left, right).is_le(),
        Comparison::Greater => cx.compare(left, right).is_gt(),
        Comparison::AtLeast => cx.compare(left, right).is_ge(),
    }
}

/// Both are UTF-8, so that bytes inside bytes are text inside text.
fn contains(bytes: &[u8], part: &[u8]) -> bool {
    match (std::str::from_utf8(bytes), std::str::from_utf8(part)) {
        (Ok(text), Ok(part)) => text.contains(part),
        _ => false,
    }
}
