//! Lookups: every binding with each triple that matches a pattern. An index nested loop join, a batch at a time.
//!
//! With the subject known, the entity's cell is read; otherwise the index by value is scanned, over one object, a range
//! or all. A lookup stops in the middle of a binding's matches when its batch is full and goes on from there, so a
//! pipeline never holds more than a batch for each step.

mod matches;

use super::{
    batch::{BATCH, Batch},
    context::{Context, EvalError},
    hash::Tuples,
};
use crate::{
    id::Predicate,
    query::{
        plan::{Column, Lookup, Place, Predicates, Step},
        triples::{Edge, Entry, PredicateNumber, Term, Triples},
    },
};

/// Bindings of the first batch. Who asks for few answers does not pay for a thousand.
const BATCH_FIRST: usize = 32;

/// Where a known term comes from.
#[derive(Debug, Clone, Copy)]
enum Known {
    Column(Column),
    Term(Term),
}

/// A lookup while it runs.
#[expect(
    clippy::struct_excessive_bools,
    reason = "what is decided once, so that no match asks again"
)]
#[derive(Debug)]
pub(super) struct LookupRun<'p> {
    lookup: &'p Lookup,
    keep: &'p [Column],
    subject: Option<Known>,
    object: Option<Known>,
    /// The column with the predicate's text, if it is known, and the last such predicate.
    named: Option<Column>,
    named_last: Option<(Term, PredicateNumber)>,
    /// Whether the pattern takes any predicate of a known entity.
    takes_all: bool,
    /// Else those that it takes.
    candidates: Vec<PredicateNumber>,
    /// Texts of predicates, by number, as far as they were needed.
    texts: Vec<Term>,
    /// Which parts of a match go out.
    puts: Puts,
    /// Whether matches must be told apart from earlier ones of the same binding.
    dedupe: bool,
    /// Whether one match is enough.
    once: bool,
    /// How many entities there are of the type that is asked for, if only they are.
    entities: Option<u64>,
    range: (Edge, Edge),
    is_ranged: bool,
    input: Option<Batch>,
    at: usize,
    candidate: usize,
    after: Option<Entry>,
    /// The last object of a run.
    last: Option<Term>,
    seen: Tuples,
    seen_bytes: usize,
    target: usize,
    out: Out,
    entries: Vec<Entry>,
    values: Vec<Term>,
    fields: Vec<(PredicateNumber, Term)>,
}

/// What is put out of a match.
#[expect(clippy::struct_excessive_bools, reason = "one for each part of a match")]
#[derive(Debug, Clone, Copy)]
struct Puts {
    subject: bool,
    predicate: bool,
    object: bool,
    weight: bool,
    /// Nothing must be compared: neither places with each other nor matches with earlier ones.
    plain: bool,
}

/// Matches on their way into a batch.
#[derive(Debug, Default)]
struct Out {
    picks: Vec<u32>,
    subjects: Vec<Term>,
    predicates: Vec<Term>,
    objects: Vec<Term>,
    weights: Vec<u64>,
}

impl Puts {
    fn new(step: &Step, lookup: &Lookup, dedupe: bool, once: bool) -> Self {
        let is_kept = |place: &Place| place.new_column().is_some_and(|column| step.keep.contains(&column));
        let is_again = |place: &Place| matches!(place, Place::Again(_));
        let compares = is_again(&lookup.object) || lookup.predicate.place().is_some_and(is_again);
        let needs_text = compares || dedupe;
        Self {
            subject: is_kept(&lookup.subject),
            predicate: lookup.predicate.place().is_some_and(|place| {
                is_kept(place) || (needs_text && lookup.predicate.place().and_then(Place::bound).is_none())
            }),
            object: is_kept(&lookup.object),
            weight: lookup.subject == Place::Counted || lookup.object == Place::Counted,
            plain: !dedupe && !compares && !once,
        }
    }
}

fn known<T: Triples + ?Sized>(place: &Place, cx: &Context<'_, T>) -> Option<Known> {
    match place {
        Place::Bound(column) => Some(Known::Column(*column)),
        Place::Constant(value) => Some(Known::Term(cx.term(value))),
        _ => None,
    }
}

impl<'p> LookupRun<'p> {
    pub(super) fn new<T: Triples + ?Sized>(step: &'p Step, lookup: &'p Lookup, cx: &Context<'_, T>) -> Self {
        let named = lookup.predicate.place().and_then(Place::bound);
        let is_named = lookup.predicate.place().is_some();
        let (subject, object) = (known(&lookup.subject, cx), known(&lookup.object, cx));
        let takes_all =
            subject.is_some() && named.is_none() && matches!(lookup.predicate, Predicates::Any | Predicates::Named(_));
        let candidates = if takes_all || named.is_some() {
            Vec::new()
        } else {
            candidates(lookup, cx)
        };
        let many = (takes_all || candidates.len() > 1) && !is_named;
        let is_told = |place: &Place| !matches!(place, Place::Any);
        let subject_told = subject.is_none() && is_told(&lookup.subject);
        let object_told = object.is_none() && is_told(&lookup.object);
        let once = !subject_told && !object_told && (!is_named || named.is_some());
        let is_single = |number: &PredicateNumber| {
            let statistics = cx.store.statistics(*number);
            statistics.triples == statistics.subjects
        };
        let repeats = subject.is_none()
            && object.is_none()
            && lookup.object == Place::Any
            && (named.is_some() || !candidates.iter().all(is_single));
        let entities = match &lookup.predicate {
            Predicates::OfType(name) if subject_told && lookup.object == Place::Any => cx.store.entities_of(name),
            _ => None,
        };
        let dedupe = !once && (many || repeats || (subject.is_some() && lookup.object == Place::Any));
        let puts = Puts::new(step, lookup, dedupe, once);
        Self {
            lookup,
            keep: &step.keep,
            subject,
            object,
            named,
            named_last: None,
            takes_all,
            candidates,
            texts: Vec::new(),
            puts,
            dedupe,
            once,
            entities,
            is_ranged: lookup.range.is_some(),
            range: lookup.range.clone().unwrap_or((Edge::Open, Edge::Open)),
            input: None,
            at: 0,
            candidate: 0,
            after: None,
            last: None,
            seen: Tuples::new(3),
            seen_bytes: 0,
            target: BATCH_FIRST,
            out: Out::default(),
            entries: Vec::new(),
            values: Vec::new(),
            fields: Vec::new(),
        }
    }

    /// Forgets what it was doing.
    pub(super) fn reset(&mut self) {
        self.input = None;
        self.target = BATCH_FIRST;
        self.start_binding(0);
        self.out = Out::default();
    }

    /// Scans only from one edge to another, if it scans all there is.
    pub(super) fn narrow(&mut self, from: Edge, to: Edge) {
        if self.subject.is_none() && self.object.is_none() && !self.is_ranged {
            self.range = (from, to);
            self.is_ranged = true;
        }
    }

    /// Whether it has an input to go on with.
    pub(super) const fn is_fed(&self) -> bool {
        self.input.is_some()
    }

    pub(super) fn feed(&mut self, input: Batch) {
        self.input = Some(input);
        self.start_binding(0);
    }

    fn start_binding(&mut self, at: usize) {
        self.at = at;
        self.candidate = 0;
        self.after = None;
        self.last = None;
        if self.seen.len() > 0 {
            self.seen = Tuples::new(3);
        }
    }

    /// The next matches of what it was fed. Nothing: it wants more input.
    pub(super) fn next<T: Triples + ?Sized>(
        &mut self,
        width: usize,
        cx: &mut Context<'_, T>,
    ) -> Result<Option<Batch>, EvalError> {
        let Some(input) = self.input.take() else {
            return Ok(None);
        };
        while self.at < input.len && self.out.picks.len() < self.target {
            let is_done = self.binding(&input, cx)?;
            if is_done {
                self.start_binding(self.at + 1);
            }
        }
        self.target = (self.target * 2).min(BATCH);
        let batch = self.flush(&input, width)?;
        cx.spend(batch.len)?;
        let bytes = self.seen.len() * self.seen.tuple_bytes();
        cx.release(self.seen_bytes);
        cx.hold(bytes)?;
        self.seen_bytes = bytes;
        if self.at < input.len {
            self.input = Some(input);
        }
        Ok(Some(batch))
    }

    fn flush(&mut self, input: &Batch, width: usize) -> Result<Batch, EvalError> {
        let out = std::mem::take(&mut self.out);
        let mut batch = input.gather(&out.picks, self.keep, width);
        let mut put = |place: &Place, terms: Vec<Term>| {
            if let Some(column) = place.new_column()
                && self.keep.contains(&column)
            {
                batch.set(column, terms);
            }
        };
        put(&self.lookup.subject, out.subjects);
        put(&self.lookup.object, out.objects);
        if let Some(place) = self.lookup.predicate.place() {
            put(place, out.predicates);
        }
        if self.puts.weight {
            let before = std::mem::take(&mut batch.weights);
            batch.weights = if before.is_empty() {
                out.weights
            } else {
                let products = before.iter().zip(&out.weights).map(|(a, b)| a.checked_mul(*b));
                products.collect::<Option<_>>().ok_or(EvalError::CountTooLarge)?
            };
        }
        Ok(batch)
    }
}

fn candidates<T: Triples + ?Sized>(lookup: &Lookup, cx: &Context<'_, T>) -> Vec<PredicateNumber> {
    let store = cx.store;
    let some = |takes: &dyn Fn(&Predicate) -> bool| {
        let all = store.predicates().into_iter();
        let mut some: Vec<PredicateNumber> = all.filter(|number| takes(&store.predicate(*number))).collect();
        some.sort_unstable();
        some
    };
    match &lookup.predicate {
        Predicates::Is(predicate) => store.predicate_number(predicate).into_iter().collect(),
        Predicates::OfType(name) => {
            let mut found = some(&|predicate| predicate.entity_type() == &**name);
            if !lookup.subject.is_known() {
                // The one that most entities have leaves the least to the others.
                found.sort_by_key(|number| std::cmp::Reverse(store.statistics(*number).subjects));
            }
            found
        }
        Predicates::OfField(name) => some(&|predicate| predicate.field() == &**name),
        Predicates::Any | Predicates::Named(_) => some(&|_| true),
    }
}
