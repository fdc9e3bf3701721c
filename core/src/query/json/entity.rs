//! The entity form in JSON: `{"from": "post", "where": ["author.age", ">", 30], "select": ["title", {"include": "author"}]}`.

use serde_json::{Value as JsonValue, json};

use super::{
    datalog::{read_rules, write_rules},
    node::{Node, Test, members, some_array, text_test_name, write_literals, write_page, write_value},
};
use crate::{
    limits::READS_ALL_FORMS,
    query::{
        ast::{
            Name, Query,
            datalog::RuleDefinition,
            entity::{Argument, Condition, EntitySelect, FieldItem, ItemValue, Path, PathOrder},
        },
        error::QueryError,
        text,
    },
};

const CONDITION: &str =
    r#"a condition: an array such as ["author.age", ">", 30], or an object with and, or, not or call"#;
const FIELD: &str = r#"a field: "title", "tags[]", "*", or an object with field, include or reverse"#;

/// The keys of a select, after the one that names its type.
const SELECT: [&str; 5] = ["where", "order", "limit", "after", "select"];

pub(super) fn read(node: &Node<'_>) -> Result<Query, QueryError> {
    let mut known = vec!["rules", "from"];
    if !READS_ALL_FORMS {
        known.remove(0);
    }
    known.extend(SELECT);
    node.object("a query: an object with `find` or `from`", &known)?;
    let from = node.need("from")?;
    let entity_type = from.name(from.text("a type of entities")?)?;
    Ok(Query::Entity {
        rules: if READS_ALL_FORMS { read_rules(node)? } else { Vec::new() },
        select: read_select(node, Some(entity_type))?,
    })
}

fn read_select(node: &Node<'_>, entity_type: Option<Name>) -> Result<EntitySelect, QueryError> {
    let condition = match node.key("where")? {
        Some(condition) => Some(read_condition(&condition)?),
        None => None,
    };
    let fields = match node.key("select")? {
        Some(fields) => {
            let items = fields.items("an array of fields")?;
            items
                .iter()
                .filter(|item| item.json != "id")
                .map(read_field)
                .collect::<Result<_, _>>()?
        }
        None => vec![FieldItem::everything()],
    };
    Ok(EntitySelect {
        entity_type,
        condition,
        order: node.each("order", "an array of order keys", read_order)?,
        limit: node.limit()?,
        after: node.after()?,
        fields,
        at: node.at(),
    })
}

fn read_order(node: &Node<'_>) -> Result<PathOrder, QueryError> {
    if node.json.is_string() {
        let path = read_path(node)?;
        return Ok(PathOrder {
            path,
            descending: false,
        });
    }
    node.object("an order key", &["by", "desc"])?;
    Ok(PathOrder {
        path: read_path(&node.need("by")?)?,
        descending: node.flag("desc")?,
    })
}

fn read_path(node: &Node<'_>) -> Result<Path, QueryError> {
    let text = node.text("a path such as \"author.age\"")?;
    match text::parse_path(text) {
        Ok(path) => Ok(Path { at: node.at(), ..path }),
        Err(error) => Err(QueryError { at: node.at(), ..error }),
    }
}

fn read_condition(node: &Node<'_>) -> Result<Condition, QueryError> {
    if node.json.is_array() {
        return read_test(node);
    }
    let object = node.object(CONDITION, &["and", "or", "not", "call", "args"])?;
    if let Some(call) = node.key("call")? {
        node.object("a call", &["call", "args"])?;
        let arguments = node.need("args")?.some_items("an array of arguments, not empty")?;
        return Ok(Condition::Call {
            name: call.name(call.text("the name of a rule")?)?,
            arguments: arguments.iter().map(read_argument).collect::<Result<_, _>>()?,
        });
    }
    if object.len() != 1 {
        return Err(node.expected(CONDITION));
    }
    if let Some(not) = node.key("not")? {
        return Ok(Condition::Not(Box::new(read_condition(&not)?)));
    }
    let is_and = node.has("and");
    let list = node.need(if is_and { "and" } else { "or" })?;
    let conditions = list.some_items("an array of conditions, not empty")?;
    let conditions = conditions.iter().map(read_condition).collect::<Result<_, _>>()?;
    Ok(if is_and {
        Condition::all(conditions)
    } else {
        Condition::any(conditions)
    })
}

fn read_test(node: &Node<'_>) -> Result<Condition, QueryError> {
    let items = node.items(CONDITION)?;
    let (Some(path), Some(sign)) = (items.first(), items.get(1)) else {
        return Err(node.expected(CONDITION));
    };
    let path = read_path(path)?;
    let Some(test) = Node::test(&items)? else {
        return Err(sign.unknown_test("a test: = != < <= > >= has in starts contains is exists"));
    };
    node.need_items(&items, if matches!(test, Test::Exists) { 2 } else { 3 })?;
    Ok(match test {
        Test::Compare(comparison) => Condition::Compare {
            path,
            comparison,
            value: items[2].literal()?,
        },
        Test::In(values) => Condition::In { path, values },
        Test::Text(test, text) => Condition::Text { path, test, text },
        Test::Kind(kind) => Condition::Kind { path, kind },
        Test::Exists => Condition::Exists(path),
    })
}

fn read_argument(node: &Node<'_>) -> Result<Argument, QueryError> {
    if node.json == "_" {
        return Ok(Argument::Any);
    }
    if node.json.get("$id").and_then(JsonValue::as_bool) == Some(true) {
        return Ok(Argument::Id);
    }
    node.literal().map(Argument::Constant)
}

fn read_field(node: &Node<'_>) -> Result<FieldItem, QueryError> {
    let at = node.at();
    if node.json == "*" {
        return Ok(FieldItem::everything());
    }
    if let Some(text) = node.json.as_str() {
        let value = read_plain(node, text)?;
        return Ok(FieldItem { value, name: None, at });
    }
    let value = if let Some(field) = node.key("field")? {
        node.object(FIELD, &["field", "as"])?;
        read_plain(&field, field.text("a field")?)?
    } else if let Some(reverse) = node.key("reverse")? {
        let mut known = vec!["reverse", "as"];
        known.extend(SELECT);
        node.object(FIELD, &known)?;
        let expected = "a type and its field that refers here, such as \"comment.post\"";
        let text = reverse.text(expected)?;
        let Some((entity_type, field)) = text.split_once('.') else {
            return Err(reverse.expected(expected));
        };
        ItemValue::Reverse {
            field: reverse.name(field)?,
            select: read_select(node, Some(reverse.name(entity_type)?))?,
        }
    } else {
        let mut known = vec!["field", "reverse", "include", "type", "as"];
        known.extend(SELECT);
        node.object(FIELD, &known)?;
        let include = node.need("include")?;
        let text = include.text("a field that refers to entities")?;
        let entity_type = match node.key("type")? {
            Some(named) => Some(named.name(named.text("a type")?)?),
            None => None,
        };
        let select = read_select(node, entity_type)?;
        match text.strip_suffix("[]") {
            Some(field) => ItemValue::Many {
                field: include.name(field)?,
                select,
            },
            None => ItemValue::First {
                field: include.name(text)?,
                select,
            },
        }
    };
    let name = node.label()?;
    Ok(FieldItem { value, name, at })
}

fn read_plain(node: &Node<'_>, text: &str) -> Result<ItemValue, QueryError> {
    match text.strip_suffix("[]") {
        Some(field) => node.name(field).map(ItemValue::All),
        None => node.name(text).map(ItemValue::One),
    }
}

// Writing.

pub(super) fn write(rules: &[RuleDefinition], select: &EntitySelect) -> JsonValue {
    let from = select
        .entity_type
        .as_ref()
        .map(|entity_type| (&*entity_type.text).into());
    let mut all = vec![("rules", write_rules(rules)), ("from", from)];
    all.extend(write_select(select));
    members(all)
}

fn write_select(select: &EntitySelect) -> Vec<(&'static str, Option<JsonValue>)> {
    let mut all = vec![
        ("where", select.condition.as_ref().map(write_condition)),
        ("order", some_array(&select.order, write_order)),
    ];
    all.extend(write_page(select.limit, select.after.as_ref()));
    let fields = (!select.asks_for_everything()).then(|| select.fields.iter().map(write_field).collect());
    all.push(("select", fields));
    all
}

fn write_order(order: &PathOrder) -> JsonValue {
    let by = write_path(&order.path);
    if order.descending {
        json!({ "by": by, "desc": true })
    } else {
        json!({ "by": by })
    }
}

fn write_path(path: &Path) -> JsonValue {
    text::print::path_text(path).into()
}

fn write_condition(condition: &Condition) -> JsonValue {
    let list = |conditions: &[Condition]| conditions.iter().map(write_condition).collect::<JsonValue>();
    match condition {
        Condition::And(conditions) => json!({ "and": list(conditions) }),
        Condition::Or(conditions) => json!({ "or": list(conditions) }),
        Condition::Not(inner) => json!({ "not": write_condition(inner) }),
        Condition::Compare {
            path,
            comparison,
            value,
        } => json!([write_path(path), comparison.sign(), write_value(&value.value)]),
        Condition::In { path, values } => json!([write_path(path), "in", write_literals(values)]),
        Condition::Text { path, test, text } => json!([write_path(path), text_test_name(*test), &**text]),
        Condition::Kind { path, kind } => json!([write_path(path), "is", kind.name()]),
        Condition::Exists(path) => json!([write_path(path), "exists"]),
        Condition::Call { name, arguments } => {
            let arguments: JsonValue = arguments.iter().map(write_argument).collect();
            json!({ "call": &*name.text, "args": arguments })
        }
    }
}

fn write_argument(argument: &Argument) -> JsonValue {
    match argument {
        Argument::Id => json!({ "$id": true }),
        Argument::Constant(constant) => write_value(&constant.value),
        Argument::Any => "_".into(),
    }
}

fn write_field(item: &FieldItem) -> JsonValue {
    let name = item.name.as_ref().map(|name| JsonValue::from(&*name.text));
    let plain = |text: String| match &name {
        // A bare "id" stands for the entity's own id.
        None if text != "id" => JsonValue::String(text),
        _ => members(vec![("field", Some(text.into())), ("as", name.clone())]),
    };
    let (key, of, select) = match &item.value {
        ItemValue::Everything => return "*".into(),
        ItemValue::One(field) => return plain(field.text.to_string()),
        ItemValue::All(field) => return plain(format!("{}[]", field.text)),
        ItemValue::First { field, select } => ("include", field.text.to_string(), select),
        ItemValue::Many { field, select } => ("include", format!("{}[]", field.text), select),
        ItemValue::Reverse { field, select } => {
            let entity_type = select.entity_type.as_ref().map_or("", |entity_type| &*entity_type.text);
            ("reverse", format!("{entity_type}.{}", field.text), select)
        }
    };
    let mut all = vec![(key, Some(of.into()))];
    if key == "include" {
        let entity_type = select
            .entity_type
            .as_ref()
            .map(|entity_type| (&*entity_type.text).into());
        all.push(("type", entity_type));
    }
    all.push(("as", name));
    all.extend(write_select(select));
    members(all)
}
