//! A node refuses for good only what is wrong with a set, and here nothing is: all names are good, no set is too large,
//! no key is revoked, no tenant of a client is deleted, and where a change is of a newer release some node is one.
//!
//! What waits is not refused: for a node that has room, that holds the tenant, that has heard of it, whose clock has come
//! so far. But a copy of a page uses its numbers, and who comes second is told so. And clients take for granted that the
//! clocks of two nodes are less than [`NODES_APART_MAX`] apart: where one was further behind, a set whose answer was lost is
//! stamped again though another node has it, which then says that its number is taken (seeds 71052 and 72042).

use halcyon_proto::error::ErrorCode;

use super::{Event, Evidence, Moment, Oracle};
use crate::{
    plan::{
        Plan,
        cluster::{Client, Transport},
    },
    workload::NODES_APART_MAX,
    world::clock,
};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// The clocks of two nodes were too far apart.
    were_apart: bool,
}

impl Oracle for Refused {
    fn name(&self) -> &'static str {
        "refused"
    }

    fn look(&mut self, _moment: Moment, _evidence: Evidence<'_>) -> Result<(), String> {
        self.were_apart |= clock::hosts_apart() >= NODES_APART_MAX;
        Ok(())
    }

    fn hear(&mut self, event: &Event, evidence: Evidence<'_>) -> Result<(), String> {
        self.were_apart |= clock::hosts_apart() >= NODES_APART_MAX;
        match event {
            Event::Refused {
                code: ErrorCode::NumberReused,
                ..
            } if self.were_apart => Ok(()),
            Event::Refused { client, code, why } if !may_be(*client, *code, &evidence.stage.plan) => Err(format!(
                "{client} was refused for good what is well formed: {code:?}: {why}"
            )),
            _ => Ok(()),
        }
    }
}

/// Whether a client may be refused in this way.
fn may_be(client: Client, code: ErrorCode, plan: &Plan) -> bool {
    let is_page = plan
        .client(client)
        .is_some_and(|planned| planned.transport == Transport::GrpcWeb);
    code == ErrorCode::NumberReused && is_page && plan.work.copied_pages
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{oracles::Court, plan::scenario, run::Stage, world::machine::Machine};

    /// A client of the scenario is told so.
    #[track_caller]
    fn check(name: &str, client: u32, code: ErrorCode, is_allowed: bool) {
        let stage = Stage::new((scenario::find(name).expect("a scenario").build)(1));
        let refused = Event::Refused {
            client: Client(client),
            code,
            why: "no".to_owned(),
        };
        let broken = Court::new().hear(&refused, &stage);
        let rules: Vec<&str> = broken.iter().map(|(rule, _)| *rule).collect();
        let expected: &[&str] = if is_allowed { &[] } else { &["refused"] };
        assert_eq!(rules, expected, "{name}: {code:?}");
    }

    #[test]
    fn only_the_number_of_a_copied_page_is_refused_for_good() {
        let copied = (scenario::find("copied-page").expect("a scenario").build)(1);
        let of = |transport| copied.clients.iter().position(|client| client.transport == transport);
        let page = of(Transport::GrpcWeb).expect("a page");
        let page = u32::try_from(page).expect("few clients") + 1;
        check("copied-page", page, ErrorCode::NumberReused, true);
        check("copied-page", page, ErrorCode::Limit, false);
        check("partition-heals", 1, ErrorCode::NumberReused, false);
        check("partition-heals", 1, ErrorCode::Malformed, false);
    }

    /// Two hosts, of which one is so far behind.
    fn apart(by: Duration) {
        clock::jump(Machine::Host(1), 0);
        clock::jump(Machine::Host(2), -i64::try_from(by.as_nanos()).expect("minutes"));
    }

    #[test]
    fn a_number_may_be_taken_where_clocks_of_nodes_were_too_far_apart() {
        apart(NODES_APART_MAX);
        check("partition-heals", 1, ErrorCode::NumberReused, true);
        check("partition-heals", 1, ErrorCode::Malformed, false);
    }

    #[test]
    fn a_number_is_not_taken_where_clocks_of_nodes_were_nearer() {
        apart(NODES_APART_MAX.checked_sub(Duration::from_secs(1)).expect("minutes"));
        check("partition-heals", 1, ErrorCode::NumberReused, false);
    }
}
