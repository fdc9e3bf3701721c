//! Cuts the text of one large JSON array into its elements, so that they can be read one by one, with their lines.
//!
//! It follows strings and brackets and leaves the rest to the JSON reader: an element that is not JSON is found there.

use std::io::{BufRead, Bytes};

use super::rows::{BadRow, ROW_BYTES_MAX};

/// Cuts elements.
#[derive(Debug)]
pub struct JsonSplit<R> {
    input: Bytes<R>,
    line: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Before,
    Inside,
    Ended,
}

impl<R: BufRead> JsonSplit<R> {
    /// Cuts the array in `input`.
    pub fn new(input: R) -> Self {
        Self {
            input: input.bytes(),
            line: 1,
            state: State::Before,
        }
    }

    fn byte(&mut self) -> Result<Option<u8>, BadRow> {
        match self.input.next().transpose() {
            Ok(byte) => {
                if byte == Some(b'\n') {
                    self.line += 1;
                }
                Ok(byte)
            }
            Err(error) => Err(self.end_with(error.to_string())),
        }
    }

    fn end_with(&mut self, reason: String) -> BadRow {
        self.state = State::Ended;
        BadRow::new(self.line, reason)
    }

    /// The first byte that is neither blank nor a comma.
    fn start(&mut self) -> Result<Option<u8>, BadRow> {
        loop {
            match self.byte()? {
                Some(byte) if byte.is_ascii_whitespace() => {}
                Some(b',') if self.state == State::Inside => {}
                other => return Ok(other),
            }
        }
    }

    fn element(&mut self) -> Result<Option<(u64, Vec<u8>)>, BadRow> {
        if self.state == State::Before {
            match self.start()? {
                Some(b'[') => self.state = State::Inside,
                None => {
                    self.state = State::Ended;
                    return Ok(None);
                }
                Some(_) => return Err(self.end_with("not a JSON array of objects: it does not start with '['".into())),
            }
        }
        match self.start()? {
            Some(b']') => {
                self.state = State::Ended;
                Ok(None)
            }
            Some(first) => self.rest(first).map(Some),
            None => Err(self.end_with("the file ends inside the array; was it cut off?".into())),
        }
    }

    fn rest(&mut self, first: u8) -> Result<(u64, Vec<u8>), BadRow> {
        let line = self.line;
        let mut bytes = vec![first];
        let mut depth = i32::from(matches!(first, b'{' | b'['));
        let (mut in_string, mut escaped) = (first == b'"', false);
        loop {
            if depth == 0 && !in_string && matches!(bytes.last(), Some(b'}' | b']' | b'"')) {
                return Ok((line, bytes));
            }
            let Some(byte) = self.byte()? else {
                return Err(self.end_with(format!(
                    "the row that starts at line {line} does not end; was the file cut off?"
                )));
            };
            if in_string {
                in_string = escaped || byte != b'"';
                escaped = !escaped && byte == b'\\';
            } else {
                match byte {
                    b'"' => in_string = true,
                    b'{' | b'[' => depth += 1,
                    b']' if depth == 0 => {
                        self.state = State::Ended;
                        return Ok((line, bytes));
                    }
                    b'}' | b']' => depth -= 1,
                    b',' if depth == 0 => return Ok((line, bytes)),
                    _ => {}
                }
            }
            bytes.push(byte);
            if bytes.len() > ROW_BYTES_MAX {
                return Err(self.end_with(format!(
                    "the row that starts at line {line} is longer than {ROW_BYTES_MAX} bytes"
                )));
            }
        }
    }
}

impl<R: BufRead> Iterator for JsonSplit<R> {
    type Item = Result<(u64, Vec<u8>), BadRow>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Ended {
            return None;
        }
        self.element().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let elements: Vec<String> = JsonSplit::new(text.as_bytes())
            .map(|element| element.map_or_else(|bad| bad.reason, |(_, bytes)| String::from_utf8(bytes).unwrap()))
            .collect();
        assert_eq!(elements.len(), expected.len(), "{elements:?}");
        for (element, expected) in elements.iter().zip(expected) {
            assert!(element.contains(expected), "{elements:?}");
        }
    }

    #[test]
    fn an_array_is_cut_into_its_elements() {
        check("", &[]);
        check(" [ ] ", &[]);
        check(
            "[{\"a\":[1,{\"b\":\"}]\\\\\\\"\"}]},{}]",
            &["{\"a\":[1,{\"b\":\"}]\\\\\\\"\"}]}", "{}"],
        );
        check("[1,\"x\", true]", &["1", "\"x\"", "true"]);
        check("{}", &["does not start with '['"]);
        check("[{}", &["{}", "cut off"]);
        check("[{\"a\":", &["does not end"]);
    }
}
