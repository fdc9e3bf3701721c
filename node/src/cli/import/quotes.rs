//! Finds a CSV quote that is never closed.
//!
//! The CSV reader takes the rest of the file as one field then, without a word. So the bytes on their way to it are
//! looked at here, by the same rules: a quote opens at the start of a field, two inside are one, and one alone closes.

use std::io::{self, Read};

/// Where a byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    FieldStart,
    Field,
    Quoted,
    /// Behind a quote in a quoted field: it closed the field, unless another follows.
    QuoteInQuoted,
}

/// Passes bytes on, and knows whether they end inside quotes.
#[derive(Debug)]
pub struct QuoteWatch<R> {
    input: R,
    place: Place,
    line: u64,
    opened: u64,
    ended: bool,
}

impl<R> QuoteWatch<R> {
    /// Before the first byte.
    pub const fn new(input: R) -> Self {
        Self {
            input,
            place: Place::FieldStart,
            line: 1,
            opened: 0,
            ended: false,
        }
    }

    /// The line of the quote that is open at the end of the input; nothing before the end.
    pub fn unclosed(&self) -> Option<u64> {
        (self.ended && self.place == Place::Quoted).then_some(self.opened)
    }

    fn look_at(&mut self, byte: u8) {
        self.place = match (self.place, byte) {
            (Place::FieldStart, b'"') => {
                self.opened = self.line;
                Place::Quoted
            }
            (Place::Quoted, b'"') => Place::QuoteInQuoted,
            (Place::Quoted, _) | (Place::QuoteInQuoted, b'"') => Place::Quoted,
            (_, b',' | b'\n' | b'\r') => Place::FieldStart,
            _ => Place::Field,
        };
        self.line += u64::from(byte == b'\n');
    }
}

impl<R: Read> Read for QuoteWatch<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let size = self.input.read(out)?;
        self.ended |= size == 0 && !out.is_empty();
        for &byte in &out[..size] {
            self.look_at(byte);
        }
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_quote_that_is_open_at_the_end_is_told() {
        check("a,b\n1,\"x\"\n", None);
        check("a,b\n1,\"x", Some(2));
        check("a\n\"two\nlines\"\n\"open\n\n", Some(4));
        check("a\n\"a \"\"b\"\" c\"\n", None);
        check("a\n\"a \"\"b", Some(2));
        check("a\n5\" pipe\n", None);
        check("\"a", Some(1));
        check("", None);
    }

    #[track_caller]
    fn check(text: &str, expected: Option<u64>) {
        let mut watch = QuoteWatch::new(text.as_bytes());
        assert_eq!(watch.unclosed(), None, "nothing is known before the end");
        io::copy(&mut watch, &mut io::sink()).unwrap();
        assert_eq!(watch.unclosed(), expected, "{text:?}");
    }
}
