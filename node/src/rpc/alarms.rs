//! What is wrong on this node, in full: what replication and storage raised, and changes that nobody here understands.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use halcyon_core::id::TenantId;
use halcyon_proto::v1;

use super::rooms::Rooms;

/// The kind of an alarm that stops the whole node from working.
const DISK: &str = "disk";

/// The kind of an alarm for changes that are kept without being understood.
const OPAQUE: &str = "opaque-change";

/// The kind of an alarm for a wall clock that is not like the others'.
const CLOCK: &str = "clock";

/// What is said of a clock that is half of `drift_max` or more from most of the others; `None` where it is not.
fn clock_message(lead_ms: i64, drift_max: Duration) -> Option<String> {
    let apart = Duration::from_millis(lead_ms.unsigned_abs());
    let side = if lead_ms < 0 { "behind" } else { "ahead of" };
    (apart >= drift_max / 2).then(|| {
        // In whole tens, so that the same alarm does not change with each look.
        let seconds = apart.as_secs() / 10 * 10;
        format!(
            "the clock of this node is more than {seconds} s {side} those of most nodes that answer; clients' timestamps \
             are judged by it: let NTP set it right"
        )
    })
}

/// The alarms that stand, as of the last look. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Alarms {
    standing: Arc<Mutex<Vec<v1::Alarm>>>,
}

impl Alarms {
    /// All of them.
    pub fn standing(&self) -> Vec<v1::Alarm> {
        self.lock().clone()
    }

    /// Those for which the node should be sent no work: its disk has failed. Others concern a tenant, and the rest of
    /// the node goes on.
    pub fn against_work(&self) -> Vec<String> {
        let standing = self.lock();
        let stops = standing
            .iter()
            .filter(|alarm| alarm.kind == DISK && alarm.tenant_id.is_empty());
        stops
            .map(|alarm| format!("{}: {}", alarm.kind, alarm.message))
            .collect()
    }

    /// Replaces them. One that stood before keeps its beginning.
    fn set(&self, mut now: Vec<v1::Alarm>) {
        let mut standing = self.lock();
        for alarm in &mut now {
            let is_same = |old: &&v1::Alarm| (&old.kind, &old.tenant_id) == (&alarm.kind, &alarm.tenant_id);
            let is_same_text = |old: &&v1::Alarm| alarm.kind == OPAQUE || old.message == alarm.message;
            if let Some(old) = standing.iter().filter(is_same).find(is_same_text) {
                alarm.since_ms = old.since_ms;
            }
        }
        *standing = now;
    }

    fn lock(&self) -> MutexGuard<'_, Vec<v1::Alarm>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rooms {
    /// Looks at what is wrong now, and has the peers hear of it with their next probe.
    pub(crate) fn look_for_alarms(&self) {
        let mut alarms: Vec<_> = self
            .replication
            .alarms()
            .into_iter()
            .map(|alarm| v1::Alarm {
                node: self.me.0,
                tenant_id: alarm.tenant.map(|tenant| tenant.to_string()).unwrap_or_default(),
                kind: alarm.kind.name().to_owned(),
                message: alarm.message,
                since_ms: alarm.since.unix_millis(),
            })
            .collect();
        let opaque = self.replication.opaque();
        alarms.extend(
            opaque
                .into_iter()
                .map(|(tenant, count)| self.opaque_alarm(tenant, count)),
        );
        alarms.extend(self.clock_alarm());
        self.alarms.set(alarms);
        self.routing.set_alarms(self.alarms.standing());
    }

    /// Clients' timestamps are judged by this clock: well before it is as wrong as what it refuses, people hear of it.
    fn clock_alarm(&self) -> Option<v1::Alarm> {
        let lead_ms = self.routing.clock_lead_ms()?;
        let message = clock_message(lead_ms, self.view.settings().drift_max)?;
        Some(v1::Alarm {
            node: self.me.0,
            tenant_id: String::new(),
            kind: CLOCK.to_owned(),
            message,
            since_ms: self.env.clock.wall().unix_millis(),
        })
    }

    fn opaque_alarm(&self, tenant: TenantId, count: u64) -> v1::Alarm {
        v1::Alarm {
            node: self.me.0,
            tenant_id: tenant.to_string(),
            kind: OPAQUE.to_owned(),
            message: format!(
                "changes kept and passed on without being understood: {count}; a newer release made them: upgrade this node"
            ),
            since_ms: self.env.clock.wall().unix_millis(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(kind: &str, tenant: &str, message: &str, since_ms: u64) -> v1::Alarm {
        v1::Alarm {
            node: 1,
            tenant_id: tenant.to_owned(),
            kind: kind.to_owned(),
            message: message.to_owned(),
            since_ms,
        }
    }

    #[test]
    fn a_clock_is_told_of_from_half_of_what_is_refused() {
        let minute = Duration::from_mins(1);
        assert_eq!(clock_message(29_999, minute), None);
        assert_eq!(clock_message(-29_999, minute), None);
        assert!(clock_message(30_000, minute).unwrap().contains("30 s ahead of"));
        assert!(clock_message(-61_000, minute).unwrap().contains("60 s behind"));
    }

    #[test]
    fn an_alarm_keeps_its_beginning_and_only_a_failed_disk_stops_work() {
        let alarms = Alarms::default();
        alarms.set(vec![
            alarm(OPAQUE, "t", "1 change", 10),
            alarm("fingerprint", "t", "differs", 11),
        ]);
        assert_eq!(alarms.against_work(), Vec::<String>::new());
        alarms.set(vec![
            alarm(OPAQUE, "t", "2 changes", 20),
            alarm(DISK, "", "no space left", 21),
        ]);
        let since: Vec<u64> = alarms.standing().iter().map(|alarm| alarm.since_ms).collect();
        assert_eq!(since, [10, 21]);
        assert_eq!(alarms.against_work(), ["disk: no space left"]);
    }
}
