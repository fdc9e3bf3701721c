//! The Datalog form in JSON: `{"find": ["?title", {"count": "?c"}], "where": [["?p", "post/title", "?title"], …]}`.

use serde_json::{Value as JsonValue, json};

use super::node::{Node, Test, members, some_array, text_test_name, write_literals, write_page, write_value};
use crate::{
    id::{Predicate, is_name},
    query::{
        ast::{
            Name,
            datalog::{
                Clause, ClauseKind, Datalog, FindItem, FindOrder, FindOrderBy, Measure, PredicatePattern,
                RuleDefinition, Term,
            },
        },
        error::{Problem, QueryError},
        logic::Aggregate,
    },
};

const AGGREGATES: [(&str, Aggregate); 7] = [
    ("count", Aggregate::Count),
    ("countDistinct", Aggregate::CountDistinct),
    ("sum", Aggregate::Sum),
    ("avg", Aggregate::Avg),
    ("min", Aggregate::Min),
    ("max", Aggregate::Max),
    ("collect", Aggregate::Collect),
];

const MEASURE: &str = r#"a variable such as "?x", or an aggregate such as {"count": "?x"}"#;
const CLAUSES: &str = "an array of clauses, not empty";
const CLAUSE: &str =
    r#"a clause: an array such as ["?p", "post/title", "?t"], or an object with or, not, optional or call"#;

pub(super) fn read(node: &Node<'_>) -> Result<Datalog, QueryError> {
    node.object("a query", &["rules", "find", "where", "order", "limit", "after"])?;
    let find = node.need("find")?.some_items("an array of columns, not empty")?;
    Ok(Datalog {
        rules: read_rules(node)?,
        find: find.iter().map(read_find).collect::<Result<_, _>>()?,
        clauses: read_clauses(&node.need("where")?)?,
        order: node.each("order", "an array of order keys", read_order)?,
        limit: node.limit()?,
        after: node.after()?,
        at: node.at(),
    })
}

pub(super) fn read_rules(node: &Node<'_>) -> Result<Vec<RuleDefinition>, QueryError> {
    node.each("rules", "an array of rules", |rule| {
        rule.object("a rule", &["name", "head", "where"])?;
        let name = rule.need("name")?;
        let head = rule.need("head")?.some_items("an array of columns, not empty")?;
        Ok(RuleDefinition {
            name: name.name(name.text("a name")?)?,
            head: head
                .iter()
                .map(|item| read_measure(item, &[]))
                .collect::<Result<_, _>>()?,
            clauses: read_clauses(&rule.need("where")?)?,
        })
    })
}

fn read_find(node: &Node<'_>) -> Result<FindItem, QueryError> {
    let measure = read_measure(node, &["as"])?;
    let name = node.label()?;
    Ok(FindItem { measure, name })
}

fn read_measure(node: &Node<'_>, beside: &[&str]) -> Result<Measure, QueryError> {
    if node.json.is_string() {
        return read_variable(node).map(Measure::Var);
    }
    let mut known: Vec<&str> = AGGREGATES.iter().map(|(name, _)| *name).collect();
    known.push("var");
    known.extend(beside);
    let object = node.object(MEASURE, &known)?;
    let mut keys = object.keys().filter(|key| !beside.contains(&key.as_str()));
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return Err(node.expected(MEASURE));
    };
    let Some(of) = node.key(key)? else {
        return Err(node.expected(MEASURE));
    };
    let aggregate = AGGREGATES.iter().find(|(name, _)| name == key);
    Ok(match aggregate {
        Some((_, Aggregate::Count)) if of.json == "*" => Measure::CountAll(node.at()),
        Some((_, function)) => Measure::Aggregate {
            function: *function,
            var: read_variable(&of)?,
        },
        None => Measure::Var(read_variable(&of)?),
    })
}

fn read_variable(node: &Node<'_>) -> Result<Name, QueryError> {
    let text = node.text("a variable")?;
    if let Some(name) = text.strip_prefix('?') {
        return node.name(name);
    }
    let error = node.expected("a variable");
    Err(if is_name(text) {
        error.help(format!("a variable begins with a question mark: \"?{text}\""))
    } else {
        error
    })
}

fn read_order(node: &Node<'_>) -> Result<FindOrder, QueryError> {
    if node.json.is_string() {
        let by = read_order_by(node)?;
        return Ok(FindOrder { by, descending: false });
    }
    node.object("an order key", &["by", "desc"])?;
    Ok(FindOrder {
        by: read_order_by(&node.need("by")?)?,
        descending: node.flag("desc")?,
    })
}

fn read_order_by(node: &Node<'_>) -> Result<FindOrderBy, QueryError> {
    let named = match node.json {
        JsonValue::String(text) if !text.starts_with('?') => Some(text.as_str()),
        JsonValue::Object(object) if object.len() == 1 => object.get("column").and_then(JsonValue::as_str),
        _ => None,
    };
    match named {
        Some(text) => Ok(FindOrderBy::Column(Name {
            text: text.into(),
            at: node.at(),
        })),
        None => read_measure(node, &[]).map(FindOrderBy::Measure),
    }
}

fn read_clauses(node: &Node<'_>) -> Result<Vec<Clause>, QueryError> {
    node.some_items(CLAUSES)?.iter().map(read_clause).collect()
}

fn read_clause(node: &Node<'_>) -> Result<Clause, QueryError> {
    let at = node.at();
    if node.json.is_array() {
        let kind = read_tuple(node)?;
        return Ok(Clause { kind, at });
    }
    let object = node.object(CLAUSE, &["or", "not", "optional", "call", "args"])?;
    let kind = if let Some(call) = node.key("call")? {
        node.object("a call", &["call", "args"])?;
        let arguments = node.need("args")?.some_items("an array of arguments, not empty")?;
        ClauseKind::Call {
            name: call.name(call.text("the name of a rule")?)?,
            arguments: arguments.iter().map(read_term).collect::<Result<_, _>>()?,
        }
    } else if object.len() != 1 {
        return Err(node.expected(CLAUSE));
    } else if let Some(or) = node.key("or")? {
        let branches = or.items("an array of two or more arrays of clauses")?;
        if branches.len() < 2 {
            return Err(or.expected("an array of two or more arrays of clauses"));
        }
        ClauseKind::Or(branches.iter().map(read_clauses).collect::<Result<_, _>>()?)
    } else if let Some(not) = node.key("not")? {
        ClauseKind::Not(read_clauses(&not)?)
    } else {
        ClauseKind::Optional(read_clauses(&node.need("optional")?)?)
    };
    Ok(Clause { kind, at })
}

/// A pattern or a test.
fn read_tuple(node: &Node<'_>) -> Result<ClauseKind, QueryError> {
    let items = node.items(CLAUSE)?;
    let Some(test) = Node::test(&items)? else {
        return read_triple(node, &items);
    };
    node.need_items(&items, 3)?;
    Ok(match test {
        Test::Compare(comparison) => {
            let (left, right) = (read_term(&items[0])?, read_term(&items[2])?);
            if left == Term::Any || right == Term::Any {
                let message = "`_` stands for anything, so comparing it says nothing".to_owned();
                return Err(QueryError::new(Problem::Senseless(message), &node.at()));
            }
            ClauseKind::Compare {
                left,
                comparison,
                right,
            }
        }
        Test::In(values) => ClauseKind::In {
            var: read_variable(&items[0])?,
            values,
        },
        Test::Text(test, text) => ClauseKind::Text {
            var: read_variable(&items[0])?,
            test,
            text,
        },
        Test::Kind(kind) => ClauseKind::Kind {
            var: read_variable(&items[0])?,
            kind,
        },
        Test::Exists => return Err(items[1].expected(r#"a predicate; ["?p", "post/title"] says that there is one"#)),
    })
}

fn read_triple(node: &Node<'_>, items: &[Node<'_>]) -> Result<ClauseKind, QueryError> {
    let (subject, predicate, object) = match items {
        [subject, predicate] => (subject, predicate, None),
        [subject, predicate, object] => (subject, predicate, Some(object)),
        _ => return Err(node.expected("a pattern of two or three items, or a test of three")),
    };
    Ok(ClauseKind::Triple {
        subject: read_term(subject)?,
        predicate: read_predicate(predicate)?,
        object: object.map_or(Ok(Term::Any), read_term)?,
    })
}

fn read_predicate(node: &Node<'_>) -> Result<PredicatePattern, QueryError> {
    let expected = r#"a predicate such as "post/title", or a test such as ">""#;
    let text = node.text(expected)?;
    if text == "_" {
        return Ok(PredicatePattern::Any);
    }
    if text.starts_with('?') {
        return read_variable(node).map(PredicatePattern::Var);
    }
    match text.split_once('/') {
        Some(("*", field)) => Ok(PredicatePattern::OfField(node.name(field)?.text)),
        Some((entity_type, "*")) => Ok(PredicatePattern::OfType(node.name(entity_type)?.text)),
        Some(_) => Predicate::new(text)
            .map(PredicatePattern::Is)
            .map_err(|_| node.expected(expected)),
        None => Err(node.unknown_test(expected)),
    }
}

fn read_term(node: &Node<'_>) -> Result<Term, QueryError> {
    match node.json.as_str() {
        Some("_") => Ok(Term::Any),
        Some(text) if text.starts_with('?') => read_variable(node).map(Term::Var),
        _ => node.literal().map(Term::Constant),
    }
}

// Writing.

pub(super) fn write(query: &Datalog) -> JsonValue {
    let mut all = vec![
        ("rules", write_rules(&query.rules)),
        ("find", Some(query.find.iter().map(write_find).collect())),
        ("where", Some(write_clauses(&query.clauses))),
        ("order", some_array(&query.order, write_order)),
    ];
    all.extend(write_page(query.limit, query.after.as_ref()));
    members(all)
}

pub(super) fn write_rules(rules: &[RuleDefinition]) -> Option<JsonValue> {
    some_array(rules, |rule| {
        let head: JsonValue = rule.head.iter().map(write_measure).collect();
        json!({ "name": &*rule.name.text, "head": head, "where": write_clauses(&rule.clauses) })
    })
}

fn write_find(item: &FindItem) -> JsonValue {
    let written = write_measure(&item.measure);
    let Some(name) = &item.name else { return written };
    let mut object = match written {
        JsonValue::Object(object) => object,
        var => [("var".to_owned(), var)].into_iter().collect(),
    };
    object.insert("as".to_owned(), (&*name.text).into());
    JsonValue::Object(object)
}

fn write_measure(measure: &Measure) -> JsonValue {
    match measure {
        Measure::Var(var) => write_variable(var),
        Measure::CountAll(_) => json!({ "count": "*" }),
        Measure::Aggregate { function, var } => {
            let name = AGGREGATES.iter().find(|(_, known)| known == function);
            let name = name.map_or(function.name(), |(name, _)| name);
            json!({ name: write_variable(var) })
        }
    }
}

fn write_variable(var: &Name) -> JsonValue {
    format!("?{}", var.text).into()
}

fn write_order(order: &FindOrder) -> JsonValue {
    let by = match &order.by {
        FindOrderBy::Measure(measure) => write_measure(measure),
        FindOrderBy::Column(name) => json!({ "column": &*name.text }),
    };
    if order.descending {
        json!({ "by": by, "desc": true })
    } else {
        json!({ "by": by })
    }
}

fn write_clauses(clauses: &[Clause]) -> JsonValue {
    clauses.iter().map(write_clause).collect()
}

fn write_clause(clause: &Clause) -> JsonValue {
    match &clause.kind {
        ClauseKind::Triple {
            subject,
            predicate,
            object: Term::Any,
        } => json!([write_term(subject), write_predicate(predicate)]),
        ClauseKind::Triple {
            subject,
            predicate,
            object,
        } => json!([write_term(subject), write_predicate(predicate), write_term(object)]),
        ClauseKind::Call { name, arguments } => {
            let arguments: JsonValue = arguments.iter().map(write_term).collect();
            json!({ "call": &*name.text, "args": arguments })
        }
        ClauseKind::Compare {
            left,
            comparison,
            right,
        } => json!([write_term(left), comparison.sign(), write_term(right)]),
        ClauseKind::In { var, values } => json!([write_variable(var), "in", write_literals(values)]),
        ClauseKind::Text { var, test, text } => json!([write_variable(var), text_test_name(*test), &**text]),
        ClauseKind::Kind { var, kind } => json!([write_variable(var), "is", kind.name()]),
        ClauseKind::Or(branches) => {
            let branches: JsonValue = branches.iter().map(|branch| write_clauses(branch)).collect();
            json!({ "or": branches })
        }
        ClauseKind::Not(inner) => json!({ "not": write_clauses(inner) }),
        ClauseKind::Optional(inner) => json!({ "optional": write_clauses(inner) }),
    }
}

fn write_term(term: &Term) -> JsonValue {
    match term {
        Term::Var(var) => write_variable(var),
        Term::Constant(constant) => write_value(&constant.value),
        Term::Any => "_".into(),
    }
}

fn write_predicate(predicate: &PredicatePattern) -> JsonValue {
    match predicate {
        PredicatePattern::Is(predicate) => predicate.as_str().into(),
        PredicatePattern::OfType(entity_type) => format!("{entity_type}/*").into(),
        PredicatePattern::OfField(field) => format!("*/{field}").into(),
        PredicatePattern::Var(var) => write_variable(var),
        PredicatePattern::Any => "_".into(),
    }
}
