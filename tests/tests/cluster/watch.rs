//! Following a tenant: nothing is missed and nothing comes twice, whoever is killed.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use halcyon_client::WatchEvent;
use halcyon_core::{
    change::{Change, ChangeSet},
    version_vector::VersionVector,
};
use halcyon_tests::{
    cluster::{Cluster, REGIONS},
    command::{self, Running},
    load::Door,
    wait,
};
use rustix::process::Signal;
use serde_json::Value;

/// Change sets in one push of the load.
const BATCH: usize = 10;

/// What a watcher takes in before something is done to it or to its node.
const TAKEN_BEFORE: usize = 100;

/// How often the watching program is killed.
const KILLS: usize = 3;

#[test]
fn a_watching_command_that_is_killed_goes_on_from_its_last_vector_without_gap_or_repeat() {
    let mut cluster = Cluster::boot(&REGIONS);
    cluster.tenant("notes", &REGIONS);
    // From every region, so whichever the command is nearest to, most comes from another.
    let mut load = Load::start((0..3).map(|at| cluster.door(at, "notes")).collect());
    let mut followed = Followed::default();
    for kill in 0..KILLS {
        let taken = followed.count();
        let mut running = follow(&cluster, &followed, kill);
        wait::until("the command follows", wait::LONG, || {
            assert!(!running.has_ended(), "it ended: {}", running.notes());
            followed.with(&running).count().checked_sub(taken + TAKEN_BEFORE)
        });
        running.kill();
        followed = followed.with(&running);
        followed.missed.clear();
    }
    let written = load.stop();
    let running = follow(&cluster, &followed, KILLS);
    let followed = wait::until("the command has it all", wait::LONG, || {
        let now = followed.with(&running);
        (now.count() >= written).then_some(now)
    });
    followed.is_whole(written);
}

#[test]
fn a_watch_goes_on_from_another_node_when_its_node_is_killed() {
    check(|cluster, at| cluster.nodes[at].kill());
}

#[test]
fn a_watch_goes_on_from_another_node_when_its_node_freezes() {
    check(|cluster, at| cluster.nodes[at].signal(Signal::STOP));
}

/// A program watches while others write; something is done to the node that it watches.
#[track_caller]
fn check(harm: impl FnOnce(&mut Cluster, usize)) {
    let mut cluster = Cluster::boot(&REGIONS);
    cluster.tenant("notes", &REGIONS);
    let program = cluster.program("notes");
    let at = program.node();
    let writers = (0..3).filter(|other| *other != at);
    let mut load = Load::start(writers.map(|other| cluster.door(other, "notes")).collect());
    let mut watch = program.watch(VersionVector::EMPTY);
    let mut followed = Followed::default();
    while followed.count() < TAKEN_BEFORE {
        followed.on_event(watch.next(wait::SOON));
    }
    harm(&mut cluster, at);
    let after = load.written() + TAKEN_BEFORE;
    while followed.count() < after {
        followed.on_event(watch.next(wait::SOON));
    }
    let written = load.stop();
    while followed.count() < written {
        followed.on_event(watch.next(wait::SOON));
    }
    followed.is_whole(written);
    program.close();
}

/// Entities e0, e1, … written in turns through several nodes, one batch after the other.
struct Load {
    thread: Option<std::thread::JoinHandle<()>>,
    state: std::sync::Arc<(AtomicBool, AtomicUsize)>,
}

impl Load {
    #[expect(clippy::disallowed_methods, reason = "a load beside the test, outside every node")]
    fn start(mut doors: Vec<Door>) -> Self {
        let state = std::sync::Arc::<(AtomicBool, AtomicUsize)>::default();
        let shared = state.clone();
        let thread = std::thread::spawn(move || {
            let (stopped, written) = &*shared;
            for turn in 0.. {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let place = turn % doors.len();
                doors[place].write_entities(turn * BATCH, BATCH);
                written.store((turn + 1) * BATCH, Ordering::Release);
            }
        });
        Self {
            thread: Some(thread),
            state,
        }
    }

    fn written(&self) -> usize {
        self.state.1.load(Ordering::Acquire)
    }

    /// Ends the load and says how many entities there are.
    #[track_caller]
    fn stop(&mut self) -> usize {
        self.state.0.store(true, Ordering::Release);
        let thread = self.thread.take().expect("it is stopped once");
        thread.join().expect("every write was taken");
        self.written()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.state.0.store(true, Ordering::Release);
    }
}

/// What a program that follows a tenant has taken in, and from where it would go on.
#[derive(Debug, Default, Clone)]
struct Followed {
    /// How often each entity came.
    times: BTreeMap<String, usize>,
    /// A part of what was missed, which counts when it is whole.
    missed: Vec<String>,
    vector: Option<String>,
}

impl Followed {
    fn count(&self) -> usize {
        self.times.len()
    }

    fn take(&mut self, subjects: impl IntoIterator<Item = String>) {
        for subject in subjects {
            *self.times.entry(subject).or_default() += 1;
        }
    }

    fn on_event(&mut self, event: WatchEvent) {
        match event {
            WatchEvent::Anew => *self = Self::default(),
            WatchEvent::Missed(set) => self.missed.extend(titles_of(&set)),
            WatchEvent::CaughtUp(_) => {
                let missed = std::mem::take(&mut self.missed);
                self.take(missed);
            }
            WatchEvent::Live { set, .. } => self.take(titles_of(&set)),
        }
    }

    /// The same for what the command has written by now.
    #[track_caller]
    fn with(&self, running: &Running) -> Self {
        let mut now = self.clone();
        for line in running.lines() {
            let json: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
            match json["event"].as_str() {
                Some("missed") => now.missed.extend(titles_in(&json)),
                Some("caught-up") => {
                    let missed = std::mem::take(&mut now.missed);
                    now.take(missed);
                    now.vector = json["vector"].as_str().map(str::to_owned);
                }
                Some("live") => {
                    now.take(titles_in(&json));
                    now.vector = json["vector"].as_str().map(str::to_owned);
                }
                _ => panic!("no event: {line}"),
            }
        }
        now
    }

    /// Each of the first `written` entities came once.
    #[track_caller]
    fn is_whole(&self, written: usize) {
        let wrong: Vec<String> = (0..written)
            .map(|at| format!("e{at}"))
            .filter(|subject| self.times.get(subject) != Some(&1))
            .map(|subject| format!("{subject}: {:?}", self.times.get(&subject)))
            .collect();
        assert_eq!(wrong, [] as [String; 0], "of {written}, not once");
        assert_eq!(self.count(), written, "more came than was written");
    }
}

fn titles_of(set: &ChangeSet) -> Vec<String> {
    let title = |change: &Change| match change {
        Change::Set { subject, .. } => Some(subject.to_string()),
        _ => None,
    };
    set.changes.iter().filter_map(title).collect()
}

fn titles_in(line: &Value) -> Vec<String> {
    let changes = line["changes"].as_array().cloned().unwrap_or_default();
    let titles = changes.iter().filter(|change| change["change"] == "set");
    titles
        .filter_map(|change| change["subject"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn a_revoked_key_watches_no_more() {
    let mut cluster = Cluster::boot(&REGIONS[..1]);
    cluster.tenant("notes", &REGIONS[..1]);
    let spare = cluster.ask(&["tenant", "key", "create", "notes"])["key"].clone();
    let spare = spare.as_str().expect("a new key is said").to_owned();
    let changes = cluster.start_keyed(0, "notes", &["--json", "watch", "--all"], "changes");
    let query = "todo order by rank desc limit 2";
    let rows = cluster.start_keyed(0, "notes", &["--json", "watch", query], "rows");
    let set = |id: &str| {
        let variables = [("HALCYON_KEY", &*spare)];
        let address = cluster.address(0);
        let arguments = ["set", "--cluster", &address, "--tenant", "notes", id, "todo/rank=1"];
        command::halcyon(&arguments, &variables).ok();
    };
    set("before");
    for watching in [&changes, &rows] {
        wait::until("what is written is told", wait::SOON, || {
            watching
                .lines()
                .iter()
                .any(|line| line.contains("before"))
                .then_some(())
        });
    }
    let keys = cluster.ask(&["tenant", "key", "list", "notes"]);
    let mut keys = keys.as_array().into_iter().flatten();
    let first = keys
        .find(|key| key["label"] == "first")
        .expect("a tenant is made with a key");
    let first = first["id"].as_str().expect("a key has an id");
    cluster.run(&["tenant", "key", "revoke", "notes", first]).ok();
    set("behind");
    for mut watching in [changes, rows] {
        watching.ends_with(4, wait::SOON);
        assert!(watching.notes().contains("was revoked"), "{}", watching.notes());
        let told = watching.lines();
        assert!(!told.iter().any(|line| line.contains("behind")), "{told:?}");
    }
}

/// Starts the command where the one before was killed.
#[track_caller]
fn follow(cluster: &Cluster, followed: &Followed, run: usize) -> Running {
    let mut arguments = vec!["--json", "watch"];
    match &followed.vector {
        Some(vector) => arguments.extend(["--from", vector]),
        None => arguments.push("--all"),
    }
    cluster.start_keyed(run % 3, "notes", &arguments, &format!("watch-{run}"))
}
