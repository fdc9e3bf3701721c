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
use crate::limits::READS_ALL_FORMS;

/// Checks a query and says what it means.
pub fn lower(query: &Syntax) -> Result<Query, QueryError> {
    let (mut budget, mut scope) = (Budget::default(), Scope::default());
    if READS_ALL_FORMS {
        return lower_any(query, &mut budget, &mut scope);
    }
    let Syntax::Entity { select, .. } = query else {
        unreachable!("no other form is read here");
    };
    let select = entities::lower(select, &body::Rules::new(), &mut budget, &mut scope)?;
    scope.check_types()?;
    Ok(Query {
        rules: Vec::new(),
        strata: Vec::new(),
        select,
        variables: scope.names,
    })
}

fn lower_any(query: &Syntax, budget: &mut Budget, scope: &mut Scope) -> Result<Query, QueryError> {
    let definitions = match query {
        Syntax::Datalog(datalog) => &datalog.rules,
        Syntax::Entity { rules, .. } => rules,
    };
    let numbered = rules::number(definitions)?;
    let mut rules = rules::lower(definitions, &numbered, budget)?;
    let select = match query {
        Syntax::Datalog(datalog) => table::lower(datalog, &numbered, budget, scope)?,
        Syntax::Entity { select, .. } => entities::lower(select, &numbered, budget, scope)?,
    };
    scope.check_types()?;
    let mut used = Vec::new();
    bodies(&select, &mut used);
    let strata = rules::stratify(&mut rules, &used, definitions)?;
    Ok(Query {
        rules,
        strata,
        select,
        variables: std::mem::take(&mut scope.names),
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
