//! Variables of one scope: who they are, what is known of them, and how many clauses use them.

use std::sync::Arc;

use crate::collections::{BTreeMap, BTreeSet};
use crate::query::{
    ast::Name,
    error::{Problem, QueryError},
    limits::{CLAUSES_MAX, DEPTH_MAX},
    logic::{Kind, Var},
    place::Place,
};

/// The names that a clause sees, and what they stand for.
pub(super) type Visible = BTreeMap<Arc<str>, Var>;

/// The variables of a rule's definition, or of a select and all that nests in it.
#[derive(Debug, Default)]
pub(super) struct Scope {
    pub(super) names: Vec<Arc<str>>,
    /// Variables at the place of a subject: entities.
    subjects: BTreeSet<Var>,
    /// Variables at the place of a predicate: strings.
    predicates: BTreeSet<Var>,
    /// Variables, each with the type of a constant that it is compared with.
    compared: Vec<(Var, Kind, Place)>,
}

/// What a whole query has used up of its limits.
#[derive(Debug, Default)]
pub(super) struct Budget {
    clauses: usize,
}

impl Scope {
    pub(super) fn fresh(&mut self, name: &str) -> Var {
        let var = Var(u32::try_from(self.names.len()).expect("clauses are few, and so are their variables"));
        self.names.push(name.into());
        var
    }

    /// A variable of our own, named after what it holds.
    pub(super) fn invent(&mut self, after: &str) -> Var {
        self.fresh(&format!("_{after}"))
    }

    pub(super) fn is_subject(&mut self, var: Var) {
        self.subjects.insert(var);
    }

    pub(super) fn is_predicate(&mut self, var: Var) {
        self.predicates.insert(var);
    }

    pub(super) fn is_compared(&mut self, var: Var, kind: Kind, at: &Place) {
        self.compared.push((var, kind, at.clone()));
    }

    /// Nobody compares an entity with a number.
    pub(super) fn check_types(&self) -> Result<(), QueryError> {
        for (var, kind, at) in &self.compared {
            let (what, fits, help) = if self.subjects.contains(var) {
                ("an entity", Kind::Ref, "an entity's id is written @id")
            } else if self.predicates.contains(var) {
                (
                    "a predicate",
                    Kind::String,
                    "a predicate is compared as text: \"post/title\"",
                )
            } else {
                continue;
            };
            if *kind != fits {
                let name = self.name(*var);
                let message = format!("{name} is {what}, which is never a {}", kind.name());
                return Err(QueryError::new(Problem::Senseless(message), at).help(help));
            }
        }
        Ok(())
    }

    fn name(&self, var: Var) -> String {
        let name = usize::try_from(var.0).ok().and_then(|at| self.names.get(at));
        match name {
            Some(name) if !name.starts_with('_') => format!("?{name}"),
            _ => "this".to_owned(),
        }
    }
}

impl Budget {
    pub(super) fn clause(&mut self, at: &Place) -> Result<(), QueryError> {
        self.clauses += 1;
        within("clauses", self.clauses, CLAUSES_MAX, at)
    }
}

pub(super) fn check_depth(depth: usize, at: &Place) -> Result<(), QueryError> {
    within("levels of nesting", depth, DEPTH_MAX, at)
}

pub(super) fn within(what: &'static str, size: usize, max: usize, at: &Place) -> Result<(), QueryError> {
    if size <= max {
        return Ok(());
    }
    Err(QueryError::new(Problem::OverLimit { what, size, max }, at))
}

/// The variable of a name that something other than a pattern uses.
pub(super) fn look_up(name: &Name, visible: &Visible, user: &'static str) -> Result<Var, QueryError> {
    if let Some(var) = visible.get(&name.text) {
        return Ok(*var);
    }
    let var = name.text.to_string();
    let known: Vec<&str> = visible.keys().map(|name| &**name).collect();
    let error = QueryError::new(Problem::Unbound { var, user }, &name.at).near(&name.text, &known);
    Err(if error.help.is_some() {
        error
    } else {
        error.help(format!(
            "a pattern beside it binds it, such as `?{0} post/title _` or `_ post/title ?{0}`",
            name.text
        ))
    })
}
