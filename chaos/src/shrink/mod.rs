//! Shrinking: from a run that fails to a small one that fails in the same way.
//!
//! First the faults, by delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input",
//! 2002): drop halves, then quarters, and so on, until each fault that is left is needed. Then the duration, then hosts
//! and clients, fewest first; and the faults once more, for a smaller run may need fewer. Only a failure of the same
//! class counts: another bug met on the way must not lead astray.
//!
//! The search is generic over what runs a candidate. It is bounded by a number of runs, and ends where a run is given up:
//! the smallest found so far is its answer. What has been run is remembered.

mod ddmin;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use thiserror::Error;

use crate::plan::{Plan, budget, fault::FaultId, time::Millis};

/// Runs of one shrink. At half a second to two seconds a run, some minutes.
pub const RUNS_MAX: u32 = 200;

/// The duration is not made shorter by less than this.
const DURATION_STEP: Millis = Millis(500);

/// What may be made smaller in a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// The faults that are kept.
    pub faults: BTreeSet<FaultId>,
    /// How long workload and faults last.
    pub duration: Millis,
    /// Hosts, from the first.
    pub hosts: usize,
    /// Clients, from the first.
    pub clients: usize,
}

/// What came of one run. `C` is the class of a violation: the oracle's name, say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<C> {
    /// All oracles agreed.
    Clean,
    /// One did not.
    Violated {
        /// Which kind of violation.
        class: C,
        /// When, if during the run. What comes after it is not needed.
        at: Option<Millis>,
    },
    /// The candidate makes no sense (it would break the fault budget) and was not run.
    Impossible,
    /// The run was given up, and with it the search: the time is up, or whoever waits has had enough.
    GivenUp,
}

/// What the search tells while it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress<'a, C> {
    /// Runs so far.
    pub runs: u32,
    /// What is being made smaller.
    pub aim: Aim,
    /// What was just run.
    pub tried: &'a Candidate,
    /// What came of it.
    pub outcome: &'a Outcome<C>,
    /// Whether it failed in the same way; then it is the smallest so far.
    pub same: bool,
}

/// What a search is at, in this order, and then at the faults once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aim {
    /// Does it fail again?
    Replay,
    /// Fewer faults.
    Faults,
    /// A shorter run.
    Duration,
    /// Fewer hosts.
    Hosts,
    /// Fewer clients.
    Clients,
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Replay => "replay",
            Self::Faults => "faults",
            Self::Duration => "duration",
            Self::Hosts => "hosts",
            Self::Clients => "clients",
        })
    }
}

/// The end of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shrunk {
    /// The smallest that still fails.
    pub smallest: Candidate,
    /// Runs that it took.
    pub runs: u32,
    /// Whether nothing was left to try; otherwise the runs were used up, or one was given up.
    pub finished: bool,
}

/// Why nothing was shrunk.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ShrinkError {
    /// The first run did not fail in this way. A run that does not replay is a bug of the simulator.
    #[error("the failure does not replay: another run of the same candidate ended otherwise")]
    NotReplayed,
    /// The search ended before it had seen the failure itself.
    #[error("the search was given up before the failure was seen again")]
    GivenUp,
}

/// Makes a failing candidate smaller.
///
/// `run` is called with each candidate, `progress` after it. `class` is the violation's class that counts.
pub fn shrink<C: PartialEq>(
    whole: &Candidate,
    class: &C,
    runs_max: u32,
    run: impl FnMut(&Candidate) -> Outcome<C>,
    progress: impl FnMut(&Progress<'_, C>),
) -> Result<Shrunk, ShrinkError> {
    let mut search = Search {
        smallest: whole.clone(),
        violated_at: None,
        aim: Aim::Replay,
        class,
        runs: 0,
        runs_max,
        met: BTreeMap::new(),
        run,
        progress,
    };
    match search.fails(whole) {
        Answer::Yes => {}
        Answer::No => return Err(ShrinkError::NotReplayed),
        Answer::Stopped => return Err(ShrinkError::GivenUp),
    }
    let finished = search.all().is_ok();
    Ok(Shrunk {
        smallest: search.smallest,
        runs: search.runs,
        finished,
    })
}

/// No further run may begin.
struct Stopped;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    Stopped,
}

struct Search<'a, C, R, P> {
    smallest: Candidate,
    /// When the smallest failed.
    violated_at: Option<Millis>,
    aim: Aim,
    class: &'a C,
    runs: u32,
    runs_max: u32,
    met: BTreeMap<Candidate, bool>,
    run: R,
    progress: P,
}

impl<C: PartialEq, R: FnMut(&Candidate) -> Outcome<C>, P: FnMut(&Progress<'_, C>)> Search<'_, C, R, P> {
    fn all(&mut self) -> Result<(), Stopped> {
        self.faults()?;
        self.duration()?;
        self.hosts()?;
        self.clients()?;
        self.faults()
    }

    fn faults(&mut self) -> Result<(), Stopped> {
        self.aim = Aim::Faults;
        let all: Vec<FaultId> = self.smallest.faults.iter().copied().collect();
        ddmin::minimize(all, |kept| {
            let faults = kept.iter().copied().collect();
            self.accepts(|candidate| Candidate { faults, ..candidate })
        })?;
        Ok(())
    }

    /// First to just after the violation, then by halving what is left above the longest that does not fail.
    fn duration(&mut self) -> Result<(), Stopped> {
        self.aim = Aim::Duration;
        if let Some(at) = self.violated_at {
            let duration = at + DURATION_STEP;
            if duration < self.smallest.duration {
                self.accepts(|candidate| Candidate { duration, ..candidate })?;
            }
        }
        let mut too_short = Millis(0);
        while self.smallest.duration.since(too_short) > DURATION_STEP {
            let duration = Millis(u64::midpoint(too_short.0, self.smallest.duration.0));
            if !self.accepts(|candidate| Candidate { duration, ..candidate })? {
                too_short = duration;
            }
        }
        Ok(())
    }

    fn hosts(&mut self) -> Result<(), Stopped> {
        self.aim = Aim::Hosts;
        for hosts in 1..self.smallest.hosts {
            if self.accepts(|candidate| Candidate { hosts, ..candidate })? {
                break;
            }
        }
        Ok(())
    }

    fn clients(&mut self) -> Result<(), Stopped> {
        self.aim = Aim::Clients;
        for clients in 1..self.smallest.clients {
            if self.accepts(|candidate| Candidate { clients, ..candidate })? {
                break;
            }
        }
        Ok(())
    }

    fn accepts(&mut self, change: impl FnOnce(Candidate) -> Candidate) -> Result<bool, Stopped> {
        let candidate = change(self.smallest.clone());
        match self.fails(&candidate) {
            Answer::Yes => Ok(true),
            Answer::No => Ok(false),
            Answer::Stopped => Err(Stopped),
        }
    }

    fn fails(&mut self, candidate: &Candidate) -> Answer {
        if let Some(same) = self.met.get(candidate) {
            return if *same { Answer::Yes } else { Answer::No };
        }
        if self.runs >= self.runs_max {
            return Answer::Stopped;
        }
        let outcome = (self.run)(candidate);
        if outcome == Outcome::GivenUp {
            return Answer::Stopped;
        }
        let violated_at = match &outcome {
            Outcome::Violated { class, at } if class == self.class => Some(*at),
            _ => None,
        };
        let same = violated_at.is_some();
        self.met.insert(candidate.clone(), same);
        if let Some(at) = violated_at {
            self.smallest = candidate.clone();
            self.violated_at = at;
        }
        if outcome != Outcome::Impossible {
            self.runs += 1;
            (self.progress)(&Progress {
                runs: self.runs,
                aim: self.aim,
                tried: candidate,
                outcome: &outcome,
                same,
            });
        }
        if same { Answer::Yes } else { Answer::No }
    }
}

impl Candidate {
    /// All of a plan.
    pub fn whole(plan: &Plan) -> Self {
        Self {
            faults: plan.fault_ids(),
            duration: plan.duration,
            hosts: plan.cluster.hosts.len(),
            clients: plan.clients.len(),
        }
    }

    /// The smaller plan. `None` where it would leave the fault budget, or ends before its workload starts.
    pub fn of(&self, plan: &Plan) -> Option<Plan> {
        let smaller = plan.keep(&self.faults).shrink_to(self.hosts, self.clients);
        let smaller = smaller.shorten(self.duration);
        let works = plan.warm_up < smaller.duration;
        (works && budget::check(&smaller).is_ok()).then_some(smaller)
    }

    /// The arguments that make `run` replay it, beside those that name the whole plan. What is whole is not said.
    ///
    /// They are none of the words that a plan is drawn by (a drawn plan with fewer hosts is another plan): each makes
    /// the whole plan smaller after it was drawn.
    pub fn arguments(&self, whole: &Self) -> String {
        let mut words = Vec::new();
        if self.faults != whole.faults {
            let faults: Vec<String> = self.faults.iter().map(ToString::to_string).collect();
            let none = faults.is_empty();
            words.push(format!(
                "--faults {}",
                if none { "none".to_owned() } else { faults.join(",") }
            ));
        }
        if self.duration != whole.duration {
            words.push(format!("--until-ms {}", self.duration.0));
        }
        if self.hosts != whole.hosts {
            words.push(format!("--first-hosts {}", self.hosts));
        }
        if self.clients != whole.clients {
            words.push(format!("--first-clients {}", self.clients));
        }
        words.join(" ")
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            faults,
            duration,
            hosts,
            clients,
        } = self;
        write!(
            f,
            "{} faults, {duration}, {hosts} hosts, {clients} clients",
            faults.len()
        )
    }
}

#[cfg(test)]
mod tests;
