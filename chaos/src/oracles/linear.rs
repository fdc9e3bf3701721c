//! Operations of the control plane are linearizable: names of tenants, created and deleted by several operators at
//! several nodes, and a setting that they write, are registers; there is one order of all operations that explains every
//! answer.
//!
//! Looks ask for the linearizable answer, so they must fit in as well.
//!
//! Deleting is idempotent by design: who deletes what another has just deleted is told that it is done. So a deletion
//! says only that nothing is there after it.

use std::collections::BTreeMap;

use super::{Event, Evidence, Moment, Oracle};
use crate::{
    lin::{
        self, Operation, Spec, Verdict,
        register::{Call, Reply},
    },
    workload::{SETTING_START, SHARED_SETTING},
    world::machine::Machine,
};

/// What a name of a tenant does.
#[derive(Debug, Clone, Copy)]
struct Name;

impl Spec for Name {
    type State = Option<u64>;
    type Call = Call<u64>;
    type Reply = Reply<u64>;

    fn start(&self) -> Option<u64> {
        None
    }

    fn apply(&self, state: &Option<u64>, call: &Call<u64>) -> (Option<u64>, Reply<u64>) {
        match (call, state) {
            (Call::Create(new), None) => (Some(*new), Reply::Done),
            (Call::Delete, _) => (None, Reply::Done),
            (Call::Read, Some(_)) => (*state, Reply::Content(PRESENT)),
            (Call::Read, None) => (None, Reply::Absent),
            _ => (*state, Reply::Refused),
        }
    }
}

/// What a setting does: it has a content from the start.
#[derive(Debug, Clone, Copy)]
struct Setting;

impl Spec for Setting {
    type State = u64;
    type Call = Call<u64>;
    type Reply = Reply<u64>;

    fn start(&self) -> u64 {
        SETTING_START
    }

    fn apply(&self, state: &u64, call: &Call<u64>) -> (u64, Reply<u64>) {
        match call {
            Call::Write(new) => (*new, Reply::Done),
            Call::Read => (*state, Reply::Content(*state)),
            call => unreachable!("nobody asks this of a setting: {call}"),
        }
    }
}

/// What a look tells of a tenant: that it is there. Which one it is cannot be said of one whose maker heard no answer.
pub(crate) const PRESENT: u64 = 0;

/// What a run tells that ends with a search given up: it is no failure, and no pass either.
const UNDECIDED: &str = "linearizable.undecided";

/// Steps of the search for one name: a second at most.
const STEPS_MAX: u64 = 2_000_000;

/// Of one name, in the order in which they were answered.
type History = Vec<Operation<Call<u64>, Reply<u64>>>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Linear {
    histories: BTreeMap<String, History>,
}

impl Oracle for Linear {
    fn name(&self) -> &'static str {
        "linearizable"
    }

    fn hear(&mut self, event: &Event, _evidence: Evidence<'_>) -> Result<(), String> {
        if let Event::Controlled { name, operation } = event {
            self.histories.entry(name.clone()).or_default().push(operation.clone());
        }
        Ok(())
    }

    fn look(&mut self, moment: Moment, evidence: Evidence<'_>) -> Result<(), String> {
        if moment != Moment::End {
            return Ok(());
        }
        let undecided = self.check(STEPS_MAX)?;
        // Told by the operator who makes the cluster, whom every run has.
        let probe = &evidence.stage.place(Machine::Operator(1)).env.probe;
        for name in undecided {
            probe.event(UNDECIDED, &|| format!("{name}: no order within {STEPS_MAX} steps"));
        }
        Ok(())
    }
}

impl Linear {
    /// The names of which it cannot be said within so many steps.
    pub(super) fn check(&self, steps_max: u64) -> Result<Vec<&str>, String> {
        let mut undecided = Vec::new();
        for (name, history) in &self.histories {
            let (what, verdict) = if name == SHARED_SETTING {
                ("setting", lin::check(&Setting, history, steps_max))
            } else {
                ("tenant name", lin::check(&Name, history, steps_max))
            };
            match verdict {
                Verdict::Linearizable(_) => {}
                Verdict::Undecided { .. } => undecided.push(&**name),
                Verdict::Violation(explanation) => return Err(format!("{what} {name}: {explanation}")),
            }
        }
        Ok(undecided)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(calls: &[(Call<u64>, Option<Reply<u64>>)]) -> Linear {
        told_of("shared-0", calls)
    }

    fn told_of(name: &str, calls: &[(Call<u64>, Option<Reply<u64>>)]) -> Linear {
        let operations = calls.iter().zip(1..).map(|((call, reply), at)| Operation {
            process: "o1".to_owned(),
            call: call.clone(),
            called: 10 * at,
            returned: reply.clone().map(|reply| (10 * at + 5, reply)),
        });
        let histories = BTreeMap::from([(name.to_owned(), operations.collect())]);
        Linear { histories }
    }

    #[test]
    fn what_cannot_be_said_within_the_steps_is_told_and_is_no_pass() {
        let good = told(&[
            (Call::Create(1), Some(Reply::Done)),
            (Call::Read, Some(Reply::Content(PRESENT))),
        ]);
        assert_eq!(good.check(STEPS_MAX), Ok(vec![]));
        assert_eq!(good.check(1), Ok(vec!["shared-0"]));
        let bad = told(&[(Call::Create(1), Some(Reply::Done)), (Call::Read, Some(Reply::Absent))]);
        assert!(bad.check(STEPS_MAX).is_err());
    }

    #[test]
    fn a_setting_starts_with_its_default_and_shows_what_was_written_last() {
        let read = |content| (Call::Read, Some(Reply::Content(content)));
        let wrote = |content| (Call::Write(content), Some(Reply::Done));
        let check = |calls: &[_]| told_of(SHARED_SETTING, calls).check(STEPS_MAX).is_ok();
        assert!(check(&[read(SETTING_START), wrote(7), read(7), wrote(8), read(8)]));
        assert!(!check(&[wrote(7), wrote(8), read(7)]));
        assert!(!check(&[wrote(7), read(SETTING_START)]));
    }
}
