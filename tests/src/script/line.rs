//! One line of a script: a word, what follows it, and `name=value` options.

use halcyon_core::{id::EntityId, value::Value};

/// A command as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// All of it.
    pub text: String,
    /// Words without `=`; the first is the command.
    pub words: Vec<String>,
    /// `name=value`, in order.
    pub options: Vec<(String, String)>,
}

impl Line {
    /// Splits at blanks that are not inside double quotes.
    pub fn parse(text: &str) -> Self {
        let mut parts = vec![String::new()];
        let mut quoted = false;
        for c in text.trim().chars() {
            quoted ^= c == '"';
            match parts.last_mut() {
                Some(part) if quoted || !c.is_whitespace() => part.push(c),
                _ => parts.push(String::new()),
            }
        }
        parts.retain(|part| !part.is_empty());
        let (options, words): (Vec<String>, Vec<String>) = parts.into_iter().partition(|part| part.contains('='));
        let split = |option: &String| {
            option
                .split_once('=')
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        Self {
            text: text.to_owned(),
            words,
            options: options.iter().filter_map(split).collect(),
        }
    }

    /// The command.
    pub fn command(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The word at a place.
    #[track_caller]
    pub fn word(&self, at: usize) -> &str {
        self.words
            .get(at)
            .unwrap_or_else(|| panic!("`{}` lacks a word", self.text))
    }

    /// The node at a place: `n1` is 0.
    #[track_caller]
    pub fn node(&self, at: usize) -> usize {
        let number = self
            .word(at)
            .strip_prefix('n')
            .and_then(|digits| digits.parse::<usize>().ok());
        number
            .and_then(|number| number.checked_sub(1))
            .unwrap_or_else(|| panic!("`{}` names no node", self.text))
    }

    /// An option's value.
    pub fn option(&self, name: &str) -> Option<&str> {
        let found = self.options.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }

    /// An option that is a list.
    pub fn list(&self, name: &str) -> Option<Vec<&str>> {
        self.option(name).map(|value| value.split(',').collect())
    }

    /// An option that is a count.
    #[track_caller]
    pub fn count(&self, name: &str) -> Option<usize> {
        let number = |value: &str| {
            value
                .parse()
                .unwrap_or_else(|_| panic!("`{}`: {name} is a count", self.text))
        };
        self.option(name).map(number)
    }
}

/// A value as a script writes it: `@e2` is a reference, all else is JSON.
#[track_caller]
pub(super) fn value(text: &str) -> Value {
    if let Some(id) = text.strip_prefix('@') {
        return Value::Ref(EntityId::new(id).expect("a script's id is well formed"));
    }
    let json = serde_json::from_str(text).unwrap_or_else(|error| panic!("`{text}` is no value: {error}"));
    Value::from_typed_json(&json).unwrap_or_else(|error| panic!("`{text}` is no value: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_blanks_together() {
        let line = Line::parse("set n2 e1 item/title=\"a b\" item/n=2");
        assert_eq!(line.words, ["set", "n2", "e1"]);
        assert_eq!(line.node(1), 1);
        assert_eq!(line.option("item/title"), Some("\"a b\""));
        assert_eq!(value("\"a b\""), Value::string("a b"));
        assert_eq!(value("@e2"), Value::Ref(EntityId::new("e2").unwrap()));
    }
}
