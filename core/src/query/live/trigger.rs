//! Triggers: which changed triples may touch a query, and the way from there to keys.
//!
//! A triple that fails a comparison beside its pattern is none: it makes no binding, keeps none out and fills none in.
//! Nor is there a trigger for "is a post" beside a pattern about `post/…` of the same entity, which says it too. What
//! rules derive are changed tuples, and lead on through calls in the same way.

use std::sync::Arc;

use super::{Filter, Query, Refused, Shape, Triples, Value, Var};
use crate::{
    collections::{BTreeMap, BTreeSet},
    graph::Triple,
    id::Predicate,
    query::{
        logic::{
            Body, Definition, Expression, Field, FieldValue, Operand, OrderBy, OrderKey, Positive, PredicateTerm, Rule,
            RuleId, Select, Term, TriplePattern,
        },
        triples::{PredicateNumber, Term as Number},
    },
};

/// One pattern, and what leads from a triple that matches it to keys.
#[derive(Debug, Clone)]
pub(super) struct Trigger {
    pub(super) pattern: TriplePattern,
    /// Of the pattern's predicate, as soon as the store has one.
    number: Option<PredicateNumber>,
    /// What its subject and its object must pass, each by itself.
    pub(super) tests: Box<[Filter]>,
    /// Empty where the pattern binds the goal itself.
    pub(super) way: Box<[Positive]>,
    /// A field that the subject must have beside, for the triple to matter.
    pub(super) beside: Option<(Predicate, Value)>,
    /// It stands inside a `not`: what comes may take something away.
    pub(super) is_negated: bool,
    /// Nothing else looks at the object: which entities a binding rests on depends on there being such a triple, and not
    /// on which it is.
    pub(super) is_presence: bool,
}

/// One call of a rule, and what leads from a tuple of it to keys.
#[derive(Debug, Clone)]
pub(super) struct Called {
    pub(super) rule: RuleId,
    pub(super) arguments: Vec<Term>,
    pub(super) way: Box<[Positive]>,
    pub(super) is_negated: bool,
}

/// All triggers of a query, or of one definition of a rule. There is one of these for every query that is followed, so it
/// has no room to grow.
#[derive(Debug)]
pub(super) struct Triggers {
    pub(super) all: Box<[Trigger]>,
    pub(super) calls: Box<[Called]>,
    /// The variables whose values are looked for: the key, or those of the definition's head.
    pub(super) goal: Box<[Var]>,
    /// Variables of the query and of its paths.
    pub(super) width: usize,
}

/// Finds them.
struct Builder {
    all: Vec<Trigger>,
    calls: Vec<Called>,
    goal: Vec<Var>,
    width: usize,
    /// How often each variable stands in clauses.
    mentions: BTreeMap<Var, usize>,
}

/// Where a clause stands: what is around it, and whether a `not` is.
#[derive(Clone, Copy)]
struct Around<'a> {
    positives: &'a [Positive],
    is_negated: bool,
}

impl Triggers {
    pub(super) fn of(query: &Query) -> Result<Self, Refused> {
        let select = &query.select;
        let key = match &select.shape {
            Shape::Entities { entity, .. } => *entity,
            Shape::Table(_) => key_of(&select.body)?,
        };
        let mut builder = Builder::toward(vec![key], query.variables.len());
        mention_select(select, &mut builder.mentions);
        builder.select(select, &[]);
        Ok(builder.finish())
    }

    /// Of a definition of a rule: they lead to the tuples of its head.
    pub(super) fn of_definition(rule: &Rule, definition: &Definition) -> Result<Self, Refused> {
        let goal: Option<Vec<Var>> = definition
            .head
            .iter()
            .map(|expression| match expression {
                Expression::Var(var) => Some(*var),
                Expression::Aggregate(..) | Expression::CountAll => None,
            })
            .collect();
        let goal = goal.ok_or_else(|| Refused::Rule(Arc::clone(&rule.name)))?;
        if !goal.iter().all(|var| is_found(&definition.body, *var)) {
            return Err(Refused::PredicateVariable);
        }
        let mut builder = Builder::toward(goal, definition.variables.len());
        mention(&definition.body, &mut builder.mentions);
        let (positives, is_negated) = (&[][..], false);
        builder.body(&definition.body, Around { positives, is_negated });
        // Of a rule everything is covered that any of its patterns takes, whatever stands beside.
        for trigger in &mut builder.all {
            trigger.beside = None;
        }
        Ok(builder.finish())
    }

    /// Notes the numbers of predicates that the store has met: most triples are told from most patterns by them.
    pub(super) fn meet<T: Triples + ?Sized>(&mut self, store: &T) {
        for trigger in self.all.iter_mut().filter(|trigger| trigger.number.is_none()) {
            if let PredicateTerm::Is(predicate) = &trigger.pattern.predicate {
                trigger.number = store.predicate_number(predicate);
            }
        }
    }

    /// Reads a little of what looking for keys will read.
    pub(super) fn warm(&self) -> usize {
        let some = |trigger: &Trigger| usize::from(trigger.number.is_none()) + trigger.tests.len();
        self.all.iter().map(some).sum()
    }

    /// Of a query: its key.
    pub(super) fn key(&self) -> Var {
        self.goal[0]
    }
}

impl Builder {
    fn toward(goal: Vec<Var>, width: usize) -> Self {
        Self {
            all: Vec::new(),
            calls: Vec::new(),
            goal,
            width,
            mentions: BTreeMap::new(),
        }
    }

    fn finish(self) -> Triggers {
        Triggers {
            all: self.all.into(),
            calls: self.calls.into(),
            goal: self.goal.into(),
            width: self.width,
        }
    }

    fn select(&mut self, select: &Select, positives: &[Positive]) {
        let is_negated = false;
        self.body(&select.body, Around { positives, is_negated });
        if let Shape::Entities { entity, fields } = &select.shape {
            let mut way = positives.to_vec();
            way.extend(select.body.positives.iter().cloned());
            for field in fields {
                self.field(*entity, field, &way);
            }
            for key in &select.order {
                self.order(*entity, key, &way);
            }
        }
    }

    fn body(&mut self, body: &Body, around: Around<'_>) {
        let is_negated = around.is_negated;
        let mut way = around.positives.to_vec();
        way.extend(body.positives.iter().cloned());
        for (at, positive) in body.positives.iter().enumerate() {
            let mut rest = way.clone();
            rest.remove(around.positives.len() + at);
            match positive {
                Positive::Triple(pattern) if pattern.is_said_by(&rest) => {}
                Positive::Triple(pattern) => {
                    let tests = body.filters.iter().filter(|filter| is_test_of(filter, pattern));
                    let tests: Box<[Filter]> = tests.cloned().collect();
                    self.all.push(Trigger {
                        is_presence: self.is_presence(pattern, &tests),
                        beside: beside(pattern, &rest),
                        way: self.way(pattern, rest),
                        tests,
                        pattern: pattern.clone(),
                        number: None,
                        is_negated,
                    });
                }
                Positive::Or(or) => {
                    let positives = &rest[..];
                    let branches = or.branches.iter();
                    branches.for_each(|branch| self.body(branch, Around { positives, is_negated }));
                }
                Positive::Call { rule, arguments } => self.calls.push(Called {
                    rule: *rule,
                    arguments: arguments.clone(),
                    way: rest.into(),
                    is_negated,
                }),
            }
        }
        for (at, optional) in body.optionals.iter().enumerate() {
            let positives = &with_those_needed(&way, &body.optionals[..at], optional)[..];
            self.body(optional, Around { positives, is_negated });
        }
        for filter in &body.filters {
            if let Filter::Not(inner) = filter {
                let positives = &with_those_needed(&way, &body.optionals, inner)[..];
                let is_negated = true;
                self.body(inner, Around { positives, is_negated });
            }
        }
    }

    fn field(&mut self, entity: Var, field: &Field, way: &[Positive]) {
        let predicate = match &field.value {
            FieldValue::One(predicate) | FieldValue::All(predicate) => predicate.clone(),
            FieldValue::Everything => PredicateTerm::Any,
            FieldValue::Many(select) | FieldValue::First(select) => return self.select(select, way),
        };
        let pattern = TriplePattern {
            subject: Term::Var(entity),
            predicate,
            object: Term::Any,
        };
        self.push(pattern, way.to_vec());
    }

    /// The steps of a path are patterns with variables of their own.
    fn order(&mut self, entity: Var, key: &OrderKey, way: &[Positive]) {
        let OrderBy::Path(steps) = &key.by else { return };
        let (mut way, mut here) = (way.to_vec(), entity);
        for step in steps {
            let next = Var(u32::try_from(self.width).expect("a query has few variables"));
            self.width += 1;
            let (subject, object) = if step.reverse { (next, here) } else { (here, next) };
            let pattern = TriplePattern {
                subject: Term::Var(subject),
                predicate: step.predicate.clone(),
                object: Term::Var(object),
            };
            self.push(pattern.clone(), way.clone());
            way.push(Positive::Triple(pattern));
            here = next;
        }
    }

    fn push(&mut self, pattern: TriplePattern, way: Vec<Positive>) {
        self.all.push(Trigger {
            beside: beside(&pattern, &way),
            way: self.way(&pattern, way),
            pattern,
            number: None,
            tests: Box::default(),
            is_negated: false,
            is_presence: false,
        });
    }

    /// What leads on to the goal from a pattern.
    fn way(&self, pattern: &TriplePattern, around: Vec<Positive>) -> Box<[Positive]> {
        let is_bound = |var: &Var| [&pattern.subject, &pattern.object].contains(&&Term::Var(*var));
        if self.goal.iter().all(is_bound) {
            return Box::default();
        }
        around.into()
    }

    fn is_presence(&self, pattern: &TriplePattern, tests: &[Filter]) -> bool {
        match &pattern.object {
            Term::Any => true,
            Term::Constant(_) => false,
            Term::Var(var) => {
                let own = tests.iter().filter(|filter| filter.tested() == Some(*var)).count();
                !self.goal.contains(var) && self.mentions.get(var) == Some(&(1 + own))
            }
        }
    }
}

/// The way to a clause inside, with the optionals that it needs: an optional is needed that is the first to bind a variable
/// which the patterns inside, or those of another that is needed, use. Where that one binds nothing the variable is null,
/// and no pattern matches a null.
fn with_those_needed(way: &[Positive], optionals: &[Body], inner: &Body) -> Vec<Positive> {
    let uses = |body: &Body| {
        body.positives
            .iter()
            .flat_map(Positive::binds)
            .collect::<BTreeSet<Var>>()
    };
    let mut bound: BTreeSet<Var> = way.iter().flat_map(Positive::binds).collect();
    let firsts: Vec<BTreeSet<Var>> = optionals
        .iter()
        .map(|optional| uses(optional).into_iter().filter(|var| bound.insert(*var)).collect())
        .collect();
    let (mut wanted, mut way) = (uses(inner), way.to_vec());
    for (optional, first) in optionals.iter().zip(&firsts).rev() {
        if !first.is_disjoint(&wanted) {
            wanted.extend(uses(optional));
            way.extend(optional.positives.iter().cloned());
        }
    }
    way
}

fn mention_select(select: &Select, mentions: &mut BTreeMap<Var, usize>) {
    mention(&select.body, mentions);
    let Shape::Entities { entity, fields } = &select.shape else {
        return;
    };
    *mentions.entry(*entity).or_default() += 1;
    for field in fields {
        if let FieldValue::Many(select) | FieldValue::First(select) = &field.value {
            mention_select(select, mentions);
        }
    }
}

/// Counts the places of variables in clauses.
fn mention(body: &Body, mentions: &mut BTreeMap<Var, usize>) {
    let mut count = |var: Option<Var>| var.into_iter().for_each(|var| *mentions.entry(var).or_default() += 1);
    for positive in &body.positives {
        match positive {
            Positive::Triple(pattern) => {
                count(pattern.subject.var());
                count(pattern.object.var());
                if let PredicateTerm::Var(var) = &pattern.predicate {
                    count(Some(*var));
                }
            }
            Positive::Call { arguments, .. } => arguments.iter().for_each(|place| count(place.var())),
            Positive::Or(_) => {}
        }
    }
    for filter in &body.filters {
        match filter {
            Filter::Compare { left, right, .. } => {
                count(Some(*left));
                if let Operand::Var(var) = right {
                    count(Some(*var));
                }
            }
            Filter::In(var, _) | Filter::Text { var, .. } | Filter::Kind(var, _) => count(Some(*var)),
            Filter::Not(_) => {}
        }
    }
    for positive in &body.positives {
        if let Positive::Or(or) = positive {
            or.branches.iter().for_each(|branch| mention(branch, mentions));
        }
    }
    for filter in &body.filters {
        if let Filter::Not(inner) = filter {
            mention(inner, mentions);
        }
    }
    body.optionals.iter().for_each(|optional| mention(optional, mentions));
}

impl Trigger {
    /// Whether a triple matches by itself: its constants and what is tested of it alone.
    pub(super) fn takes<T: Triples + ?Sized>(&self, triple: &Triple, store: &T) -> bool {
        let pattern = &self.pattern;
        let is_taken = match self.number {
            Some(number) => number == triple.predicate,
            None => pattern.predicate.takes(&store.predicate(triple.predicate)),
        };
        if !is_taken {
            return false;
        }
        let subject = || store.value(Number::entity(triple.subject));
        let is_at = |place: &Term, value: Number| match place {
            Term::Constant(constant) => store.term(constant) == Some(value),
            Term::Var(_) | Term::Any => true,
        };
        let is_of = |place: &Term, filter: &Filter| place.var().is_some() && place.var() == filter.tested();
        is_at(&pattern.subject, Number::entity(triple.subject))
            && is_at(&pattern.object, triple.object)
            && self.tests.iter().all(|filter| {
                (!is_of(&pattern.object, filter) || filter.passes(&store.value(triple.object)))
                    && (!is_of(&pattern.subject, filter) || filter.passes(&subject()))
            })
    }
}

/// A field with a constant that a pattern's subject must have by what stands around it. Not for a pattern that names its
/// own object, or its subject: few triples are like that anyway.
fn beside(pattern: &TriplePattern, around: &[Positive]) -> Option<(Predicate, Value)> {
    if pattern.subject.var().is_none() || matches!(pattern.object, Term::Constant(_)) {
        return None;
    }
    around.iter().find_map(|positive| match positive {
        Positive::Triple(TriplePattern {
            subject,
            predicate: PredicateTerm::Is(predicate),
            object: Term::Constant(value),
        }) if *subject == pattern.subject => Some((predicate.clone(), value.clone())),
        _ => None,
    })
}

/// Whether a filter looks at nothing but the pattern's subject, or at nothing but its object.
fn is_test_of(filter: &Filter, pattern: &TriplePattern) -> bool {
    let var = filter.tested();
    var.is_some() && (pattern.subject.var() == var || pattern.object.var() == var)
}

/// The variable that most patterns have as their subject, or else any that the body finds.
fn key_of(body: &Body) -> Result<Var, Refused> {
    let bound: BTreeSet<Var> = body.positives.iter().flat_map(Positive::binds).collect();
    let times = |var: &Var| {
        let subjects = body.positives.iter().filter(|positive| match positive {
            Positive::Triple(pattern) => pattern.subject == Term::Var(*var),
            Positive::Call { .. } | Positive::Or(_) => false,
        });
        subjects.count()
    };
    let reason = if bound.is_empty() {
        Refused::NoVariable
    } else {
        Refused::PredicateVariable
    };
    let found = bound.into_iter().filter(|var| is_found(body, *var));
    found.max_by_key(times).ok_or(reason)
}

/// Whether a variable gets its value from a subject, an object or a tuple, in whatever way the body holds. One that is
/// only in a predicate's place has a text that the store need not know.
fn is_found(body: &Body, var: Var) -> bool {
    body.positives.iter().any(|positive| match positive {
        Positive::Triple(pattern) => [&pattern.subject, &pattern.object].contains(&&Term::Var(var)),
        Positive::Call { arguments, .. } => arguments.contains(&Term::Var(var)),
        Positive::Or(or) => or.binds.contains(&var) && or.branches.iter().all(|branch| is_found(branch, var)),
    })
}

/// The variables that tell bindings of a body apart.
pub(super) fn own_variables(body: &Body) -> BTreeSet<Var> {
    let optionals = body.optionals.iter().flat_map(|optional| &optional.positives);
    body.positives
        .iter()
        .chain(optionals)
        .flat_map(Positive::binds)
        .collect()
}
