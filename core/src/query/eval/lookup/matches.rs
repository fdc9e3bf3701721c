//! Finding the matches of one binding.

use super::{Known, LookupRun};
use crate::{
    id::Predicate,
    query::{
        eval::{
            batch::Batch,
            context::{Context, EvalError},
        },
        plan::{Column, Place},
        triples::{Edge, EntityNumber, Entry, Objects, PredicateNumber, Scan, Term, Triples},
    },
    value::Value,
};

/// A match.
#[derive(Debug, Clone, Copy)]
struct Match {
    subject: Term,
    predicate: Term,
    object: Term,
    weight: u64,
}

/// How a scan ended.
enum Went {
    /// At its end.
    Through,
    /// The batch is full.
    Full,
    /// No more matches are wanted.
    Enough,
}

impl LookupRun<'_> {
    /// Goes on with one binding; true when all its matches are out.
    pub(super) fn binding<T: Triples + ?Sized>(
        &mut self,
        input: &Batch,
        cx: &mut Context<'_, T>,
    ) -> Result<bool, EvalError> {
        cx.spend(1)?;
        let resolve = |known: Option<Known>| match known {
            Some(Known::Column(column)) => Some(input.get(column, self.at)),
            Some(Known::Term(term)) => Some(term),
            None => None,
        };
        let (subject, object) = (resolve(self.subject), resolve(self.object));
        let is_lost = |term: Option<Term>| term.is_some_and(|term| term.is_null() || term.is_local());
        if is_lost(subject) || is_lost(object) {
            return Ok(true);
        }
        let mut named = None;
        if let Some(column) = self.named {
            named = self.number_of(input.get(column, self.at), cx);
            if named.is_none() {
                return Ok(true);
            }
        }
        match subject.map(Term::as_entity) {
            Some(Some(entity)) => {
                self.of_entity(entity, object, named, cx);
                Ok(true)
            }
            Some(None) => Ok(true),
            None => self.scan(object, named, cx),
        }
    }

    /// The predicate with this text.
    fn number_of<T: Triples + ?Sized>(&mut self, text: Term, cx: &Context<'_, T>) -> Option<PredicateNumber> {
        if let Some((last, number)) = self.named_last
            && last == text
        {
            return Some(number);
        }
        let value = if text.is_null() { return None } else { cx.value(text) };
        let Value::String(text_of) = &value else { return None };
        let number = cx.store.predicate_number(&Predicate::new(text_of).ok()?)?;
        self.named_last = Some((text, number));
        Some(number)
    }

    /// The text of a predicate, if anything asks for it.
    fn text_of<T: Triples + ?Sized>(&mut self, number: PredicateNumber, cx: &Context<'_, T>) -> Term {
        if !self.puts.predicate {
            return Term::NULL;
        }
        let at = number.0 as usize;
        if self.texts.len() <= at {
            self.texts.resize(at + 1, Term::NULL);
        }
        if self.texts[at].is_null() {
            self.texts[at] = cx.predicate_text(number);
        }
        self.texts[at]
    }

    fn of_entity<T: Triples + ?Sized>(
        &mut self,
        entity: EntityNumber,
        object: Option<Term>,
        named: Option<PredicateNumber>,
        cx: &Context<'_, T>,
    ) {
        let subject = Term::entity(entity);
        let one = |predicate: Term, object: Term| Match {
            subject,
            predicate,
            object,
            weight: 1,
        };
        let single = match self.candidates[..] {
            [number] => Some(number),
            _ => named,
        };
        if let Some(number) = single {
            let text = self.text_of(number, cx);
            if let Some(object) = object {
                if cx.store.contains(entity, number, object) {
                    self.put(one(text, object));
                }
                return;
            }
            let mut values = std::mem::take(&mut self.values);
            values.clear();
            cx.store.values(entity, number, &mut values);
            if self.lookup.object == Place::Counted && !values.is_empty() {
                self.put(Match {
                    weight: values.len() as u64,
                    ..one(text, Term::NULL)
                });
            } else {
                for &object in &values {
                    if self.put(one(text, object)) {
                        break;
                    }
                }
            }
            self.values = values;
            return;
        }
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        cx.store.fields(entity, &mut fields);
        for &(number, held) in &fields {
            let is_taken = self.takes_all || self.candidates.binary_search(&number).is_ok();
            if is_taken && object.is_none_or(|object| object == held) {
                let text = self.text_of(number, cx);
                if self.put(one(text, held)) {
                    break;
                }
            }
        }
        self.fields = fields;
    }

    /// Goes on with a scan over the candidates; true when it is through.
    fn scan<T: Triples + ?Sized>(
        &mut self,
        object: Option<Term>,
        named: Option<PredicateNumber>,
        cx: &mut Context<'_, T>,
    ) -> Result<bool, EvalError> {
        loop {
            let next = match named {
                Some(number) => (self.candidate == 0).then_some(number),
                None => self.candidates.get(self.candidate).copied(),
            };
            let Some(number) = next else { return Ok(true) };
            if self.lookup.subject == Place::Counted && (object.is_some() || self.lookup.object == Place::Counted) {
                self.count(number, object, cx);
            } else {
                match self.scan_one(number, object, cx)? {
                    Went::Through => {}
                    Went::Full => return Ok(false),
                    Went::Enough => return Ok(true),
                }
            }
            self.candidate += 1;
            self.after = None;
            self.last = None;
            if self.entities.is_some_and(|entities| entities == self.seen.len() as u64) {
                return Ok(true);
            }
        }
    }

    fn count<T: Triples + ?Sized>(&mut self, number: PredicateNumber, object: Option<Term>, cx: &Context<'_, T>) {
        let objects = object.map_or(Objects::All, Objects::Equal);
        let weight = cx.store.count(number, objects);
        if weight > 0 {
            let predicate = self.text_of(number, cx);
            self.put(Match {
                subject: Term::NULL,
                predicate,
                object: object.unwrap_or(Term::NULL),
                weight,
            });
        }
    }

    fn scan_one<T: Triples + ?Sized>(
        &mut self,
        number: PredicateNumber,
        object: Option<Term>,
        cx: &mut Context<'_, T>,
    ) -> Result<Went, EvalError> {
        let (from, to) = std::mem::replace(&mut self.range, (Edge::Open, Edge::Open));
        let objects = match object {
            Some(object) => Objects::Equal(object),
            None if self.is_ranged => Objects::Between(&from, &to),
            None => Objects::All,
        };
        let scan = Scan {
            predicate: number,
            objects,
            descending: self.lookup.descending,
        };
        let went = self.scan_entries(&scan, cx);
        self.range = (from, to);
        went
    }

    fn scan_entries<T: Triples + ?Sized>(
        &mut self,
        scan: &Scan<'_>,
        cx: &mut Context<'_, T>,
    ) -> Result<Went, EvalError> {
        let mut entries = std::mem::take(&mut self.entries);
        let text = self.text_of(scan.predicate, cx);
        let is_run = matches!(self.lookup.subject, Place::Any | Place::Counted) && !self.once;
        let is_counted = self.lookup.subject == Place::Counted;
        // Any triple of the predicate says all.
        let is_one = self.lookup.subject == Place::Any
            && (matches!(scan.objects, Objects::Equal(_)) || self.lookup.object == Place::Any);
        loop {
            let room = self.target.saturating_sub(self.out.picks.len());
            if room == 0 {
                self.entries = entries;
                return Ok(Went::Full);
            }
            entries.clear();
            let ask = if self.once || is_one { 1 } else { room };
            let more = cx.store.scan(scan, self.after, ask, &mut entries);
            cx.spend(entries.len())?;
            if let Some(last) = entries.last() {
                self.after = Some(*last);
            }
            if self.puts.plain && !is_run && !is_one {
                self.put_all(&entries, text);
                if !more {
                    self.entries = entries;
                    return Ok(Went::Through);
                }
                continue;
            }
            for entry in &entries {
                let object = entry.object();
                if is_run && self.last == Some(object) {
                    if is_counted && let Some(weight) = self.out.weights.last_mut() {
                        *weight += 1;
                        continue;
                    }
                    if !is_counted {
                        continue;
                    }
                }
                let before = self.out.picks.len();
                let enough = self.put(Match {
                    subject: Term::entity(entry.subject()),
                    predicate: text,
                    object,
                    weight: 1,
                });
                if self.out.picks.len() > before {
                    self.last = Some(object);
                }
                if enough || is_one {
                    self.entries = entries;
                    return Ok(if enough { Went::Enough } else { Went::Through });
                }
            }
            if !more {
                self.entries = entries;
                return Ok(Went::Through);
            }
        }
    }

    /// Puts a match out, if it fits and is new; true if no more are wanted for this binding.
    fn put(&mut self, found: Match) -> bool {
        let value_of = |column: Column| {
            if self.lookup.subject.new_column() == Some(column) {
                found.subject
            } else {
                found.predicate
            }
        };
        if let Some(Place::Again(column)) = self.lookup.predicate.place()
            && value_of(*column) != found.predicate
        {
            return false;
        }
        if let Place::Again(column) = &self.lookup.object
            && value_of(*column) != found.object
        {
            return false;
        }
        if self.dedupe {
            let told = |place: Option<&Place>, term: Term| match place {
                Some(Place::New(_)) => term,
                _ => Term::NULL,
            };
            let key = [
                told(Some(&self.lookup.subject), found.subject),
                told(self.lookup.predicate.place(), found.predicate),
                told(Some(&self.lookup.object), found.object),
            ];
            if !self.seen.insert(&key).1 {
                return false;
            }
        }
        let at = u32::try_from(self.at).expect("a batch is short");
        self.out.picks.push(at);
        if self.puts.subject {
            self.out.subjects.push(found.subject);
        }
        if self.puts.predicate {
            self.out.predicates.push(found.predicate);
        }
        if self.puts.object {
            self.out.objects.push(found.object);
        }
        if self.puts.weight {
            self.out.weights.push(found.weight);
        }
        self.once
    }

    /// Puts entries out as they are.
    fn put_all(&mut self, entries: &[Entry], text: Term) {
        let at = u32::try_from(self.at).expect("a batch is short");
        let len = self.out.picks.len() + entries.len();
        self.out.picks.resize(len, at);
        if self.puts.subject {
            let subjects = entries.iter().map(|entry| Term::entity(entry.subject()));
            self.out.subjects.extend(subjects);
        }
        if self.puts.predicate {
            self.out.predicates.resize(len, text);
        }
        if self.puts.object {
            self.out.objects.extend(entries.iter().map(|entry| entry.object()));
        }
        if self.puts.weight {
            self.out.weights.resize(len, 1);
        }
    }
}
