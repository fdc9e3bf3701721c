//! Random queries in the Datalog form. Each passes all checks.

use std::sync::Arc;

use super::{
    choices::Choices,
    schema::{FieldSchema, Schema, value},
};
use crate::collections::BTreeSet;
use crate::query::{
    answer::Datum,
    ast::{
        Literal, Name, Query,
        datalog::{
            Clause, ClauseKind, Datalog, FindItem, FindOrder, FindOrderBy, Measure, PredicatePattern, RuleDefinition,
            Term,
        },
    },
    logic::{Aggregate, Comparison, Cursor, Kind, TextTest},
    place::Place,
};

/// What a random query may have.
#[expect(clippy::struct_excessive_bools, reason = "switches that are set one by one")]
#[derive(Debug, Clone, Copy)]
pub struct Features {
    /// Rules, recursive ones among them.
    pub rules: bool,
    /// `optional`
    pub optional: bool,
    /// Patterns whose predicate is a variable, `_`, `a/*` or `*/name`.
    pub open_predicates: bool,
    /// `collect`, `min` and `max` of mixed types, sums, averages and counts.
    pub aggregates: bool,
}

impl Features {
    /// All of them.
    pub const ALL: Self = Self {
        rules: true,
        optional: true,
        open_predicates: true,
        aggregates: true,
    };
}

/// A query. What the features leave out is not in it.
pub fn query(schema: &Schema, features: Features, choices: &mut Choices<'_>) -> Query {
    let mut maker = Maker {
        schema,
        features,
        choices,
        bound: Vec::new(),
        next: 0,
        rules: Vec::new(),
    };
    let clauses = maker.body();
    let (find, order) = maker.columns();
    let limit = maker
        .choices
        .one_in(3)
        .then(|| [5, 1, 2, 0, 100][maker.choices.below(5)]);
    let after = maker.choices.one_in(8).then(|| maker.cursor(find.len()));
    Query::Datalog(Datalog {
        rules: maker.rules,
        find,
        clauses,
        order,
        limit,
        after,
        at: Place::Unknown,
    })
}

/// A variable that is bound, and what it mostly holds.
#[derive(Debug, Clone)]
struct Bound {
    name: Arc<str>,
    kind: Kind,
    /// At the place of a subject or of a predicate its type is certain, and other comparisons are refused.
    certain: bool,
}

struct Maker<'a, 'b> {
    schema: &'a Schema,
    features: Features,
    choices: &'a mut Choices<'b>,
    bound: Vec<Bound>,
    next: usize,
    rules: Vec<RuleDefinition>,
}

const COMPARISONS: [Comparison; 6] = Comparison::ALL;

impl Maker<'_, '_> {
    fn body(&mut self) -> Vec<Clause> {
        let mut clauses = Vec::new();
        for _ in 0..=self.choices.below(3) {
            clauses.push(self.triple());
        }
        if self.features.rules && self.choices.one_in(3) {
            clauses.push(self.call());
        }
        if self.choices.one_in(4) {
            clauses.push(self.or());
        }
        if self.features.optional && self.choices.one_in(3) {
            for _ in 0..=self.choices.below(3) {
                clauses.push(self.optional());
            }
        }
        for _ in 0..self.choices.below(3) {
            clauses.push(self.filter());
        }
        if self.choices.one_in(3) {
            clauses.push(self.not());
        }
        clauses
    }

    // Terms.

    fn fresh(&mut self, kind: Kind, certain: bool) -> Term {
        let name: Arc<str> = format!("v{}", self.next).into();
        self.next += 1;
        self.bound.push(Bound {
            name: Arc::clone(&name),
            kind,
            certain,
        });
        var(&name)
    }

    /// A variable that holds such values, if there is one.
    fn known(&mut self, kind: Kind) -> Option<Arc<str>> {
        let fits: Vec<Arc<str>> = self
            .bound
            .iter()
            .filter(|bound| bound.kind == kind)
            .map(|bound| Arc::clone(&bound.name))
            .collect();
        if fits.is_empty() {
            None
        } else {
            Some(Arc::clone(self.choices.pick(&fits)))
        }
    }

    fn subject(&mut self) -> Term {
        let subject = match self.choices.below(8) {
            7 => constant(Kind::Ref, self.choices),
            6 => Term::Any,
            5 => self.fresh(Kind::Ref, true),
            _ => match self.known(Kind::Ref) {
                Some(name) => var(&name),
                None => self.fresh(Kind::Ref, true),
            },
        };
        if let Term::Var(name) = &subject {
            self.bound
                .iter_mut()
                .filter(|bound| bound.name == name.text)
                .for_each(|bound| bound.certain = true);
        }
        subject
    }

    fn predicate(&mut self, field: &FieldSchema) -> PredicatePattern {
        if !self.features.open_predicates {
            return PredicatePattern::Is(field.predicate.clone());
        }
        match self.choices.below(12) {
            8 => PredicatePattern::OfType(field.predicate.entity_type().into()),
            9 => PredicatePattern::OfField(field.predicate.field().into()),
            10 => PredicatePattern::Any,
            11 => match self.fresh(Kind::String, true) {
                Term::Var(name) => PredicatePattern::Var(name),
                Term::Constant(_) | Term::Any => PredicatePattern::Any,
            },
            _ => PredicatePattern::Is(field.predicate.clone()),
        }
    }

    fn object(&mut self, kind: Kind) -> Term {
        match self.choices.below(8) {
            4 => Term::Any,
            5 => constant(kind, self.choices),
            6 | 7 => match self.known(kind) {
                Some(name) => var(&name),
                None => self.fresh(kind, false),
            },
            _ => self.fresh(kind, false),
        }
    }

    // Clauses.

    fn triple(&mut self) -> Clause {
        let subject = self.subject();
        let field = self.choices.pick(&self.schema.fields).clone();
        let predicate = self.predicate(&field);
        let object = self.object(field.kind);
        triple(subject, predicate, object)
    }

    /// A pattern on an entity that is bound; what is new in it stays inside.
    fn inner_triple(&mut self) -> Clause {
        let before = self.bound.len();
        let clause = self.triple();
        self.bound.truncate(before);
        clause
    }

    /// The same new variable, or none, in each branch.
    fn or(&mut self) -> Clause {
        let count = 2 + self.choices.below(2);
        let shared = self
            .choices
            .one_in(2)
            .then(|| (self.next, self.choices.pick(&self.schema.fields).kind));
        let subject = match self.known(Kind::Ref) {
            Some(name) => var(&name),
            None => Term::Any,
        };
        self.next += usize::from(shared.is_some());
        let mut branches = Vec::new();
        for _ in 0..count {
            let mut branch = Vec::new();
            if let Some((number, kind)) = shared {
                let fits: Vec<&FieldSchema> = self.schema.fields.iter().filter(|field| field.kind == kind).collect();
                let field = self.choices.pick(&fits);
                let predicate = PredicatePattern::Is(field.predicate.clone());
                branch.push(triple(subject.clone(), predicate, var(&format!("v{number}").into())));
            } else {
                branch.push(self.inner_triple());
            }
            let before = self.bound.len();
            if self.choices.one_in(3) {
                branch.push(self.filter());
            }
            if self.choices.one_in(4) {
                branch.push(self.not());
            }
            self.bound.truncate(before);
            branches.push(branch);
        }
        if let Some((number, kind)) = shared {
            self.bound.push(Bound {
                name: format!("v{number}").into(),
                kind,
                certain: false,
            });
        }
        clause(ClauseKind::Or(branches))
    }

    fn optional(&mut self) -> Clause {
        let mut inner = vec![self.triple()];
        if self.choices.one_in(3) {
            inner.push(self.filter());
        }
        clause(ClauseKind::Optional(inner))
    }

    fn not(&mut self) -> Clause {
        let before = self.bound.len();
        let mut inner = vec![self.triple()];
        if self.choices.one_in(3) {
            inner.push(self.triple());
        }
        if self.choices.one_in(3) {
            inner.push(self.filter());
        }
        self.bound.truncate(before);
        clause(ClauseKind::Not(inner))
    }

    /// A test of a bound variable; where there is none, a pattern.
    fn filter(&mut self) -> Clause {
        if self.bound.is_empty() {
            return self.inner_triple();
        }
        let bound = self.choices.pick(&self.bound).clone();
        let name = Name::new(&bound.name);
        clause(match self.choices.below(6) {
            1 if !bound.certain => ClauseKind::Compare {
                left: Term::Var(name),
                comparison: *self.choices.pick(&COMPARISONS),
                right: var(&self.choices.pick(&self.bound).name.clone()),
            },
            2 => ClauseKind::In {
                var: name,
                values: (0..=self.choices.below(3))
                    .map(|_| literal(bound.kind, self.choices))
                    .collect(),
            },
            3 if !bound.certain || bound.kind == Kind::String => ClauseKind::Text {
                var: name,
                test: *self.choices.pick(&[TextTest::StartsWith, TextTest::Contains]),
                text: (*self.choices.pick(&["x", "y", "", "a/"])).into(),
            },
            4 => ClauseKind::Kind {
                var: name,
                kind: *self.choices.pick(&[bound.kind, Kind::Number]),
            },
            _ => ClauseKind::Compare {
                left: Term::Var(name),
                comparison: *self.choices.pick(&COMPARISONS),
                right: constant(bound.kind, self.choices),
            },
        })
    }

    // Rules.

    /// A call of a rule that is defined for it.
    fn call(&mut self) -> Clause {
        let refs: Vec<&FieldSchema> = self
            .schema
            .fields
            .iter()
            .filter(|field| field.kind == Kind::Ref)
            .collect();
        let field = (*self.choices.pick(&refs)).clone();
        match self.choices.below(4) {
            2 => self.call_total(&field),
            3 => self.call_without(&field),
            _ => self.call_closure(&field),
        }
    }

    fn call_closure(&mut self, field: &FieldSchema) -> Clause {
        self.rules.extend(closure(field, self.choices.below(3) == 2));
        let mut arguments = vec![self.object(Kind::Ref), self.object(Kind::Ref)];
        if self.choices.one_in(6) {
            arguments.swap(0, 1);
        }
        let name = Name::new("reach");
        clause(ClauseKind::Call { name, arguments })
    }

    fn call_total(&mut self, field: &FieldSchema) -> Clause {
        let function = *self
            .choices
            .pick(&[Aggregate::Count, Aggregate::Max, Aggregate::CountDistinct]);
        let var_of = |name: &str| Name::new(name);
        let head = vec![
            Measure::Var(var_of("y")),
            Measure::Aggregate {
                function,
                var: var_of("x"),
            },
        ];
        let predicate = PredicatePattern::Is(field.predicate.clone());
        self.rules.push(RuleDefinition {
            name: Name::new("total"),
            head,
            clauses: vec![triple(var(&"x".into()), predicate, var(&"y".into()))],
        });
        let arguments = vec![self.object(Kind::Ref), self.fresh(Kind::Number, false)];
        let name = Name::new("total");
        clause(ClauseKind::Call { name, arguments })
    }

    fn call_without(&mut self, field: &FieldSchema) -> Clause {
        let any = self.choices.pick(&self.schema.fields).predicate.clone();
        let inner = triple(
            var(&"x".into()),
            PredicatePattern::Is(field.predicate.clone()),
            Term::Any,
        );
        let clauses = vec![
            triple(var(&"x".into()), PredicatePattern::Is(any), Term::Any),
            clause(ClauseKind::Not(vec![inner])),
        ];
        self.rules.push(rule("without", &["x"], clauses));
        let arguments = vec![self.object(Kind::Ref)];
        let name = Name::new("without");
        clause(ClauseKind::Call { name, arguments })
    }

    // Columns.

    fn columns(&mut self) -> (Vec<FindItem>, Vec<FindOrder>) {
        let mut names = BTreeSet::new();
        let mut find: Vec<FindItem> = Vec::new();
        for _ in 0..=self.choices.below(3) {
            let measure = self.measure();
            if names.insert(measure.default_name()) {
                find.push(FindItem { measure, name: None });
            }
        }
        if self.choices.one_in(5)
            && let Some(last) = find.last_mut()
        {
            last.name = Some(Name::new("where"));
        }
        let mut order = Vec::new();
        for item in &find {
            if self.choices.one_in(2) {
                let by = match &item.name {
                    Some(name) => FindOrderBy::Column(name.clone()),
                    None => FindOrderBy::Measure(item.measure.clone()),
                };
                let descending = self.choices.one_in(2);
                order.insert(0, FindOrder { by, descending });
            }
        }
        (find, order)
    }

    fn measure(&mut self) -> Measure {
        if self.bound.is_empty() {
            return Measure::CountAll(Place::Unknown);
        }
        let var = Name::new(&self.choices.pick(&self.bound).name.clone());
        if !self.features.aggregates {
            return Measure::Var(var);
        }
        let function = match self.choices.below(14) {
            7 => Aggregate::Count,
            8 => Aggregate::CountDistinct,
            9 => Aggregate::Sum,
            10 => Aggregate::Avg,
            11 => Aggregate::Min,
            12 => Aggregate::Max,
            13 if self.choices.one_in(2) => Aggregate::Collect,
            13 => return Measure::CountAll(Place::Unknown),
            _ => return Measure::Var(var),
        };
        Measure::Aggregate { function, var }
    }

    fn cursor(&mut self, columns: usize) -> Cursor {
        let datum = |choices: &mut Choices<'_>| match choices.below(9) {
            0 => Datum::Null,
            8 => Datum::List(vec![value(Kind::Number, choices)]),
            kind => Datum::Value(value(Kind::ALL[kind - 1], choices)),
        };
        Cursor((0..columns).map(|_| datum(self.choices)).collect())
    }
}

/// `reach`: whatever a field leads to in one step or more. Twice recursive, it is longer to compute and means the same.
pub(super) fn closure(field: &FieldSchema, twice: bool) -> [RuleDefinition; 2] {
    let step = |a: &str, b: &str| {
        let predicate = PredicatePattern::Is(field.predicate.clone());
        triple(var(&a.into()), predicate, var(&b.into()))
    };
    let call = |a: &str, b: &str| {
        let name = Name::new("reach");
        let arguments = vec![var(&a.into()), var(&b.into())];
        clause(ClauseKind::Call { name, arguments })
    };
    let first = if twice { call("x", "y") } else { step("x", "y") };
    [
        rule("reach", &["x", "z"], vec![step("x", "z")]),
        rule("reach", &["x", "z"], vec![first, call("y", "z")]),
    ]
}

fn clause(kind: ClauseKind) -> Clause {
    let at = Place::Unknown;
    Clause { kind, at }
}

fn triple(subject: Term, predicate: PredicatePattern, object: Term) -> Clause {
    clause(ClauseKind::Triple {
        subject,
        predicate,
        object,
    })
}

fn rule(name: &str, head: &[&str], clauses: Vec<Clause>) -> RuleDefinition {
    RuleDefinition {
        name: Name::new(name),
        head: head.iter().map(|var| Measure::Var(Name::new(var))).collect(),
        clauses,
    }
}

fn var(name: &Arc<str>) -> Term {
    Term::Var(Name::new(name))
}

fn literal(kind: Kind, choices: &mut Choices<'_>) -> Literal {
    let at = Place::Unknown;
    let value = value(kind, choices);
    Literal { value, at }
}

fn constant(kind: Kind, choices: &mut Choices<'_>) -> Term {
    Term::Constant(literal(kind, choices))
}
