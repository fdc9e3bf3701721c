//! Whether the node wants to be sent work, and what its operator should know besides.
//!
//! A reason turns `/readyz` red: a load balancer should send work elsewhere. A notice does not: the node serves.

use std::time::Duration;

use tokio::{sync::watch, time::sleep};

use crate::{
    replication::Standing,
    rpc::{Readiness, Rooms},
};

/// How often readiness is looked at again: an operator's script polls once a second.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Keeps `/readyz` true to what is.
pub(super) async fn run(rooms: Rooms, readiness: Readiness, mut stop: watch::Receiver<bool>) {
    loop {
        rooms.look_for_alarms();
        let (reasons, notices) = look(&rooms).judge();
        let before = readiness.reasons();
        if before != reasons {
            readiness.set(reasons);
            match (readiness.reasons().first(), before.first()) {
                (Some(reason), before) if Some(reason) != before => tracing::warn!(reason, "the node is not ready"),
                (None, Some(_)) => tracing::info!("the node is ready"),
                _ => {}
            }
        }
        readiness.notice(notices);
        tokio::select! {
            biased;
            // The one who stops the node has said why it is not ready.
            _ = stop.wait_for(|stop| *stop) => return,
            () = sleep(LOOK_INTERVAL) => {}
        }
    }
}

/// What readiness is judged by.
#[derive(Debug, Clone, Default)]
struct Facts {
    /// Why the node was removed, if it was.
    removed: Option<String>,
    /// The view shows it as a member.
    is_member: bool,
    /// The view shows nothing at all.
    is_empty: bool,
    /// Alarms for which the node should be sent no work.
    against_work: Vec<String>,
    /// All alarms.
    alarms: usize,
    has_quorum: bool,
    standing: Standing,
}

fn look(rooms: &Rooms) -> Facts {
    let (is_member, is_empty) = rooms
        .view
        .read(|state| (state.nodes.contains_key(&rooms.me), state.nodes.is_empty()));
    Facts {
        removed: rooms.removal.why(),
        is_member,
        is_empty,
        against_work: rooms.alarms.against_work(),
        alarms: rooms.alarms.standing().len(),
        has_quorum: rooms.metadata.roles().has_quorum,
        standing: rooms.replication.standing(),
    }
}

impl Facts {
    /// Reasons, and notices.
    fn judge(self) -> (Vec<String>, Vec<String>) {
        if let Some(why) = self.removed {
            return (vec![why], Vec::new());
        }
        let mut reasons = match (self.is_member, self.is_empty) {
            (true, _) => self.against_work,
            (false, true) => vec!["waiting for the control plane: its leader has not reached this node yet".to_owned()],
            (false, false) => vec!["waiting for the control plane to show this node as a member".to_owned()],
        };
        let mut notices = Vec::new();
        let Standing {
            tenants,
            unserved,
            pulling,
        } = self.standing;
        // A node that is filled serves nobody yet. While it fills a few of many, the rest should have their work.
        if unserved > 0 && unserved == tenants {
            reasons.push(format!(
                "catching up: none of the {tenants} replicas on this node is whole yet"
            ));
        } else if unserved > 0 {
            notices.push(format!(
                "catching up: {unserved} of {tenants} replicas are not whole yet"
            ));
        }
        if pulling > 0 {
            notices.push(format!("catching up: {pulling} catch-ups are under way"));
        }
        // A lost quorum is no reason: data is read and written without it.
        if !self.has_quorum {
            let text = "the control plane has no quorum: tenants serve on, but nothing about them can be changed";
            notices.push(text.to_owned());
        }
        if self.alarms > 0 {
            notices.push(format!(
                "{} alarms stand: see /healthz or `halcyon status`",
                self.alarms
            ));
        }
        (reasons, notices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(tenants: usize, unserved: usize, pulling: usize) -> Standing {
        Standing {
            tenants,
            unserved,
            pulling,
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn each_state_is_told_and_only_what_stops_work_is_a_reason() {
        let well = Facts {
            is_member: true,
            has_quorum: true,
            ..Facts::default()
        };
        check(well.clone(), "", "");
        let removed = Some("node n3 was removed".to_owned());
        check(
            Facts {
                removed,
                ..well.clone()
            },
            "was removed",
            "",
        );
        let is_member = false;
        check(
            Facts {
                is_member,
                ..well.clone()
            },
            "as a member",
            "",
        );
        let is_empty = true;
        check(
            Facts {
                is_member,
                is_empty,
                ..well.clone()
            },
            "has not reached",
            "",
        );
        let against_work = vec!["disk: no space left".to_owned()];
        check(
            Facts {
                against_work,
                ..well.clone()
            },
            "no space left",
            "",
        );
        check(
            Facts {
                alarms: 2,
                ..well.clone()
            },
            "",
            "2 alarms",
        );
        let has_quorum = false;
        check(
            Facts {
                has_quorum,
                ..well.clone()
            },
            "",
            "no quorum",
        );
        check(
            Facts {
                standing: standing(9, 9, 0),
                ..well.clone()
            },
            "none of the 9",
            "",
        );
        check(
            Facts {
                standing: standing(9, 2, 0),
                ..well.clone()
            },
            "",
            "2 of 9",
        );
        check(
            Facts {
                standing: standing(9, 0, 3),
                ..well
            },
            "",
            "3 catch-ups",
        );
    }

    /// The one reason and the one notice, or an empty text for none.
    #[track_caller]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a table of cases reads better without references"
    )]
    fn check(facts: Facts, reason: &str, notice: &str) {
        let told = facts.clone().judge();
        for (told, expected) in [(&told.0, reason), (&told.1, notice)] {
            let is_right = match &told[..] {
                [] => expected.is_empty(),
                [one] => !expected.is_empty() && one.contains(expected),
                _ => false,
            };
            assert!(is_right, "{facts:?}: {told:?}, not {expected:?}");
        }
    }
}
