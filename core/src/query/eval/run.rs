//! Running a pipeline: each step asks the one before it for a batch when it needs one.
//!
//! A step holds at most the batch it works on, so answers stream, and who stops asking stops the work. Steps with nested
//! pipelines feed them a batch whose bindings carry a mark, the place in the batch, and find by it which binding an
//! answer is for. All steps keep the order of the bindings that they are fed.

use super::{
    batch::Batch,
    context::{Context, EvalError},
    filter::TestRun,
    hash::Tuples,
    lookup::LookupRun,
    relation::Relation,
};
use crate::{
    limits::needs_all_forms,
    query::{
        plan::{Column, Pipeline, Place, Step, StepKind},
        triples::{Edge, EntityNumber, Term, Triples},
    },
};

/// A pipeline while it runs.
#[derive(Debug)]
pub(super) struct Run<'p> {
    pipeline: &'p Pipeline,
    seed: Option<Batch>,
    steps: Vec<StepRun<'p>>,
}

#[derive(Debug)]
struct StepRun<'p> {
    step: &'p Step,
    state: State<'p>,
}

#[derive(Debug)]
enum State<'p> {
    Constants(Column, Vec<Term>),
    Lookup(Box<LookupRun<'p>>),
    Call(CallRun<'p>),
    Or(Column, Vec<Run<'p>>, &'p [Column]),
    Optional(Column, Box<Run<'p>>, &'p [Column]),
    Not(Column, Box<Run<'p>>),
    Filter(Vec<TestRun<'p>>),
}

/// A join with what a rule derived, or gained.
#[derive(Debug)]
struct CallRun<'p> {
    rule: usize,
    arguments: &'p [Place],
    constants: Vec<Option<Term>>,
    gained: bool,
}

impl<'p> Run<'p> {
    pub(super) fn new<T: Triples + ?Sized>(pipeline: &'p Pipeline, cx: &Context<'_, T>) -> Self {
        let steps = pipeline.steps.iter().map(|step| StepRun {
            step,
            state: State::new(step, cx),
        });
        Self {
            pipeline,
            seed: None,
            steps: steps.collect(),
        }
    }

    /// Starts anew, with these bindings.
    pub(super) fn feed(&mut self, seed: Batch) {
        for step in &mut self.steps {
            step.state.reset();
        }
        self.seed = Some(seed);
    }

    /// Starts anew, with one binding of these columns.
    pub(super) fn feed_one(&mut self, terms: &[(Column, Term)]) {
        let mut seed = Batch::unit(self.pipeline.width);
        for (column, term) in terms {
            seed.set(*column, vec![*term]);
        }
        self.feed(seed);
    }

    /// Starts anew, with a binding for each tuple of some columns; the tuples stand one behind the other.
    pub(super) fn feed_keys(&mut self, columns: &[Column], tuples: &[Term]) {
        let mut seed = Batch::empty(self.pipeline.width);
        seed.len = tuples.len() / columns.len();
        for (at, column) in columns.iter().enumerate() {
            seed.set(
                *column,
                tuples.iter().skip(at).step_by(columns.len()).copied().collect(),
            );
        }
        self.feed(seed);
    }

    /// Lets the first lookup scan only from one edge to another.
    pub(super) fn narrow(&mut self, from: Edge, to: Edge) {
        for step in &mut self.steps {
            if let State::Lookup(lookup) = &mut step.state {
                lookup.narrow(from, to);
                return;
            }
        }
    }

    /// The next bindings; never an empty batch.
    pub(super) fn next<T: Triples + ?Sized>(
        &mut self,
        cx: &mut Context<'_, T>,
        relations: &[Relation],
    ) -> Result<Option<Batch>, EvalError> {
        pull(&mut self.steps, &mut self.seed, self.pipeline.width, cx, relations)
    }

    /// The columns that a seed needs from a batch, with a mark for each binding.
    fn seed_of(&self, batch: &Batch, mark: Column) -> Batch {
        let mut seed = Batch::empty(self.pipeline.width);
        seed.len = batch.len;
        for column in self.pipeline.seed.iter().filter(|column| **column != mark) {
            seed.set(*column, batch.column(*column).to_vec());
        }
        let marks = (0..u32::try_from(batch.len).expect("a batch is short")).map(mark_of);
        seed.set(mark, marks.collect());
        seed
    }
}

const fn mark_of(place: u32) -> Term {
    Term::entity(EntityNumber(place))
}

fn place_of(mark: Term) -> u32 {
    mark.as_entity().map_or(0, |entity| entity.0)
}

impl<'p> State<'p> {
    fn new<T: Triples + ?Sized>(step: &'p Step, cx: &Context<'_, T>) -> Self {
        match &step.kind {
            StepKind::Constants { column, values } => {
                Self::Constants(*column, values.iter().map(|value| cx.term(value)).collect())
            }
            StepKind::Lookup(lookup) => Self::Lookup(Box::new(LookupRun::new(step, lookup, cx))),
            StepKind::Call { rule, arguments } => Self::Call(CallRun::new(rule.0, arguments, false, cx)),
            StepKind::Gained { rule, arguments } => Self::Call(CallRun::new(rule.0, arguments, true, cx)),
            StepKind::Or { mark, branches, binds } => Self::Or(
                *mark,
                branches.iter().map(|branch| Run::new(branch, cx)).collect(),
                binds,
            ),
            StepKind::Optional { mark, inner, binds } => Self::Optional(*mark, Box::new(Run::new(inner, cx)), binds),
            StepKind::Not { mark, inner } => Self::Not(*mark, Box::new(Run::new(inner, cx))),
            StepKind::Filter(tests) => Self::Filter(tests.iter().map(|test| TestRun::new(test, cx)).collect()),
        }
    }

    fn reset(&mut self) {
        if let Self::Lookup(lookup) = self {
            lookup.reset();
        }
    }
}

fn pull<T: Triples + ?Sized>(
    steps: &mut [StepRun<'_>],
    seed: &mut Option<Batch>,
    width: usize,
    cx: &mut Context<'_, T>,
    relations: &[Relation],
) -> Result<Option<Batch>, EvalError> {
    let Some((last, before)) = steps.split_last_mut() else {
        return Ok(seed.take());
    };
    loop {
        let batch = if let State::Lookup(lookup) = &mut last.state {
            if !lookup.is_fed() {
                match pull(before, seed, width, cx, relations)? {
                    Some(input) => lookup.feed(input),
                    None => return Ok(None),
                }
            }
            lookup.next(width, cx)?
        } else {
            match pull(before, seed, width, cx, relations)? {
                Some(input) => Some(last.take(input, width, cx, relations)?),
                None => return Ok(None),
            }
        };
        if let Some(batch) = batch.filter(|batch| !batch.is_empty()) {
            cx.counts[last.step.number] += batch.len as u64;
            return Ok(Some(batch));
        }
    }
}

impl StepRun<'_> {
    /// What a step makes of a batch.
    fn take<T: Triples + ?Sized>(
        &mut self,
        input: Batch,
        width: usize,
        cx: &mut Context<'_, T>,
        relations: &[Relation],
    ) -> Result<Batch, EvalError> {
        cx.spend(input.len)?;
        let keep = &self.step.keep[..];
        match &mut self.state {
            State::Constants(column, terms) => {
                let times = u32::try_from(terms.len()).expect("limits::IN_VALUES_MAX");
                let bindings = u32::try_from(input.len).expect("a batch is short");
                let picks: Vec<u32> = (0..bindings).flat_map(|at| (0..times).map(move |_| at)).collect();
                cx.spend(picks.len())?;
                let mut out = input.gather(&picks, keep, width);
                if keep.contains(column) {
                    out.set(*column, terms.iter().copied().cycle().take(picks.len()).collect());
                }
                Ok(out)
            }
            State::Call(call) => call.join(&input, keep, width, cx, relations),
            State::Or(mark, branches, binds) => {
                let mut found = Found::new(*mark, binds);
                for branch in branches {
                    branch.feed(branch.seed_of(&input, *mark));
                    while let Some(batch) = branch.next(cx, relations)? {
                        found.add(&batch, true, cx)?;
                    }
                }
                Ok(found.join(&input, keep, width))
            }
            State::Optional(mark, inner, binds) => {
                let mut found = Found::new(*mark, binds);
                inner.feed(inner.seed_of(&input, *mark));
                while let Some(batch) = inner.next(cx, relations)? {
                    found.add(&batch, false, cx)?;
                }
                found.add_missing(input.len);
                Ok(found.join(&input, keep, width))
            }
            State::Not(mark, inner) => {
                let mut has = vec![false; input.len];
                inner.feed(inner.seed_of(&input, *mark));
                while let Some(batch) = inner.next(cx, relations)? {
                    for mark in batch.column(*mark) {
                        has[place_of(*mark) as usize] = true;
                    }
                    if has.iter().all(|has| *has) {
                        break;
                    }
                }
                let bindings = 0..u32::try_from(input.len).expect("a batch is short");
                let picks: Vec<u32> = bindings.filter(|at| !has[*at as usize]).collect();
                Ok(input.gather(&picks, keep, width))
            }
            State::Filter(tests) => {
                let bindings = 0..u32::try_from(input.len).expect("a batch is short");
                let passes = |at: &u32| tests.iter().all(|test| test.passes(&input, *at as usize, cx));
                let picks: Vec<u32> = bindings.filter(passes).collect();
                if picks.len() == input.len {
                    return Ok(input.project(keep, width));
                }
                Ok(input.gather(&picks, keep, width))
            }
            State::Lookup(_) => unreachable!("a lookup is fed and asked"),
        }
    }
}

/// What a nested pipeline found for the bindings of a batch.
struct Found<'p> {
    mark: Column,
    binds: &'p [Column],
    picks: Vec<u32>,
    columns: Vec<Vec<Term>>,
    seen: Tuples,
}

impl<'p> Found<'p> {
    fn new(mark: Column, binds: &'p [Column]) -> Self {
        Self {
            mark,
            binds,
            picks: Vec::new(),
            columns: vec![Vec::new(); binds.len()],
            seen: Tuples::new(binds.len() + 1),
        }
    }

    fn add<T: Triples + ?Sized>(
        &mut self,
        batch: &Batch,
        once: bool,
        cx: &mut Context<'_, T>,
    ) -> Result<(), EvalError> {
        let mut tuple = Vec::with_capacity(self.binds.len() + 1);
        for at in 0..batch.len {
            let mark = batch.get(self.mark, at);
            tuple.clear();
            tuple.push(mark);
            tuple.extend(self.binds.iter().map(|column| batch.get(*column, at)));
            if once && !self.seen.insert(&tuple).1 {
                continue;
            }
            self.picks.push(place_of(mark));
            for (column, term) in self.columns.iter_mut().zip(&tuple[1..]) {
                column.push(*term);
            }
        }
        // What one batch of a hundred thousand matches needs must not pass unseen.
        let bytes = self.picks.len() * (self.binds.len() + 1) * size_of::<Term>();
        cx.hold(bytes)?;
        cx.release(bytes);
        Ok(())
    }

    /// Nulls for the bindings that nothing was found for.
    fn add_missing(&mut self, bindings: usize) {
        let mut has = vec![false; bindings];
        for pick in &self.picks {
            has[*pick as usize] = true;
        }
        for (at, _) in (0_u32..).zip(&has).filter(|(_, has)| !**has) {
            self.picks.push(at);
            for column in &mut self.columns {
                column.push(Term::NULL);
            }
        }
    }

    fn join(self, input: &Batch, keep: &[Column], width: usize) -> Batch {
        let mut order: Vec<u32> = (0..u32::try_from(self.picks.len()).expect("the memory limit bounds them")).collect();
        order.sort_by_key(|at| self.picks[*at as usize]);
        let picks: Vec<u32> = order.iter().map(|at| self.picks[*at as usize]).collect();
        let mut out = input.gather(&picks, keep, width);
        for (column, terms) in self.binds.iter().zip(&self.columns) {
            if keep.contains(column) {
                out.set(*column, order.iter().map(|at| terms[*at as usize]).collect());
            }
        }
        out
    }
}

impl<'p> CallRun<'p> {
    fn new<T: Triples + ?Sized>(rule: u32, arguments: &'p [Place], gained: bool, cx: &Context<'_, T>) -> Self {
        needs_all_forms();
        let constant = |place: &Place| match place {
            Place::Constant(value) => Some(cx.term(value)),
            _ => None,
        };
        Self {
            rule: rule as usize,
            arguments,
            constants: arguments.iter().map(constant).collect(),
            gained,
        }
    }

    fn join<T: Triples + ?Sized>(
        &self,
        input: &Batch,
        keep: &[Column],
        width: usize,
        cx: &mut Context<'_, T>,
        relations: &[Relation],
    ) -> Result<Batch, EvalError> {
        needs_all_forms();
        let relation = &relations[self.rule];
        let known: Vec<usize> = (0..self.arguments.len())
            .filter(|at| self.arguments[*at].is_known())
            .collect();
        let told: Vec<usize> = (0..self.arguments.len())
            .filter(|at| self.arguments[*at].new_column().is_some())
            .collect();
        let has_any = self.arguments.contains(&Place::Any);
        let (mut picks, mut places, mut found, mut key) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for at in 0..input.len {
            key.clear();
            key.extend(known.iter().map(|argument| match &self.arguments[*argument] {
                Place::Bound(column) => input.get(*column, at),
                _ => self.constants[*argument].unwrap_or(Term::NULL),
            }));
            found.clear();
            if self.gained {
                let gained = relation.gained();
                let fits = |place: &usize| {
                    let tuple = relation.get(*place);
                    known.iter().zip(&key).all(|(column, term)| tuple[*column] == *term)
                };
                found.extend(gained.filter(fits).map(|place| u32::try_from(place).expect("bounded")));
            } else if known.is_empty() {
                found.extend(relation.places());
            } else {
                relation.find(&known, &key, &mut found);
            }
            let mut seen = has_any.then(|| Tuples::new(told.len()));
            for place in &found {
                let tuple = relation.get(*place as usize);
                if !self.agrees(tuple) {
                    continue;
                }
                if let Some(seen) = &mut seen {
                    let key: Vec<Term> = told.iter().map(|column| tuple[*column]).collect();
                    if !seen.insert(&key).1 {
                        continue;
                    }
                }
                picks.push(u32::try_from(at).expect("a batch is short"));
                places.push(*place);
            }
            cx.spend(1 + found.len())?;
        }
        cx.hold(picks.len() * 16)?;
        cx.release(picks.len() * 16);
        let mut out = input.gather(&picks, keep, width);
        for argument in told {
            let Some(column) = self.arguments[argument].new_column() else {
                continue;
            };
            if keep.contains(&column) {
                let terms = places.iter().map(|place| relation.get(*place as usize)[argument]);
                out.set(column, terms.collect());
            }
        }
        Ok(out)
    }

    /// Whether a variable that stands twice has one value.
    fn agrees(&self, tuple: &[Term]) -> bool {
        self.arguments.iter().zip(tuple).all(|(place, term)| match place {
            Place::Again(column) => {
                let first = self
                    .arguments
                    .iter()
                    .position(|other| other.new_column() == Some(*column));
                first.is_some_and(|first| tuple[first] == *term)
            }
            _ => true,
        })
    }
}
