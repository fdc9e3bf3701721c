//! From text to tokens. Space and comments (`#` to the end of the line) only separate.

use std::{fmt, sync::Arc};

use crate::{
    id::EntityId,
    limits::READS_ALL_FORMS,
    query::{
        error::{Problem, QueryError},
        limits::QUERY_BYTES_MAX,
        place::Place,
    },
    value::{Value, date_from_text},
};

/// A token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A keyword or a name.
    Word(Arc<str>),
    /// `` `where` ``: a name, whatever it says.
    Quoted(Arc<str>),
    /// `?x`, without its mark.
    Variable(Arc<str>),
    /// A constant that is not a word.
    Constant(Value),
    /// A sign.
    Sign(&'static str),
    /// The end of the text.
    End,
}

/// A token and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Lexed {
    pub(super) token: Token,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Longer signs first.
const SIGNS: [&str; 18] = [
    "!=", "<=", ">=", "=", "<", ">", "(", ")", "{", "}", "[", "]", ",", ";", ":", ".", "/", "*",
];

/// Signs of other languages, and what they are here.
const FOREIGN: [(&str, &str); 6] = [
    ("==", "="),
    ("<>", "!="),
    ("&&", "and"),
    ("||", "or"),
    ("'", "\""),
    ("!", "not"),
];

/// Cuts a text into tokens; the last is [`Token::End`].
pub(super) fn lex(source: &str) -> Result<Vec<Lexed>, QueryError> {
    if source.len() > QUERY_BYTES_MAX {
        let problem = Problem::OverLimit {
            what: "bytes of a query",
            size: source.len(),
            max: QUERY_BYTES_MAX,
        };
        return Err(QueryError::new(problem, &Place::Unknown));
    }
    let mut lexer = Lexer { source, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_space();
        let start = lexer.at;
        let token = lexer.token()?;
        let is_end = token == Token::End;
        let end = lexer.at;
        tokens.push(Lexed { token, start, end });
        if is_end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn error(&self, start: usize, problem: Problem) -> QueryError {
        let end = self.at.max(start + 1);
        QueryError::new(problem, &Place::Text { start, end })
    }

    fn skip_space(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with('#') {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let len = rest.find(|c| !keep(c)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    fn token(&mut self) -> Result<Token, QueryError> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok(Token::End);
        };
        // A path has names and signs alone; what else there may be is no sign.
        if !READS_ALL_FORMS && first != '`' && !is_word_start(first) {
            return self.sign();
        }
        match first {
            '"' => Ok(Token::Constant(Value::String(self.text()?))),
            '`' => self.quoted(),
            '?' => self.variable(),
            '@' => self.reference(),
            _ if READS_ALL_FORMS && is_number_start(rest) => self.number(),
            _ if is_word_start(first) => self.word(),
            _ => self.sign(),
        }
    }

    fn sign(&mut self) -> Result<Token, QueryError> {
        let rest = self.rest();
        let foreign = FOREIGN.iter().find(|(foreign, _)| rest.starts_with(foreign));
        let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
        match (sign, foreign) {
            (Some(sign), None) => {
                self.at += sign.len();
                Ok(Token::Sign(sign))
            }
            (Some(sign), Some((foreign, _))) if sign.len() >= foreign.len() => {
                self.at += sign.len();
                Ok(Token::Sign(sign))
            }
            (_, Some((foreign, here))) => {
                let (start, end) = (self.at, self.at + foreign.len());
                let error = QueryError::expected(
                    "a name, a variable, a constant or a sign",
                    format!("`{foreign}`"),
                    &Place::Text { start, end },
                );
                Err(error.help(format!("here it is `{here}`")))
            }
            (None, None) => {
                let found = rest.chars().next().unwrap_or(' ');
                let (start, end) = (self.at, self.at + found.len_utf8());
                Err(QueryError::expected(
                    "a name, a variable, a constant or a sign",
                    format!("{found:?}"),
                    &Place::Text { start, end },
                ))
            }
        }
    }

    fn word(&mut self) -> Result<Token, QueryError> {
        let start = self.at;
        let word = self.take_while(is_word);
        match word {
            "infinity" => self.finish_number(start, f64::INFINITY),
            _ if !READS_ALL_FORMS => Ok(Token::Word(word.into())),
            "json" if self.rest().starts_with('"') => Ok(Token::Constant(Value::Json(self.text()?))),
            "date" if self.rest().starts_with('(') => Ok(self.date_in_millis().unwrap_or(Token::Word(word.into()))),
            _ => Ok(Token::Word(word.into())),
        }
    }

    /// `(-62135596800001)`: a date outside the years that text can write.
    fn date_in_millis(&mut self) -> Option<Token> {
        let (digits, _) = self.rest().strip_prefix('(')?.split_once(')')?;
        let millis = digits.parse().ok()?;
        self.at += digits.len() + 2;
        Some(Token::Constant(Value::Date(millis)))
    }

    fn variable(&mut self) -> Result<Token, QueryError> {
        let start = self.at;
        self.at += 1;
        let name = self.take_while(is_word);
        if name.starts_with(is_word_start) {
            return Ok(Token::Variable(name.into()));
        }
        let problem = Problem::Malformed {
            text: format!("`?{name}`"),
            what: "a variable",
            rule: "it is ? and a letter or _, then letters, digits, _ or -",
        };
        Err(self.error(start, problem))
    }

    fn quoted(&mut self) -> Result<Token, QueryError> {
        let start = self.at;
        self.at += 1;
        let name = self.take_while(|c| c != '`' && !c.is_control());
        if !self.rest().starts_with('`') {
            return Err(self.error(start, Problem::Unclosed("the quoted name")));
        }
        self.at += 1;
        Ok(Token::Quoted(name.into()))
    }

    fn reference(&mut self) -> Result<Token, QueryError> {
        let start = self.at;
        self.at += 1;
        let id: Arc<str> = if self.rest().starts_with('"') {
            self.text()?
        } else {
            self.take_while(is_word).into()
        };
        match EntityId::new(&id) {
            Ok(entity) => Ok(Token::Constant(Value::Ref(entity))),
            Err(_) => Err(self.error(
                start,
                Problem::Malformed {
                    text: format!("`@{id}`"),
                    what: "an entity id",
                    rule: "it is @id, or @\"…\" with 1 to 128 bytes and no control characters",
                },
            )),
        }
    }

    fn number(&mut self) -> Result<Token, QueryError> {
        let start = self.at;
        if self.rest().starts_with("0x") {
            return self.bytes();
        }
        if looks_like_date(self.rest()) {
            return self.date();
        }
        if self.rest().starts_with("-infinity") {
            self.at += "-infinity".len();
            return self.finish_number(start, f64::NEG_INFINITY);
        }
        if self.rest().starts_with('-') {
            self.at += 1;
        }
        self.take_while(|c| c.is_ascii_digit());
        let fraction = self.rest().strip_prefix('.').unwrap_or("");
        if fraction.starts_with(|c: char| c.is_ascii_digit()) {
            self.at += 1;
            self.take_while(|c| c.is_ascii_digit());
        }
        if self.rest().starts_with(['e', 'E']) {
            self.at += 1;
            if self.rest().starts_with(['+', '-']) {
                self.at += 1;
            }
            self.take_while(|c| c.is_ascii_digit());
        }
        let text = &self.source[start..self.at];
        let number = text.parse().unwrap_or(f64::NAN);
        let is_other = is_whole(text) && format!("{number:.0}").trim_start_matches('-') != digits(text);
        if number.is_infinite() || is_other {
            return Err(self.error(
                start,
                Problem::Malformed {
                    text: format!("`{text}`"),
                    what: "a number that can be held",
                    rule: "numbers are 64-bit floats: whole ones are exact up to 9007199254740992; what is beyond all of \
                           them is `infinity`",
                },
            ));
        }
        self.finish_number(start, number)
    }

    fn finish_number(&mut self, start: usize, number: f64) -> Result<Token, QueryError> {
        let stray = self.take_while(is_word);
        match Value::number(number) {
            Ok(value) if stray.is_empty() => Ok(Token::Constant(value)),
            _ => Err(self.error(
                start,
                Problem::Malformed {
                    text: format!("`{}`", &self.source[start..self.at]),
                    what: "a number",
                    rule: "it is 12, -1.5 or 6e23; text stands in double quotes, an entity's id after @",
                },
            )),
        }
    }

    fn date(&mut self) -> Result<Token, QueryError> {
        let start = self.at;
        let text = self.take_while(|c| c.is_ascii_digit() || "-:.+TZtz".contains(c));
        let midnight = if text.len() == DAY_BYTES { "T00:00:00Z" } else { "" };
        match date_from_text(&format!("{text}{midnight}")) {
            Some(millis) => Ok(Token::Constant(Value::Date(millis))),
            None => Err(self.error(
                start,
                Problem::Malformed {
                    text: format!("`{text}`"),
                    what: "a date",
                    rule: "it is 2026-01-31 or, as in RFC 3339, 2026-01-31T12:00:00Z",
                },
            )),
        }
    }

    fn bytes(&mut self) -> Result<Token, QueryError> {
        let start = self.at;
        self.at += "0x".len();
        let digits = self.take_while(is_word);
        let tagged = serde_json::json!({ "$bytes": digits });
        match Value::from_typed_json(&tagged) {
            Ok(value) => Ok(Token::Constant(value)),
            Err(_) => Err(self.error(
                start,
                Problem::Malformed {
                    text: format!("`0x{digits}`"),
                    what: "a constant of bytes",
                    rule: "it is 0x and two hexadecimal digits for each byte",
                },
            )),
        }
    }

    /// A text in double quotes.
    fn text(&mut self) -> Result<Arc<str>, QueryError> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            text.push_str(self.take_while(|c| c != '"' && c != '\\'));
            let escape_start = self.at;
            let mut rest = self.rest().chars();
            match (rest.next(), rest.next()) {
                (None, _) => return Err(self.error(start, Problem::Unclosed("the text"))),
                (Some('"'), _) => {
                    self.at += 1;
                    return Ok(text.into());
                }
                (_, escape) => {
                    self.at += 1 + escape.map_or(0, char::len_utf8);
                    let c = self.escape(escape);
                    text.push(c.ok_or_else(|| {
                        let text = format!("`{}`", &self.source[escape_start..self.at]);
                        let rule = r#"it is \" \\ \n \r \t or \u{1f600}"#;
                        let what = "an escape";
                        self.error(escape_start, Problem::Malformed { text, what, rule })
                    })?);
                }
            }
        }
    }

    fn escape(&mut self, escape: Option<char>) -> Option<char> {
        match escape? {
            c @ ('"' | '\\' | '/') => Some(c),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'u' => {
                let rest = self.rest().strip_prefix('{')?;
                let (digits, _) = rest.split_once('}')?;
                let c = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)?;
                self.at += digits.len() + 2;
                Some(c)
            }
            _ => None,
        }
    }
}

/// Bytes of `2026-01-31`.
const DAY_BYTES: usize = 10;

fn looks_like_date(rest: &str) -> bool {
    let shape = rest.bytes().zip("dddd-dd-dd".bytes());
    rest.len() >= DAY_BYTES
        && shape.take(DAY_BYTES).all(|(byte, kind)| {
            if kind == b'd' {
                byte.is_ascii_digit()
            } else {
                byte == b'-'
            }
        })
}

fn is_number_start(rest: &str) -> bool {
    let digits = rest.strip_prefix('-').unwrap_or(rest);
    digits.starts_with(|c: char| c.is_ascii_digit()) || rest.starts_with("-infinity")
}

/// Whether a name may begin so.
pub(super) fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

/// Whether a name may go on so.
pub(super) fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => write!(f, "`{word}`"),
            Self::Quoted(name) => write!(f, "the name `{name}`"),
            Self::Variable(name) => write!(f, "`?{name}`"),
            Self::Constant(value) => write!(f, "a {} constant", value.type_name()),
            Self::Sign(sign) => write!(f, "`{sign}`"),
            Self::End => f.write_str("the end of the query"),
        }
    }
}

/// Whether a number is written without a fraction and an exponent.
fn is_whole(text: &str) -> bool {
    text.chars().all(|c| c == '-' || c.is_ascii_digit())
}

/// The digits of a whole number that count.
fn digits(text: &str) -> &str {
    let digits = text.trim_start_matches('-').trim_start_matches('0');
    if digits.is_empty() { "0" } else { digits }
}
