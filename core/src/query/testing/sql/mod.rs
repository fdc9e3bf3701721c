//! Queries as SQL for SQLite, so that somebody who never saw our evaluators answers them too.
//!
//! Values are stored in the encoding that keeps their order, so SQLite compares them as we do. `or` is multiplied out;
//! `optional` becomes a union of what matches and what does not. What SQLite cannot say (recursion that is not linear,
//! rules that need each other) is not translated.

mod parts;

use std::fmt::Write;

use self::parts::{aggregate, all, blob, kind_of, place, table, text_literal};
use super::Triple;
use crate::collections::{BTreeMap, BTreeSet};
use crate::{
    query::logic::{
        Aggregate, Body, Definition, Expression, Filter, Kind, Operand, OrderBy, Positive, PredicateTerm, Query, Rule,
        RuleId, Select, Shape, Step, Term, TextTest, TriplePattern, Var,
    },
    value::Value,
};

/// The tables that a translated query reads.
///
/// `triples`: subject, predicate as a value, its type and field, object. `terms`: every string and number with what it
/// is to SQLite. `numbers`: whole numbers with their encoding, for counts.
pub const TABLES: &str = "
    CREATE TABLE triples (s BLOB, p BLOB, t TEXT, f TEXT, o BLOB);
    CREATE TABLE terms (v BLOB PRIMARY KEY, txt TEXT, num REAL);
    CREATE TABLE numbers (n INTEGER PRIMARY KEY, v BLOB);";

/// Counts in rules go up to this.
const NUMBERS: u32 = 60;

/// A translated query.
#[derive(Debug, Clone)]
pub struct Sql {
    /// The statement. Its rows are the answer's, in its order; entities are one column with the id.
    pub text: String,
    /// How to read the columns.
    pub columns: Vec<ColumnKind>,
}

/// How a column of SQLite's is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// A value as encoded, or null.
    Value,
    /// An integer.
    Count,
    /// A floating-point number, rounded in SQLite's own way, or null.
    Rounded,
    /// Encoded values in hexadecimal, joined by commas in no order; null for none.
    List,
}

/// The statement that fills the tables.
pub fn fill(triples: &[Triple]) -> String {
    let mut out = String::from("BEGIN;");
    let mut terms = BTreeSet::new();
    for (subject, predicate, object) in triples {
        let subject = Value::Ref(subject.clone());
        let text = Value::string(predicate.as_str());
        let (of_type, field) = (predicate.entity_type(), predicate.field());
        let (s, p, o) = (blob(&subject), blob(&text), blob(object));
        let _ = write!(
            out,
            "INSERT INTO triples VALUES ({s}, {p}, '{of_type}', '{field}', {o});"
        );
        terms.extend([text, object.clone()]);
    }
    for number in 0..=NUMBERS {
        let value = Value::number(number.into()).expect("a whole number is a number");
        let _ = write!(out, "INSERT INTO numbers VALUES ({number}, {});", blob(&value));
        terms.insert(value);
    }
    for term in terms {
        let (text, number) = match &term {
            Value::String(text) => (text_literal(text), "NULL".to_owned()),
            Value::Number(number) => ("NULL".to_owned(), format!("{:?}", number.get())),
            _ => continue,
        };
        let _ = write!(out, "INSERT INTO terms VALUES ({}, {text}, {number});", blob(&term));
    }
    out + "COMMIT;"
}

/// The query in SQL; `None` if SQLite cannot say it. Includes and fields are left out.
pub fn translate(query: &Query) -> Option<Sql> {
    let mut writer = Writer { next: 0 };
    let mut tables = Vec::new();
    for stratum in &query.strata {
        let [rule] = stratum.as_slice() else { return None };
        tables.push(writer.rule(*rule, &query.rules[place(rule.0)])?);
    }
    let select = &query.select;
    let (found, last) = writer.bindings(&select.body, &mut tables);
    let filters = writer.filters(&select.body.filters, &found);
    let from = format!("FROM {last} c WHERE {}", all(&filters));
    let limit = select.limit.map_or(String::new(), |limit| format!(" LIMIT {limit}"));
    let (asked, columns) = match &select.shape {
        Shape::Table(columns) => (
            table(columns, &select.order, &found, &from),
            columns.iter().map(kind_of).collect(),
        ),
        Shape::Entities { entity, .. } => (writer.entities(select, &found[entity], &from), vec![ColumnKind::Value]),
    };
    let with = if tables.is_empty() {
        String::new()
    } else {
        format!("WITH RECURSIVE {} ", tables.join(", "))
    };
    let text = format!("{with}{asked}{limit}");
    Some(Sql { text, columns })
}

/// Where each variable's value stands.
type Places = BTreeMap<Var, String>;

/// A conjunction, as it grows.
#[derive(Debug, Clone, Default)]
struct Conjunction {
    from: Vec<String>,
    conditions: Vec<String>,
    places: Places,
}

struct Writer {
    next: usize,
}

impl Writer {
    fn alias(&mut self, letter: char) -> String {
        self.next += 1;
        format!("{letter}{}", self.next)
    }

    /// The bindings of a select's body before its filters: where they are, and the name of the table that holds them.
    fn bindings(&mut self, body: &Body, tables: &mut Vec<String>) -> (Places, String) {
        let base = self.conjunctions(&body.positives, Conjunction::default());
        let mut vars: Vec<Var> = base
            .first()
            .map(|one| one.places.keys().copied().collect())
            .unwrap_or_default();
        let selects: Vec<String> = base.iter().map(|one| one.select(&vars, "")).collect();
        let mut last = self.alias('b');
        tables.push(format!("{last} AS ({})", selects.join(" UNION ")));
        for optional in &body.optionals {
            let outer: Places = vars.iter().map(|var| (*var, format!("c.v{}", var.0))).collect();
            let start = Conjunction {
                places: outer,
                ..Conjunction::default()
            };
            let matches = self.body(optional, start);
            let before = vars.clone();
            vars = matches
                .first()
                .map(|one| one.places.keys().copied().collect())
                .unwrap_or(vars);
            let mut parts: Vec<String> = matches
                .iter()
                .map(|one| one.select(&vars, &format!("{last} c")))
                .collect();
            let kept = vars.iter().map(|var| {
                if before.contains(var) {
                    format!("c.v{0} AS v{0}", var.0)
                } else {
                    format!("NULL AS v{}", var.0)
                }
            });
            let kept: Vec<String> = std::iter::once("1 AS u".to_owned()).chain(kept).collect();
            let none: Vec<String> = matches.iter().map(Conjunction::absent).collect();
            parts.push(format!("SELECT {} FROM {last} c WHERE {}", kept.join(", "), all(&none)));
            last = self.alias('b');
            tables.push(format!("{last} AS ({})", parts.join(" UNION ")));
        }
        (vars.iter().map(|var| (*var, format!("c.v{}", var.0))).collect(), last)
    }

    /// A body without optionals, multiplied out.
    fn body(&mut self, body: &Body, start: Conjunction) -> Vec<Conjunction> {
        let mut all = self.conjunctions(&body.positives, start);
        for one in &mut all {
            let filters = self.filters(&body.filters, &one.places);
            one.conditions.extend(filters);
        }
        all
    }

    fn conjunctions(&mut self, positives: &[Positive], start: Conjunction) -> Vec<Conjunction> {
        let mut all = vec![start];
        for positive in positives {
            all = all.into_iter().flat_map(|one| self.extended(one, positive)).collect();
        }
        all
    }

    fn extended(&mut self, mut one: Conjunction, positive: &Positive) -> Vec<Conjunction> {
        match positive {
            Positive::Triple(pattern) => {
                let alias = self.alias('t');
                one.triple(pattern, &alias);
                vec![one]
            }
            Positive::Call { rule, arguments } => {
                let alias = self.alias('r');
                one.from.push(format!("rule_{} {alias}", rule.0));
                for (at, argument) in arguments.iter().enumerate() {
                    one.term(argument, format!("{alias}.c{at}"));
                }
                vec![one]
            }
            Positive::Or(or) => {
                let kept: BTreeSet<Var> = one.places.keys().chain(&or.binds).copied().collect();
                let branches = or.branches.iter().flat_map(|branch| self.body(branch, one.clone()));
                let mut all: Vec<Conjunction> = branches.collect();
                for one in &mut all {
                    one.places.retain(|var, _| kept.contains(var));
                }
                all
            }
        }
    }

    fn filters(&mut self, filters: &[Filter], places: &Places) -> Vec<String> {
        filters.iter().map(|filter| self.filter(filter, places)).collect()
    }

    fn filter(&mut self, filter: &Filter, places: &Places) -> String {
        match filter {
            Filter::Compare {
                left,
                comparison,
                right,
            } => {
                let right = match right {
                    Operand::Var(var) => places[var].clone(),
                    Operand::Constant(value) => blob(value),
                };
                format!("{} {} {right}", places[left], comparison.sign())
            }
            Filter::In(var, values) => {
                let values: Vec<String> = values.iter().map(blob).collect();
                format!("{} IN ({})", places[var], values.join(", "))
            }
            Filter::Text { var, test, text } => {
                let literal = text_literal(text);
                let length = text.chars().count();
                let holds = match test {
                    _ if text.is_empty() => "w.txt IS NOT NULL".to_owned(),
                    TextTest::StartsWith => format!("substr(w.txt, 1, {length}) = {literal}"),
                    TextTest::Contains => format!("instr(w.txt, {literal}) > 0"),
                };
                format!("EXISTS (SELECT 1 FROM terms w WHERE w.v = {} AND {holds})", places[var])
            }
            Filter::Kind(var, kind) => {
                let code = Kind::ALL.iter().position(|one| one == kind).unwrap_or_default();
                format!("substr({}, 1, 1) = X'{code:02x}'", places[var])
            }
            Filter::Not(inner) => {
                let start = Conjunction {
                    places: places.clone(),
                    ..Conjunction::default()
                };
                let absent: Vec<String> = self.body(inner, start).iter().map(Conjunction::absent).collect();
                format!("({})", all(&absent))
            }
        }
    }

    fn rule(&mut self, id: RuleId, rule: &Rule) -> Option<String> {
        let table = format!("rule_{}", id.0);
        let mut parts = Vec::new();
        for definition in &rule.definitions {
            if definition.head.iter().any(|head| head.is_aggregate()) {
                parts.push(self.total(definition)?);
                continue;
            }
            for one in self.body(&definition.body, Conjunction::default()) {
                let own = one
                    .from
                    .iter()
                    .filter(|from| from.starts_with(&format!("{table} ")))
                    .count();
                if own > 1 {
                    return None;
                }
                let head = definition
                    .head
                    .iter()
                    .filter_map(|head| head.var())
                    .map(|var| one.places[&var].clone());
                let head: Vec<String> = head.collect();
                let select = format!("SELECT {} {}", head.join(", "), one.tail(""));
                // SQLite wants those that start the recursion first.
                parts.insert(if own == 0 { 0 } else { parts.len() }, select);
            }
        }
        let columns: Vec<String> = (0..rule.arity).map(|at| format!("c{at}")).collect();
        Some(format!(
            "{table}({}) AS ({})",
            columns.join(", "),
            parts.join(" UNION ")
        ))
    }

    fn total(&mut self, definition: &Definition) -> Option<String> {
        let mut inner = Vec::new();
        let (places, last) = self.bindings(&definition.body, &mut inner);
        let filters = self.filters(&definition.body.filters, &places);
        let mut asked = Vec::new();
        let mut shown = Vec::new();
        let mut joins = String::new();
        let mut groups = Vec::new();
        for (at, head) in definition.head.iter().enumerate() {
            let text = aggregate(*head, &places);
            match head {
                Expression::Var(_) => groups.push(text.clone()),
                Expression::Aggregate(Aggregate::Min | Aggregate::Max, _) => {}
                Expression::CountAll | Expression::Aggregate(Aggregate::Count | Aggregate::CountDistinct, _) => {
                    let _ = write!(joins, " JOIN numbers n{at} ON n{at}.n = g.c{at}");
                }
                Expression::Aggregate(..) => return None,
            }
            let counts = joins.contains(&format!("numbers n{at} "));
            shown.push(if counts { format!("n{at}.v") } else { format!("g.c{at}") });
            asked.push(format!("{text} AS c{at}"));
        }
        let by = if groups.is_empty() {
            String::new()
        } else {
            format!(" GROUP BY {}", groups.join(", "))
        };
        let present: Vec<String> = shown.iter().map(|column| format!("{column} IS NOT NULL")).collect();
        Some(format!(
            "SELECT {} FROM (WITH {} SELECT {} FROM {last} c WHERE {}{by}) g{joins} WHERE {}",
            shown.join(", "),
            inner.join(", "),
            asked.join(", "),
            all(&filters),
            all(&present),
        ))
    }

    fn entities(&mut self, select: &Select, entity: &str, from: &str) -> String {
        let mut keys: Vec<String> = Vec::new();
        for key in &select.order {
            let down = if key.descending { " DESC" } else { "" };
            keys.push(match &key.by {
                OrderBy::Path(steps) => format!("{}{down}", self.reached(steps, key.descending)),
                OrderBy::Id | OrderBy::Column(_) => format!("e.v{down}"),
            });
        }
        keys.push("e.v".to_owned());
        format!(
            "SELECT e.v FROM (SELECT DISTINCT {entity} AS v {from}) e ORDER BY {}",
            keys.join(", ")
        )
    }

    fn reached(&mut self, steps: &[Step], greatest: bool) -> String {
        let mut one = Conjunction::default();
        let mut here = "e.v".to_owned();
        for step in steps {
            let alias = self.alias('t');
            one.predicate(&step.predicate, &alias);
            one.from.push(format!("triples {alias}"));
            let (start, end) = if step.reverse { ("o", "s") } else { ("s", "o") };
            one.conditions.push(format!("{alias}.{start} = {here}"));
            // A path goes on through references alone.
            let code = Kind::ALL.iter().position(|one| *one == Kind::Ref).unwrap_or_default();
            one.conditions.push(format!("substr({here}, 1, 1) = X'{code:02x}'"));
            here = format!("{alias}.{end}");
        }
        let function = if greatest { "max" } else { "min" };
        format!("(SELECT {function}({here}) {})", one.tail(""))
    }
}

impl Conjunction {
    fn triple(&mut self, pattern: &TriplePattern, alias: &str) {
        self.from.push(format!("triples {alias}"));
        self.term(&pattern.subject, format!("{alias}.s"));
        self.predicate(&pattern.predicate, alias);
        self.term(&pattern.object, format!("{alias}.o"));
    }

    fn predicate(&mut self, predicate: &PredicateTerm, alias: &str) {
        match predicate {
            PredicateTerm::Is(one) => {
                self.conditions
                    .push(format!("{alias}.p = {}", blob(&Value::string(one.as_str()))));
            }
            PredicateTerm::OfType(of_type) => self.conditions.push(format!("{alias}.t = '{of_type}'")),
            PredicateTerm::OfField(field) => self.conditions.push(format!("{alias}.f = '{field}'")),
            PredicateTerm::Var(var) => self.term(&Term::Var(*var), format!("{alias}.p")),
            PredicateTerm::Any => {}
        }
    }

    fn term(&mut self, term: &Term, place: String) {
        match term {
            Term::Any => {}
            Term::Constant(value) => self.conditions.push(format!("{place} = {}", blob(value))),
            Term::Var(var) => match self.places.get(var) {
                Some(before) => self.conditions.push(format!("{place} = {before}")),
                None => {
                    self.places.insert(*var, place);
                }
            },
        }
    }

    /// `FROM … WHERE …`, with one more table in front.
    fn tail(&self, beside: &str) -> String {
        let tables: Vec<&str> = std::iter::once(beside)
            .chain(self.from.iter().map(String::as_str))
            .collect();
        let tables: Vec<&str> = tables.into_iter().filter(|table| !table.is_empty()).collect();
        let from = if tables.is_empty() {
            String::new()
        } else {
            format!("FROM {} ", tables.join(", "))
        };
        format!("{from}WHERE {}", all(&self.conditions))
    }

    /// The different bindings of these variables.
    fn select(&self, vars: &[Var], beside: &str) -> String {
        let columns = vars.iter().map(|var| format!("{} AS v{}", self.places[var], var.0));
        let columns: Vec<String> = std::iter::once("1 AS u".to_owned()).chain(columns).collect();
        format!("SELECT DISTINCT {} {}", columns.join(", "), self.tail(beside))
    }

    fn absent(&self) -> String {
        format!("NOT EXISTS (SELECT 1 {})", self.tail(""))
    }
}
