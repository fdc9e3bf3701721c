//! From syntax to the logical form: names are resolved, scopes told apart, and all that has no meaning is refused.
//!
//! What is checked, each with the place it stands at: that patterns bind whatever is compared, negated or asked for;
//! that rules exist, fit, are used, and do not need their own complement; that constants can equal what they are
//! compared with where that is known; that the order is by what is asked for; and the limits ([`super::limits`]).

mod body;
mod entities;
mod rules;
mod scope;
mod table;

use self::scope::{Budget, Scope};
use super::{
    ast::Query as Syntax,
    error::QueryError,
    logic::{Body, FieldValue, Query, Select, Shape},
};

/// Checks a query and says what it means.
pub fn lower(query: &Syntax) -> Result<Query, QueryError> {
    let definitions = match query {
        Syntax::Datalog(datalog) => &datalog.rules,
        Syntax::Entity { rules, .. } => rules,
    };
    let mut budget = Budget::default();
    let mut scope = Scope::default();
    let numbered = rules::number(definitions)?;
    let mut rules = rules::lower(definitions, &numbered, &mut budget)?;
    let select = match query {
        Syntax::Datalog(datalog) => table::lower(datalog, &numbered, &mut budget, &mut scope)?,
        Syntax::Entity { select, .. } => entities::lower(select, &numbered, &mut budget, &mut scope)?,
    };
    scope.check_types()?;
    let mut used = Vec::new();
    bodies(&select, &mut used);
    let strata = rules::stratify(&mut rules, &used, definitions)?;
    Ok(Query {
        rules,
        strata,
        select,
        variables: scope.names,
    })
}

/// The bodies of a select and of everything nested in it.
fn bodies<'a>(select: &'a Select, out: &mut Vec<&'a Body>) {
    out.push(&select.body);
    if let Shape::Entities { fields, .. } = &select.shape {
        for field in fields {
            if let FieldValue::Many(inner) | FieldValue::First(inner) = &field.value {
                bodies(inner, out);
            }
        }
    }
}
