//! Steps the simulated cluster through its phases.

use std::{
    cell::RefCell,
    panic::{self, AssertUnwindSafe},
    rc::Rc,
    sync::Mutex,
    time::{Duration, SystemTime},
};

use turmoil::Sim;

use super::{
    faults::Faults,
    machines::Machines,
    node, operator,
    outcome::Outcome,
    settled,
    stage::{Phase, Stage},
};
use crate::{
    oracles::{self, Moment},
    plan::{
        Plan, budget,
        cluster::{Client, Host},
        time::Millis,
    },
    workload,
    world::{
        chance::{self, Purpose},
        clock,
        env::{self, Rare},
        interpose,
        machine::Machine,
        trace,
    },
};

/// How long the cluster may take to form.
const FORMING_MAX: Duration = Duration::from_mins(4);

/// Between two looks of the oracles at the nodes, in milliseconds.
const LOOK_EVERY: u64 = 100;

/// Between two looks whether the cluster has settled, and two thorough looks of the oracles, in milliseconds.
const LOOK_CLOSELY_EVERY: u64 = 2_000;

/// How long a node whose disk was harmed may try to start before a new disk is put in.
const DISK_PATIENCE: Duration = Duration::from_secs(8);

/// Segments that one end of a stream may have on their way.
const SEGMENTS_MAX: usize = 1 << 16;

/// The first panic of this process, where and what: tokio catches those of tasks.
static PANICKED: Mutex<Option<String>> = Mutex::new(None);

/// Carries out a plan on this thread, which must be a fresh one. Leaves the simulation behind: the process must end by
/// [`interpose::leave`].
pub fn run(plan: Plan) -> Outcome {
    let began = interpose::real_time();
    let seed = plan.seed;
    note_panics();
    interpose::take_over(chance::seed_for(seed, Purpose::Process, Machine::World), clock::step);
    chance::seed_raft(seed);
    let mut runner = Runner::new(plan);
    runner.steps();
    let simulated = Duration::from_nanos(clock::now());
    interpose::give_back();
    let outcome = Outcome {
        violations: runner.stage.violations(),
        reached: env::reached(),
        trace: trace::finish(),
        simulated,
        took: interpose::real_time().saturating_sub(began),
    };
    // Its destructors belong to a world that has ended.
    std::mem::forget(runner);
    outcome
}

/// Where a node answers for panics itself: redb trusts pages that a bad disk has changed.
const CAUGHT: &str = "/redb-";

fn note_panics() {
    panic::set_hook(Box::new(|panic| {
        if panic.location().is_some_and(|at| at.file().contains(CAUGHT)) {
            // One that nobody catches ends a task, which turmoil reports.
            return;
        }
        let text = format!("{panic}").replace('\n', " ");
        if let Ok(mut first) = PANICKED.lock() {
            first.get_or_insert(text);
        }
    }));
}

struct Runner {
    machines: Machines,
    faults: Faults,
    stage: Rc<Stage>,
    /// Simulated milliseconds.
    now: u64,
    healed_at: u64,
    /// Nanoseconds that a host's clock was ahead of the true time, at the most.
    ahead: i64,
    /// Why the cluster has not settled, when that was last looked at.
    unsettled: RefCell<String>,
}

impl Runner {
    fn new(plan: Plan) -> Self {
        let mut sim = turmoil::Builder::new()
            .rng_seed(chance::seed_for(plan.seed, Purpose::Network, Machine::World))
            .epoch(SystemTime::UNIX_EPOCH + clock::EPOCH)
            .tick_duration(Duration::from_millis(clock::STEP_MILLIS))
            .simulation_duration(Duration::MAX)
            .tcp_capacity(SEGMENTS_MAX)
            .enable_random_order()
            .build();
        let mut always = plan.work.always.clone();
        // Some node is of a release that knows the poisoned change.
        always.extend(plan.work.poisoned_change_at.map(|_| "push.newer-release".to_owned()));
        env::set_always(always);
        let stage = Rc::new(Stage::new(plan));
        let ear = Rc::downgrade(&stage);
        env::listen(Rc::new(move |machine, kind, detail| {
            if let Some(stage) = ear.upgrade()
                && let Some(event) = oracles::understand(machine, kind, detail)
            {
                stage.hear(&event);
            }
        }));
        for machine in stage.places.keys() {
            let planned = stage.planned_clock(*machine);
            clock::jump(*machine, planned.offset_ms * 1_000_000);
            clock::drift(*machine, i64::from(planned.drift_ppm));
            add(&mut sim, &stage, *machine);
        }
        let mut machines = Machines::new(sim, stage.clone());
        let faults = Faults::new(&stage);
        machines.lay(&faults.active());
        Self {
            machines,
            faults,
            stage,
            now: 0,
            healed_at: 0,
            ahead: i64::MIN,
            unsettled: RefCell::default(),
        }
    }

    fn steps(&mut self) {
        let plan = &self.stage.plan;
        let (warm_up, duration) = (plan.warm_up.duration(), plan.duration.duration());
        let mut settle = plan.settle.duration();
        let rare = (
            plan.seed,
            plan.cluster.rare_paths_per_mille,
            plan.work.cut_catch_ups_after,
        );
        self.until(FORMING_MAX, |this| this.stage.is_formed() && this.passed() >= warm_up);
        if !self.stage.is_formed() && !self.stage.is_violated() {
            let what = format!("the cluster is not complete after {FORMING_MAX:?}");
            self.stage.violated("forms", what);
        }
        env::set_rare(Some(Rare::new(rare.0, rare.1, rare.2)));
        self.stage.set_phase(Phase::Working);
        self.until(duration.max(self.passed()), |_| false);
        env::set_rare(None);
        self.stage.set_phase(Phase::Settling);
        self.faults.heal(self.millis(), &mut self.machines);
        self.machines.lay(&self.faults.active());
        self.healed_at = self.now;
        // What a client writes comes after all that a node took. Where that node's clock was ahead, and is gone (seed
        // 61056) or set right (seed 63056), the others refuse it until theirs have come so far.
        let (slowest, _) = clock::hosts_ahead();
        let set_back = u64::try_from(self.ahead.saturating_sub(slowest)).unwrap_or(0);
        settle += Duration::from_nanos(set_back);
        let end = self.passed() + settle;
        self.until(end, Self::has_settled);
        if !self.stage.is_violated() {
            let unsettled = self.unsettled.borrow().clone();
            if self.has_settled() || unsettled.is_empty() {
                self.stage.look(Moment::End);
            } else {
                self.stage
                    .violated("settles", format!("{settle:?} after all is healed, {unsettled}"));
            }
        }
    }

    /// Steps until it is so, until `end` since the beginning, or until a rule is broken.
    fn until(&mut self, end: Duration, is_so: impl Fn(&Self) -> bool) {
        while self.passed() < end && !self.stage.is_violated() && !is_so(self) {
            self.step();
        }
    }

    const fn millis(&self) -> Millis {
        Millis(self.now)
    }

    const fn passed(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    fn step(&mut self) {
        if self.stage.phase() == Phase::Working {
            self.faults.advance(self.millis(), &mut self.machines);
        }
        if self.faults.take_changed() {
            self.machines.lay(&self.faults.active());
        }
        let stepped = panic::catch_unwind(AssertUnwindSafe(|| self.machines.sim.step()));
        self.now += clock::STEP_MILLIS;
        clock::set_step(self.now * 1_000_000);
        match stepped {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => self.stage.violated("runs", format!("a program ended: {error}")),
            Err(_) => self.stage.violated("runs", "the simulation panicked".to_owned()),
        }
        if let Some(panic) = PANICKED.lock().ok().and_then(|mut panicked| panicked.take()) {
            self.stage.violated("panics", panic);
        }
        if self.machines.notice_power_cuts() {
            self.machines.lay(&self.faults.active());
        }
        for host in self.stage.take_leaving() {
            self.machines.retire(host);
        }
        if self.now.is_multiple_of(LOOK_CLOSELY_EVERY) {
            self.stage.look(Moment::Closely);
            self.machines.restart_stopped();
            self.replace_harmed_disks();
        } else if self.now.is_multiple_of(LOOK_EVERY) {
            self.stage.look(Moment::Quickly);
        }
        if self.now.is_multiple_of(LOOK_EVERY) {
            let (_, most) = clock::hosts_ahead();
            self.ahead = self.ahead.max(most);
        }
    }

    /// After the healing an operator gives a new disk to a host whose node refuses its harmed one.
    fn replace_harmed_disks(&mut self) {
        let is_patient = Duration::from_millis(self.now - self.healed_at) < DISK_PATIENCE;
        if self.stage.phase() != Phase::Settling || is_patient {
            return;
        }
        for host in budget::harmed(&self.stage.plan) {
            let is_gone = self.stage.lost().contains(&host);
            if !is_gone && self.stage.rooms(host).is_none() && self.stage.is_first_replacement(host) {
                self.machines.replace_disk(host);
                self.machines.lay(&self.faults.active());
            }
        }
    }

    fn has_settled(&self) -> bool {
        if !self.now.is_multiple_of(LOOK_EVERY) {
            return false;
        }
        let settled = settled::check(&self.stage);
        *self.unsettled.borrow_mut() = settled.clone().err().unwrap_or_default();
        settled.is_ok()
    }
}

fn add(sim: &mut Sim<'static>, stage: &Rc<Stage>, machine: Machine) {
    let stage = stage.clone();
    let name = machine.to_string();
    match machine {
        Machine::World => {}
        Machine::Host(number) => sim.host(name, move || node::run(stage.clone(), Host(number))),
        Machine::Client(number) => sim.host(name, move || workload::client(stage.clone(), Client(number))),
        Machine::Operator(1) => sim.host(name, move || operator::run(stage.clone())),
        Machine::Operator(number) => sim.host(name, move || workload::operator(stage.clone(), number)),
    }
}
