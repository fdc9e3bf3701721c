//! What a run measured for each fault: lost time, lag and recovery.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{links::region_of, oracles::Evidence, strike::Happened};

/// A distribution of lags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Lag {
    /// How many.
    pub(super) count: usize,
    /// The middle one.
    pub(super) p50: Duration,
    /// One in a hundred is longer.
    pub(super) p99: Duration,
    /// The longest.
    pub(super) max: Duration,
}

/// One fault's figures.
#[derive(Debug, Clone)]
pub(super) struct Figures {
    /// See there.
    pub(super) fault: Happened,
    /// From the start of the load.
    pub(super) at: Duration,
    /// From strike to mending.
    pub(super) lasted: Duration,
    /// For each place: the longest stretch without an acknowledged write while it lasted, and until all had caught up.
    pub(super) stretches: BTreeMap<String, Duration>,
    /// Of what was acknowledged while it lasted.
    pub(super) during: Lag,
    /// Of what was acknowledged after, until the next fault.
    pub(super) after: Lag,
    /// From the mending until all that had been acknowledged by then was readable in every region.
    pub(super) caught_up: Option<Duration>,
}

/// The tenant that is everywhere: what lag and recovery are measured on.
pub(super) const MEASURED: &str = super::EVERYWHERE;

/// What is acknowledged this short before the first fault may still be on its way when it strikes.
const ON_ITS_WAY: Duration = Duration::from_millis(500);

/// Figures of every fault, and the lag before the first.
pub(super) fn measure(evidence: &Evidence) -> (Lag, Vec<Figures>) {
    let (began, stopped) = evidence.load;
    let first = evidence.faults.first().map_or(stopped, |fault| fault.began);
    let before = lag(evidence, began, first.saturating_sub(ON_ITS_WAY), first);
    let mut figures = Vec::new();
    for (at, fault) in evidence.faults.iter().enumerate() {
        let next = evidence.faults.get(at + 1).map_or(stopped, |next| next.began);
        let caught_up = caught_up(evidence, fault.healed);
        let until = fault.healed + caught_up.unwrap_or_default();
        figures.push(Figures {
            fault: fault.clone(),
            at: fault.began.saturating_sub(began),
            lasted: fault.healed.saturating_sub(fault.began),
            stretches: stretches(evidence, fault.began, until.min(stopped.max(fault.healed))),
            during: lag(evidence, fault.began, fault.healed, fault.began),
            after: lag(evidence, fault.healed, next, next),
            caught_up,
        });
    }
    (before, figures)
}

/// Only of places whose clients wrote all the time: what a new node takes at the end is no load.
fn stretches(evidence: &Evidence, from: Duration, to: Duration) -> BTreeMap<String, Duration> {
    let (ledger, (_, stopped)) = (&evidence.ledger, evidence.load);
    let load = ledger.written.iter().filter(|written| written.at < stopped);
    let mut places: Vec<usize> = load.map(|written| written.place).collect();
    places.sort_unstable();
    places.dedup();
    let stretch = |place: usize| {
        let name = format!("n{} {}", place + 1, region_of(place));
        (name, ledger.stretch(place, from, to).0)
    };
    places.into_iter().map(stretch).collect()
}

/// How long what was acknowledged within `[from, to)` took until it was readable at each other member that was there
/// at `by`: what a node hears that joins later is no lag.
fn lag(evidence: &Evidence, from: Duration, to: Duration, by: Duration) -> Lag {
    let mut lags = Vec::new();
    let heard_by = evidence.ledger.seen.iter().filter(|(_, at)| **at <= by);
    let there: BTreeSet<usize> = heard_by.map(|((place, _), _)| *place).collect();
    for (written, told) in evidence.ledger.lasting(MEASURED) {
        if !(from..to).contains(&told.at) {
            continue;
        }
        for place in evidence
            .members
            .keys()
            .filter(|place| **place != written.place && there.contains(place))
        {
            let seen = evidence.ledger.seen.get(&(*place, written.marker.clone()));
            lags.extend(seen.map(|seen| seen.saturating_sub(told.at)));
        }
    }
    Lag::of(lags)
}

fn caught_up(evidence: &Evidence, healed: Duration) -> Option<Duration> {
    let mut latest = healed;
    for (written, told) in evidence.ledger.lasting(MEASURED) {
        if told.at > healed {
            continue;
        }
        for place in evidence.members.keys() {
            let seen = evidence.ledger.seen.get(&(*place, written.marker.clone()))?;
            latest = latest.max(*seen);
        }
    }
    Some(latest.saturating_sub(healed))
}

impl Lag {
    fn of(mut lags: Vec<Duration>) -> Self {
        lags.sort_unstable();
        let Some(last) = lags.len().checked_sub(1) else {
            return Self::default();
        };
        Self {
            count: lags.len(),
            p50: lags[last * 50 / 100],
            p99: lags[last * 99 / 100],
            max: lags[last],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::{
        ledger::{Kind, tests::written},
        scenario,
    };

    #[test]
    fn lag_and_recovery_follow_from_what_was_seen_when() {
        let ms = Duration::from_millis;
        let mut evidence = Evidence {
            load: (ms(0), ms(3_000)),
            members: BTreeMap::from([(0, 1), (1, 2)]),
            ..Evidence::default()
        };
        for (marker, at, seen) in [("a", 100, 150), ("b", 1_500, 2_300), ("c", 2_400, 2_420)] {
            evidence.ledger.written.push(written(Kind::Create, marker, marker, at));
            for (place, seen) in [(0, at + 10), (1, seen)] {
                evidence.ledger.seen.insert((place, marker.to_owned()), ms(seen));
            }
        }
        evidence.faults.push(Happened {
            kind: scenario::Kind::Partition,
            node: 1,
            what: String::new(),
            began: ms(1_400),
            healed: ms(2_000),
            helped: None,
        });
        let (before, figures) = measure(&evidence);
        assert_eq!((before.count, before.max), (1, ms(40)));
        assert_eq!((figures[0].during.count, figures[0].during.p50), (1, ms(790)));
        assert_eq!((figures[0].after.count, figures[0].after.max), (1, ms(10)));
        assert_eq!(figures[0].caught_up, Some(ms(300)));
        assert_eq!(figures[0].stretches["n1 eu-de"], ms(790));
        evidence.ledger.seen.remove(&(1, "b".to_owned()));
        assert_eq!(measure(&evidence).1[0].caught_up, None);
    }
}
