//! The entities that rules may derive anything from: those with a triple that some pattern of a rule takes.

use super::super::{
    Delta, Derived, Triples,
    entities::{numbers, scan},
    trigger::Trigger,
};
use crate::{
    collections::BTreeSet,
    graph::Triple,
    query::{
        logic::Term as Place,
        triples::{EntityNumber, Objects},
    },
};

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct OfRules(BTreeSet<EntityNumber>);

impl OfRules {
    /// Finds all, unless they are more than so many.
    pub(super) fn open<T: Triples + ?Sized>(
        &mut self,
        derived: &Derived,
        store: &T,
        max: usize,
    ) -> Option<Vec<EntityNumber>> {
        for trigger in patterns(derived) {
            let object = match &trigger.pattern.object {
                Place::Constant(value) => match store.term(value) {
                    Some(term) => Objects::Equal(term),
                    None => continue,
                },
                Place::Var(_) | Place::Any => Objects::All,
            };
            for predicate in numbers(&trigger.pattern.predicate, store) {
                scan(predicate, object, store, |entry| {
                    let triple = Triple {
                        subject: entry.subject(),
                        predicate,
                        object: entry.object(),
                    };
                    if trigger.takes(&triple, store) {
                        self.0.insert(triple.subject);
                    }
                    self.0.len() <= max
                });
                if self.0.len() > max {
                    return None;
                }
            }
        }
        Some(self.0.iter().copied().collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Which come, and which go.
    pub(super) fn follow<T: Triples + ?Sized>(
        &mut self,
        derived: &Derived,
        delta: &Delta,
        store: &T,
    ) -> Vec<(EntityNumber, bool)> {
        let changed = delta.added.iter().chain(&delta.removed);
        let touched = changed.filter(|triple| patterns(derived).any(|trigger| trigger.takes(triple, store)));
        let touched: BTreeSet<EntityNumber> = touched.map(|triple| triple.subject).collect();
        let mut moved = Vec::new();
        for subject in touched {
            let mut fields = Vec::new();
            store.fields(subject, &mut fields);
            let is_needed = fields.into_iter().any(|(predicate, object)| {
                let triple = Triple {
                    subject,
                    predicate,
                    object,
                };
                patterns(derived).any(|trigger| trigger.takes(&triple, store))
            });
            let has_moved = if is_needed {
                self.0.insert(subject)
            } else {
                self.0.remove(&subject)
            };
            if has_moved {
                moved.push((subject, is_needed));
            }
        }
        moved
    }
}

fn patterns(derived: &Derived) -> impl Iterator<Item = &Trigger> {
    derived.triggers().flat_map(|triggers| &triggers.all)
}
