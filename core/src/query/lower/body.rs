//! Clauses become bodies: names become variables, scopes are told apart, and whatever nothing binds is found.

use std::sync::Arc;

use super::scope::{Budget, Scope, Visible, check_depth, look_up};
use crate::collections::{BTreeMap, BTreeSet};
use crate::{
    query::{
        ast::{
            Literal, Name,
            datalog::{Clause, ClauseKind, PredicatePattern, Term as SyntaxTerm},
        },
        error::{Problem, QueryError},
        limits::IN_VALUES_MAX,
        logic::{
            Body, Comparison, Filter, Kind, Operand, Or, Positive, PredicateTerm, RuleId, Term, TriplePattern, Var,
        },
        place::Place,
    },
    value::Value,
};

/// The rules that can be called: their numbers and arities.
pub(super) type Rules = BTreeMap<Arc<str>, (RuleId, usize)>;

/// Lowers the bodies of one scope.
pub(super) struct Lowering<'a> {
    pub(super) scope: &'a mut Scope,
    pub(super) budget: &'a mut Budget,
    pub(super) rules: &'a Rules,
}

/// Where a body stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Level {
    pub(super) depth: usize,
    /// `None` at the outermost level of a select, the only one with `optional`.
    pub(super) inside: Option<&'static str>,
}

impl Level {
    fn inner(self, inside: &'static str) -> Self {
        let depth = self.depth + 1;
        let inside = Some(inside);
        Self { depth, inside }
    }
}

impl Lowering<'_> {
    /// A body, and the names that are seen behind it.
    pub(super) fn body(
        &mut self,
        clauses: &[Clause],
        outer: &Visible,
        level: Level,
    ) -> Result<(Body, Visible), QueryError> {
        if let Some(first) = clauses.first() {
            check_depth(level.depth, &first.at)?;
        }
        let mut visible = outer.clone();
        for name in bound_by(clauses) {
            visible.entry(name).or_insert_with_key(|name| self.scope.fresh(name));
        }
        let mut body = Body::default();
        let mut ors = Vec::new();
        for clause in clauses {
            self.budget.clause(&clause.at)?;
            match &clause.kind {
                ClauseKind::Or(branches) => ors.push((self.or(branches, &visible, level)?, &clause.at)),
                _ => body.positives.extend(self.positive(clause, &visible, outer)?),
            }
        }
        put_in_order(&mut body, ors, outer)?;
        for clause in clauses {
            if let ClauseKind::Optional(inner) = &clause.kind {
                if let Some(place) = level.inside {
                    let what = "`optional`";
                    return Err(QueryError::new(Problem::Misplaced { what, place }, &clause.at));
                }
                not_local_to_or(clauses, inner, &visible, &clause.at)?;
                let (optional, seen) = self.body(inner, &visible, level.inner("inside `optional`"))?;
                body.optionals.push(optional);
                visible = seen;
            }
        }
        for clause in clauses {
            body.filters.extend(self.filter(clause, &visible, level)?);
        }
        Ok((body, visible))
    }

    fn or(&mut self, branches: &[Vec<Clause>], visible: &Visible, level: Level) -> Result<Or, QueryError> {
        let seen: BTreeSet<Var> = visible.values().copied().collect();
        let mut bodies = Vec::new();
        for branch in branches {
            let (body, _) = self.body(branch, visible, level.inner("inside `or`"))?;
            bodies.push(body);
        }
        Ok(disjunction(bodies, &seen))
    }

    fn positive(
        &mut self,
        clause: &Clause,
        visible: &Visible,
        outer: &Visible,
    ) -> Result<Option<Positive>, QueryError> {
        Ok(match &clause.kind {
            ClauseKind::Triple {
                subject,
                predicate,
                object,
            } => {
                let subject = self.subject(subject, visible, outer)?;
                let predicate = self.predicate(predicate, visible, outer);
                let object = term(object, visible);
                Some(Positive::Triple(TriplePattern {
                    subject,
                    predicate,
                    object,
                }))
            }
            ClauseKind::Call { name, arguments } => {
                let rule = resolve(self.rules, name, arguments.len())?;
                let arguments = arguments.iter().map(|argument| term(argument, visible)).collect();
                Some(Positive::Call { rule, arguments })
            }
            _ => None,
        })
    }

    fn subject(&mut self, subject: &SyntaxTerm, visible: &Visible, outer: &Visible) -> Result<Term, QueryError> {
        if let SyntaxTerm::Constant(Literal { value, at }) = subject
            && Kind::of(value) != Kind::Ref
        {
            let message = format!("a {} is no entity, so it has no triples", value.type_name());
            let error = QueryError::new(Problem::Senseless(message), at);
            return Err(error.help("an entity's id is written @id"));
        }
        // What is bound outside may be no entity: then this pattern, in a branch or a negation, just has no match.
        if let SyntaxTerm::Var(name) = subject
            && !outer.contains_key(&name.text)
        {
            self.scope.is_subject(own(name, visible));
        }
        Ok(term(subject, visible))
    }

    fn predicate(&mut self, predicate: &PredicatePattern, visible: &Visible, outer: &Visible) -> PredicateTerm {
        match predicate {
            PredicatePattern::Is(predicate) => PredicateTerm::Is(predicate.clone()),
            PredicatePattern::OfType(entity_type) => PredicateTerm::OfType(Arc::clone(entity_type)),
            PredicatePattern::OfField(field) => PredicateTerm::OfField(Arc::clone(field)),
            PredicatePattern::Var(name) => {
                let var = own(name, visible);
                if !outer.contains_key(&name.text) {
                    self.scope.is_predicate(var);
                }
                PredicateTerm::Var(var)
            }
            PredicatePattern::Any => PredicateTerm::Any,
        }
    }

    fn filter(&mut self, clause: &Clause, visible: &Visible, level: Level) -> Result<Option<Filter>, QueryError> {
        Ok(match &clause.kind {
            ClauseKind::Compare {
                left,
                comparison,
                right,
            } => Some(self.compare((left, *comparison, right), &clause.at, visible)?),
            ClauseKind::In { var, values } => {
                let var = look_up(var, visible, "`in`")?;
                Some(self.one_of(var, values, &clause.at)?)
            }
            ClauseKind::Text { var, test, text } => {
                let var = look_up(var, visible, "a test of text")?;
                self.scope.is_compared(var, Kind::String, &clause.at);
                let (test, text) = (*test, Arc::clone(text));
                Some(Filter::Text { var, test, text })
            }
            ClauseKind::Kind { var, kind } => {
                let var = look_up(var, visible, "`is`")?;
                Some(Filter::Kind(var, *kind))
            }
            ClauseKind::Not(inner) => {
                let (body, _) = self.body(inner, visible, level.inner("inside `not`"))?;
                Some(Filter::Not(body))
            }
            _ => None,
        })
    }

    /// `in`, of something that is bound.
    pub(super) fn one_of(&mut self, var: Var, values: &[Literal], at: &Place) -> Result<Filter, QueryError> {
        super::scope::within("values of `in`", values.len(), IN_VALUES_MAX, at)?;
        if values.is_empty() {
            let message = "nothing is among no values".to_owned();
            return Err(QueryError::new(Problem::Senseless(message), at));
        }
        for literal in values {
            self.scope.is_compared(var, Kind::of(&literal.value), &literal.at);
        }
        let values: BTreeSet<Value> = values.iter().map(|literal| literal.value.clone()).collect();
        Ok(Filter::In(var, values.into_iter().collect()))
    }

    fn compare(
        &mut self,
        (left, comparison, right): (&SyntaxTerm, Comparison, &SyntaxTerm),
        at: &Place,
        visible: &Visible,
    ) -> Result<Filter, QueryError> {
        let user = "a comparison";
        let (left, comparison, right) = match (left, right) {
            (SyntaxTerm::Var(left), SyntaxTerm::Var(right)) => {
                let right = Operand::Var(look_up(right, visible, user)?);
                (look_up(left, visible, user)?, comparison, right)
            }
            (SyntaxTerm::Var(var), SyntaxTerm::Constant(constant)) => {
                (look_up(var, visible, user)?, comparison, operand(constant))
            }
            (SyntaxTerm::Constant(constant), SyntaxTerm::Var(var)) => {
                (look_up(var, visible, user)?, comparison.flipped(), operand(constant))
            }
            _ => {
                let message = "neither side of the comparison is a variable, so it says nothing".to_owned();
                return Err(QueryError::new(Problem::Senseless(message), at));
            }
        };
        if let Operand::Constant(value) = &right {
            self.scope.is_compared(left, Kind::of(value), at);
        }
        Ok(Filter::Compare {
            left,
            comparison,
            right,
        })
    }
}

fn operand(constant: &Literal) -> Operand {
    Operand::Constant(constant.value.clone())
}

/// The number of a rule that is called with so many arguments.
pub(super) fn resolve(rules: &Rules, name: &Name, found: usize) -> Result<RuleId, QueryError> {
    let Some(&(rule, expected)) = rules.get(&name.text) else {
        let known: Vec<&str> = rules.keys().map(|name| &**name).collect();
        let error = QueryError::new(Problem::UnknownRule(name.text.to_string()), &name.at);
        return Err(error.near(&name.text, &known));
    };
    if found != expected {
        let name_text = name.text.to_string();
        let problem = Problem::Arity {
            name: name_text,
            expected,
            found,
        };
        return Err(QueryError::new(problem, &name.at));
    }
    Ok(rule)
}

fn term(term: &SyntaxTerm, visible: &Visible) -> Term {
    match term {
        SyntaxTerm::Var(name) => Term::Var(own(name, visible)),
        SyntaxTerm::Constant(constant) => Term::Constant(constant.value.clone()),
        SyntaxTerm::Any => Term::Any,
    }
}

/// The variable of a name in a pattern.
fn own(name: &Name, visible: &Visible) -> Var {
    *visible
        .get(&name.text)
        .expect("the names in the patterns of a body were made visible first")
}

/// An `optional` must not seem to go on with a variable that is local to the branches of an `or` beside it.
fn not_local_to_or(beside: &[Clause], inner: &[Clause], visible: &Visible, at: &Place) -> Result<(), QueryError> {
    let in_branches = beside.iter().flat_map(|clause| match &clause.kind {
        ClauseKind::Or(branches) => branches.iter().flat_map(|branch| bound_by(branch)).collect(),
        _ => BTreeSet::new(),
    });
    let in_branches: BTreeSet<Arc<str>> = in_branches.collect();
    let own = bound_by(inner);
    let both = own.intersection(&in_branches).find(|name| !visible.contains_key(*name));
    let Some(name) = both else { return Ok(()) };
    let message = format!("?{name} is local to a branch of `or`, so in `optional` it is another variable");
    let error = QueryError::new(Problem::Senseless(message), at);
    Err(error.help("give one of them another name, or bind it in every branch"))
}

/// The names that the patterns, calls and disjunctions of a body bind.
fn bound_by(clauses: &[Clause]) -> BTreeSet<Arc<str>> {
    let mut names = BTreeSet::new();
    let mut add = |term: &SyntaxTerm| {
        if let SyntaxTerm::Var(name) = term {
            names.insert(Arc::clone(&name.text));
        }
    };
    for clause in clauses {
        match &clause.kind {
            ClauseKind::Triple {
                subject,
                predicate,
                object,
            } => {
                add(subject);
                add(object);
                if let PredicatePattern::Var(name) = predicate {
                    add(&SyntaxTerm::Var(name.clone()));
                }
            }
            ClauseKind::Call { arguments, .. } => arguments.iter().for_each(&mut add),
            _ => {}
        }
    }
    for clause in clauses {
        if let ClauseKind::Or(branches) = &clause.kind {
            names.extend(bound_by_all(branches));
        }
    }
    names
}

/// The names that every branch binds.
fn bound_by_all(branches: &[Vec<Clause>]) -> BTreeSet<Arc<str>> {
    let all = branches.iter().map(|branch| bound_by(branch));
    all.reduce(|a, b| a.intersection(&b).cloned().collect())
        .unwrap_or_default()
}

/// The disjunction of bodies, where these variables are seen outside.
pub(super) fn disjunction(branches: Vec<Body>, seen: &BTreeSet<Var>) -> Or {
    let bound = |body: &Body| {
        body.positives
            .iter()
            .flat_map(Positive::binds)
            .collect::<BTreeSet<Var>>()
    };
    let by_all = branches.iter().map(bound).reduce(|a, b| &a & &b).unwrap_or_default();
    let binds = &by_all & seen;
    let used: BTreeSet<Var> = branches.iter().flat_map(all_of).collect();
    let needs = &(&used & seen) - &binds;
    Or {
        branches,
        binds: binds.into_iter().collect(),
        needs: needs.into_iter().collect(),
    }
}

/// Every variable that stands anywhere in a body.
fn all_of(body: &Body) -> BTreeSet<Var> {
    let mut all = BTreeSet::new();
    for positive in &body.positives {
        all.extend(positive.binds());
        if let Positive::Or(or) = positive {
            all.extend(or.branches.iter().flat_map(all_of));
        }
    }
    for filter in &body.filters {
        match filter {
            Filter::Compare { left, right, .. } => {
                all.insert(*left);
                if let Operand::Var(right) = right {
                    all.insert(*right);
                }
            }
            Filter::In(var, _) | Filter::Kind(var, _) | Filter::Text { var, .. } => {
                all.insert(*var);
            }
            Filter::Not(inner) => all.extend(all_of(inner)),
        }
    }
    all
}

/// Puts the disjunctions behind the other positives, each behind what it needs.
fn put_in_order(body: &mut Body, mut ors: Vec<(Or, &Place)>, outer: &Visible) -> Result<(), QueryError> {
    let mut bound: BTreeSet<Var> = outer.values().copied().collect();
    bound.extend(body.positives.iter().flat_map(Positive::binds));
    while let Some((_, first)) = ors.first() {
        let ready = ors
            .iter()
            .position(|(or, _)| or.needs.iter().all(|var| bound.contains(var)));
        let Some(ready) = ready else {
            return Err(QueryError::new(Problem::NoOrder, first));
        };
        let (or, _) = ors.remove(ready);
        bound.extend(or.binds.iter().copied());
        body.positives.push(Positive::Or(or));
    }
    Ok(())
}
