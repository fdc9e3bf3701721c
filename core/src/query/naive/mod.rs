//! The plainest evaluator: the meaning of the logical form, word by word, and nothing done for speed.
//!
//! It is the oracle for the real evaluator and for live queries, so it shares no decision with them: nested loops in
//! the order written, rules computed over and over until nothing is new, then sorting and cutting.

mod shape;
#[cfg(test)]
mod tests;

use super::{
    answer::Answer,
    logic::{Body, Definition, Filter, Operand, Positive, PredicateTerm, Query, Term, TriplePattern, Var},
};
use crate::collections::{BTreeMap, BTreeSet};
use crate::{
    id::{EntityId, Predicate},
    value::Value,
};

/// The answer to a query over a set of triples.
pub fn evaluate(query: &Query, triples: impl IntoIterator<Item = (EntityId, Predicate, Value)>) -> Answer {
    let triples: BTreeSet<_> = triples.into_iter().collect();
    let triples = triples.into_iter().map(|(subject, predicate, object)| Triple {
        subject: Value::Ref(subject),
        text: Value::string(predicate.as_str()),
        predicate,
        object,
    });
    let mut naive = Naive {
        triples: triples.collect(),
        relations: vec![BTreeSet::new(); query.rules.len()],
    };
    for stratum in &query.strata {
        let rules: Vec<usize> = stratum.iter().map(|rule| place(rule.0)).collect();
        naive.compute(query, &rules);
    }
    naive.select(&query.select, &Binding::new())
}

struct Triple {
    subject: Value,
    predicate: Predicate,
    /// The predicate, as a variable sees it.
    text: Value,
    object: Value,
}

/// What variables stand for; `None` is null.
type Binding = BTreeMap<Var, Option<Value>>;

struct Naive {
    triples: Vec<Triple>,
    relations: Vec<BTreeSet<Vec<Value>>>,
}

impl Naive {
    /// Computes some rules again and again until nothing changes.
    fn compute(&mut self, query: &Query, rules: &[usize]) {
        loop {
            let mut changed = false;
            for &rule in rules {
                let definitions = &query.rules[rule].definitions;
                let tuples = definitions
                    .iter()
                    .flat_map(|definition| self.tuples(definition))
                    .collect();
                changed |= self.relations[rule] != tuples;
                self.relations[rule] = tuples;
            }
            if !changed {
                return;
            }
        }
    }

    fn tuples(&self, definition: &Definition) -> BTreeSet<Vec<Value>> {
        let bindings = self.answers(&definition.body, &Binding::new());
        let rows = shape::rows(&definition.head, &bindings);
        let tuples = rows.into_iter().map(|row| {
            row.iter()
                .map(|datum| datum.value().cloned())
                .collect::<Option<Vec<Value>>>()
        });
        // A tuple with a null in it is none.
        tuples.flatten().collect()
    }

    /// The answer of a body under a binding.
    fn answers(&self, body: &Body, under: &Binding) -> BTreeSet<Binding> {
        let mut answers = BTreeSet::from([under.clone()]);
        for positive in &body.positives {
            answers = answers
                .iter()
                .flat_map(|binding| self.matches(positive, binding))
                .collect();
        }
        for optional in &body.optionals {
            answers = answers
                .iter()
                .flat_map(|binding| self.joined(optional, binding))
                .collect();
        }
        answers.retain(|binding| body.filters.iter().all(|filter| self.passes(filter, binding)));
        answers
    }

    fn matches(&self, positive: &Positive, binding: &Binding) -> Vec<Binding> {
        match positive {
            Positive::Triple(pattern) => {
                let extended = self
                    .triples
                    .iter()
                    .map(|triple| extend_by_triple(pattern, triple, binding));
                extended.flatten().collect()
            }
            Positive::Call { rule, arguments } => {
                let tuples = &self.relations[place(rule.0)];
                tuples
                    .iter()
                    .filter_map(|tuple| extend(arguments.iter().zip(tuple), binding))
                    .collect()
            }
            Positive::Or(or) => {
                let kept = |var: &Var| binding.contains_key(var) || or.binds.contains(var);
                let answers = or.branches.iter().flat_map(|branch| self.answers(branch, binding));
                let seen = answers.map(|answer| answer.into_iter().filter(|(var, _)| kept(var)).collect());
                let union: BTreeSet<Binding> = seen.collect();
                union.into_iter().collect()
            }
        }
    }

    fn joined(&self, optional: &Body, binding: &Binding) -> BTreeSet<Binding> {
        let matches = self.answers(optional, binding);
        if !matches.is_empty() {
            return matches;
        }
        let mut without = binding.clone();
        for var in optional.positives.iter().flat_map(Positive::binds) {
            without.entry(var).or_insert(None);
        }
        BTreeSet::from([without])
    }

    fn passes(&self, filter: &Filter, binding: &Binding) -> bool {
        let value = |var: &Var| binding[var].as_ref();
        match filter {
            Filter::Compare {
                left,
                comparison,
                right,
            } => {
                let right = match right {
                    Operand::Var(var) => value(var),
                    Operand::Constant(constant) => Some(constant),
                };
                value(left)
                    .zip(right)
                    .is_some_and(|(left, right)| comparison.holds(left, right))
            }
            Filter::In(var, values) => value(var).is_some_and(|value| values.contains(value)),
            Filter::Text { var, test, text } => value(var).is_some_and(|value| test.holds(value, text)),
            Filter::Kind(var, kind) => value(var).is_some_and(|value| value.type_name() == kind.name()),
            Filter::Not(body) => self.answers(body, binding).is_empty(),
        }
    }
}

fn extend_by_triple(pattern: &TriplePattern, triple: &Triple, binding: &Binding) -> Option<Binding> {
    let predicate = match &pattern.predicate {
        PredicateTerm::Var(var) => Term::Var(*var),
        PredicateTerm::Is(one) if *one != triple.predicate => return None,
        PredicateTerm::OfType(of_type) if **of_type != *triple.predicate.entity_type() => return None,
        PredicateTerm::OfField(field) if **field != *triple.predicate.field() => return None,
        _ => Term::Any,
    };
    let places = [
        (&pattern.subject, &triple.subject),
        (&predicate, &triple.text),
        (&pattern.object, &triple.object),
    ];
    extend(places.into_iter(), binding)
}

/// The binding with whatever variables come new, if all places hold what they should.
fn extend<'a>(places: impl Iterator<Item = (&'a Term, &'a Value)>, binding: &Binding) -> Option<Binding> {
    let mut extended = binding.clone();
    for (term, value) in places {
        let holds = match term {
            Term::Any => true,
            Term::Constant(constant) => constant == value,
            Term::Var(var) => {
                let held = extended.entry(*var).or_insert_with(|| Some(value.clone()));
                held.as_ref() == Some(value)
            }
        };
        if !holds {
            return None;
        }
    }
    Some(extended)
}

fn place(number: u32) -> usize {
    usize::try_from(number).expect("32 bits fit")
}
