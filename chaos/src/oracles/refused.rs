//! A node refuses for good only what is wrong with a set, and here nothing is: all names are good, no set is too large,
//! no key is revoked, no tenant of a client is deleted, and where a change is of a newer release some node is one.
//!
//! What waits is not refused: for a node that has room, that holds the tenant, that has heard of it, whose clock has come
//! so far. But a copy of a page uses its numbers, and who comes second is told so.

use halcyon_proto::error::ErrorCode;

use super::{Event, Evidence, Oracle};
use crate::plan::{
    Plan,
    cluster::{Client, Transport},
};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Refused;

impl Oracle for Refused {
    fn name(&self) -> &'static str {
        "refused"
    }

    fn hear(&mut self, event: &Event, evidence: Evidence<'_>) -> Result<(), String> {
        match event {
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
    use super::*;
    use crate::{oracles::Court, plan::scenario, run::Stage};

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
}
