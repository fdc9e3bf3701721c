//! What both text forms share: the place among the tokens, names, constants, and the ends of queries.

use std::sync::Arc;

use super::lexer::{Lexed, Token, lex};
use crate::{
    id::is_name,
    query::{
        answer::Datum,
        ast::{Literal, Name, Query, datalog::RuleDefinition},
        error::{Problem, QueryError},
        limits::{DEPTH_MAX, LIMIT_MAX},
        logic::{Comparison, Cursor, Kind, TextTest},
        place::Place,
    },
    value::Value,
};

/// Words with a meaning of their own. A name that reads so is printed in backquotes.
pub(super) const KEYWORDS: [&str; 25] = [
    "after", "and", "as", "asc", "by", "contains", "desc", "distinct", "exists", "false", "find", "has", "id", "in",
    "infinity", "is", "limit", "not", "optional", "or", "order", "rule", "starts", "true", "where",
];

/// The keywords that could be meant where a condition or a rule's name begins.
const STRICT: [&str; 7] = ["after", "and", "limit", "not", "or", "order", "where"];

/// A recursive-descent parser.
pub(super) struct Parser {
    tokens: Vec<Lexed>,
    at: usize,
    depth: usize,
    /// Variables that were made up.
    nameless: usize,
}

/// `order by …`, `limit …` and `after (…)`, each at most once.
pub(super) struct Tail<K> {
    pub(super) order: Vec<K>,
    pub(super) limit: Option<u32>,
    pub(super) after: Option<Cursor>,
}

/// The clauses of a [`Tail`].
pub(super) const TAIL: [&str; 3] = ["order", "limit", "after"];

impl Parser {
    pub(super) fn new(source: &str) -> Result<Self, QueryError> {
        Ok(Self {
            tokens: lex(source)?,
            at: 0,
            depth: 0,
            nameless: 0,
        })
    }

    pub(super) fn query(&mut self) -> Result<Query, QueryError> {
        let mut rules: Vec<RuleDefinition> = Vec::new();
        while self.is_word("rule") && matches!(self.peek_at(1), Token::Word(_) | Token::Quoted(_)) {
            rules.push(self.rule()?);
        }
        if self.is_word("find") {
            return Ok(Query::Datalog(self.datalog(rules)?));
        }
        if let (Token::Word(word), Token::Variable(_)) = (self.peek().clone(), self.peek_at(1)) {
            return Err(self.unexpected("`find`").near(&word, &["find", "rule"]));
        }
        let select = self.entity_query()?;
        Ok(Query::Entity { rules, select })
    }

    pub(super) fn end(&mut self) -> Result<(), QueryError> {
        match self.peek() {
            Token::End => Ok(()),
            _ => Err(self.unexpected("the end of the query")),
        }
    }

    // Tokens.

    pub(super) fn peek(&self) -> &Token {
        self.peek_at(0)
    }

    pub(super) fn peek_at(&self, ahead: usize) -> &Token {
        let last = self.tokens.len() - 1;
        &self.tokens[(self.at + ahead).min(last)].token
    }

    pub(super) fn advance(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    /// The place of the next token.
    pub(super) fn here(&self) -> Place {
        let lexed = &self.tokens[self.at];
        Place::Text {
            start: lexed.start,
            end: lexed.end,
        }
    }

    /// From a place to the last token taken.
    pub(super) fn since(&self, first: &Place) -> Place {
        let lexed = &self.tokens[self.at.saturating_sub(1)];
        let last = Place::Text {
            start: lexed.start,
            end: lexed.end,
        };
        first.to(&last)
    }

    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word(found) if &**found == word)
    }

    pub(super) fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(found) if *found == sign)
    }

    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn take_sign(&mut self, sign: &str) -> bool {
        let found = self.is_sign(sign);
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn need_word(&mut self, word: &str) -> Result<(), QueryError> {
        if self.take_word(word) {
            return Ok(());
        }
        Err(self.unexpected_among(&format!("`{word}`"), &[word]))
    }

    pub(super) fn need_sign(&mut self, sign: &str) -> Result<(), QueryError> {
        if self.take_sign(sign) {
            return Ok(());
        }
        Err(self.unexpected(&format!("`{sign}`")))
    }

    /// The next token is not what was due.
    pub(super) fn unexpected(&self, expected: &str) -> QueryError {
        QueryError::expected(expected, self.peek().to_string(), &self.here())
    }

    /// The same, where one of these words may have been meant.
    pub(super) fn unexpected_among(&self, expected: &str, words: &[&str]) -> QueryError {
        let error = self.unexpected(expected);
        match self.peek() {
            Token::Word(word) => error.near(word, words),
            _ => error,
        }
    }

    /// Runs a parser one level deeper.
    pub(super) fn nested<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, QueryError>,
    ) -> Result<T, QueryError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let problem = Problem::OverLimit {
                what: "levels of nesting",
                size: self.depth,
                max: DEPTH_MAX,
            };
            return Err(QueryError::new(problem, &self.here()));
        }
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// `x, x, x`
    pub(super) fn list<T>(&mut self, parse: impl Fn(&mut Self) -> Result<T, QueryError>) -> Result<Vec<T>, QueryError> {
        let mut items = vec![parse(self)?];
        while self.take_sign(",") {
            items.push(parse(self)?);
        }
        Ok(items)
    }

    // Names.

    /// A variable for what the text does not name.
    pub(super) fn unused_variable(&mut self) -> Name {
        let at = self.here();
        loop {
            self.nameless += 1;
            let text: Arc<str> = format!("_{}", self.nameless).into();
            let is_used = |lexed: &Lexed| lexed.token == Token::Variable(Arc::clone(&text));
            if !self.tokens.iter().any(is_used) {
                return Name { text, at };
            }
        }
    }

    /// A name of any kind: what stands after `as`.
    pub(super) fn label(&mut self) -> Result<Name, QueryError> {
        let at = self.here();
        let text = match self.peek() {
            Token::Word(text) | Token::Quoted(text) => Arc::clone(text),
            _ => return Err(self.unexpected("a name")),
        };
        self.advance();
        Ok(Name { text, at })
    }

    /// The name of a type, a field or a rule, where no keyword can stand.
    pub(super) fn name(&mut self, what: &'static str) -> Result<Name, QueryError> {
        let (Token::Word(text) | Token::Quoted(text)) = self.peek() else {
            return Err(self.unexpected(what));
        };
        if !is_name(text) {
            let problem = Problem::Malformed {
                text: format!("`{text}`"),
                what: "a name",
                rule: "it has 1 to 64 letters, digits, _ or -, and does not start with a digit or -",
            };
            return Err(QueryError::new(problem, &self.here()));
        }
        self.label()
    }

    /// The name of a type, a field or a rule, where a keyword could stand as well.
    pub(super) fn name_not_keyword(&mut self, what: &'static str) -> Result<Name, QueryError> {
        match self.peek() {
            Token::Word(word) if STRICT.contains(&&**word) => {
                let help = format!("`{word}` is a keyword; a name that reads so stands in backquotes: `` `{word}` ``");
                Err(self.unexpected(what).help(help))
            }
            _ => self.name(what),
        }
    }

    // Constants.

    /// Whether a constant comes next.
    pub(super) fn is_constant(&self) -> bool {
        match self.peek() {
            Token::Constant(_) => true,
            Token::Word(word) => {
                matches!(&**word, "true" | "false") && !matches!(self.peek_at(1), Token::Sign("/" | "("))
            }
            _ => false,
        }
    }

    pub(super) fn literal(&mut self) -> Result<Literal, QueryError> {
        let at = self.here();
        let value = match self.peek() {
            Token::Constant(value) => value.clone(),
            Token::Word(word) if &**word == "true" => Value::Boolean(true),
            Token::Word(word) if &**word == "false" => Value::Boolean(false),
            Token::Word(word) if &**word == "null" => {
                let error = self.unexpected("a constant");
                return Err(error.help("a field without a value is found with `not … exists`, or `not` and a pattern"));
            }
            Token::Word(word) => {
                let help = format!("text stands in double quotes: \"{word}\"; an entity's id stands after @");
                return Err(self.unexpected("a constant").help(help));
            }
            _ => return Err(self.unexpected("a constant")),
        };
        self.advance();
        Ok(Literal { value, at })
    }

    /// `("a", "b")`
    pub(super) fn literals(&mut self) -> Result<Vec<Literal>, QueryError> {
        self.need_sign("(")?;
        let literals = self.list(Self::literal)?;
        self.need_sign(")")?;
        Ok(literals)
    }

    /// A text in double quotes.
    pub(super) fn text(&mut self) -> Result<Arc<str>, QueryError> {
        let Token::Constant(Value::String(text)) = self.peek() else {
            return Err(self.unexpected("a text in double quotes"));
        };
        let text = Arc::clone(text);
        self.advance();
        Ok(text)
    }

    pub(super) fn kind(&mut self) -> Result<Kind, QueryError> {
        let names = Kind::ALL.map(Kind::name);
        let found = match self.peek() {
            Token::Word(word) => Kind::ALL.into_iter().find(|kind| kind.name() == &**word),
            _ => None,
        };
        let Some(kind) = found else {
            let expected = format!("a type of values ({})", names.join(", "));
            return Err(self.unexpected_among(&expected, &names));
        };
        self.advance();
        Ok(kind)
    }

    pub(super) fn comparison(&mut self) -> Option<Comparison> {
        let Token::Sign(sign) = self.peek() else { return None };
        let found = Comparison::ALL
            .into_iter()
            .find(|comparison| comparison.sign() == *sign)?;
        self.advance();
        Some(found)
    }

    pub(super) fn text_test(&mut self) -> Option<TextTest> {
        if self.take_word("starts") {
            return Some(TextTest::StartsWith);
        }
        self.take_word("contains").then_some(TextTest::Contains)
    }

    // The ends of queries.

    /// `order by … limit … after …`, in any order.
    pub(super) fn tail<K>(&mut self, key: impl Fn(&mut Self) -> Result<K, QueryError>) -> Result<Tail<K>, QueryError> {
        let mut tail = Tail {
            order: Vec::new(),
            limit: None,
            after: None,
        };
        loop {
            let at = self.here();
            let (word, again) = if self.take_word("order") {
                self.need_word("by")?;
                let again = !tail.order.is_empty();
                tail.order = self.list(&key)?;
                ("order by", again)
            } else if self.take_word("limit") {
                ("limit", tail.limit.replace(self.limit()?).is_some())
            } else if self.take_word("after") {
                ("after", tail.after.replace(self.cursor()?).is_some())
            } else {
                return Ok(tail);
            };
            if again {
                let what = "the clause";
                let name = word.to_owned();
                return Err(QueryError::new(Problem::Twice { what, name }, &at));
            }
        }
    }

    /// Whether the order goes down.
    pub(super) fn direction(&mut self) -> bool {
        !self.take_word("asc") && self.take_word("desc")
    }

    fn limit(&mut self) -> Result<u32, QueryError> {
        let expected = format!("a whole number up to {LIMIT_MAX}");
        let Token::Constant(Value::Number(number)) = self.peek() else {
            return Err(self.unexpected(&expected));
        };
        let error = QueryError::expected(&expected, format!("`{}`", number.get()), &self.here());
        let limit = whole(number.get()).filter(|limit| *limit <= LIMIT_MAX).ok_or(error)?;
        self.advance();
        Ok(limit)
    }

    fn cursor(&mut self) -> Result<Cursor, QueryError> {
        self.need_sign("(")?;
        let places = self.list(Self::datum)?;
        self.need_sign(")")?;
        Ok(Cursor(places))
    }

    fn datum(&mut self) -> Result<Datum, QueryError> {
        if self.take_word("null") {
            return Ok(Datum::Null);
        }
        if !self.take_sign("[") {
            return Ok(Datum::Value(self.literal()?.value));
        }
        let mut values = Vec::new();
        if !self.is_sign("]") {
            values.extend(self.list(Self::literal)?.into_iter().map(|literal| literal.value));
        }
        self.need_sign("]")?;
        Ok(Datum::List(values))
    }
}

/// A number as a count, if it is one.
pub(crate) fn whole(number: f64) -> Option<u32> {
    let fits = number >= 0.0 && number <= f64::from(u32::MAX) && number.fract() == 0.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and within 32 bits"
    )]
    fits.then_some(number as u32)
}
