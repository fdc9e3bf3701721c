//! Operations of the control plane are linearizable: names of tenants, created and deleted by several operators at
//! several nodes, are registers; there is one order of all operations that explains every answer.
//!
//! Looks ask for the linearizable answer, so they must fit in as well.
//!
//! Deleting is idempotent by design: who deletes what another has just deleted is told that it is done. So a deletion
//! says only that nothing is there after it.

use std::collections::BTreeMap;

use super::{Event, Evidence, Moment, Oracle};
use crate::lin::{
    self, Operation, Spec, Verdict,
    register::{Call, Reply},
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

/// What a look tells of a tenant: that it is there. Which one it is cannot be said of one whose maker heard no answer.
pub(crate) const PRESENT: u64 = 0;

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

    fn look(&mut self, moment: Moment, _evidence: Evidence<'_>) -> Result<(), String> {
        if moment != Moment::End {
            return Ok(());
        }
        for (name, history) in &self.histories {
            if let Verdict::Violation(explanation) = lin::check(&Name, history, STEPS_MAX) {
                return Err(format!("tenant name {name}: {explanation}"));
            }
        }
        Ok(())
    }
}
