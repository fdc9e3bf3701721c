//! Events on their way to sessions: what many hear alike is made and kept once.

use std::{collections::BTreeMap, rc::Rc, sync::Arc};

use halcyon_proto::v1;
use prost::bytes::Bytes;

use crate::session::{Event, Gone, Session, Wake};

/// What a subscription is to hear.
#[derive(Debug)]
pub(super) struct Telling {
    /// The session's number for it.
    pub(super) number: u32,
    pub(super) more: bool,
    pub(super) stale: bool,
    /// Of its delta, which all who follow the plan share; at least one.
    pub(super) parts: Rc<[Bytes]>,
}

/// Events on their way to sessions.
#[derive(Debug, Default)]
pub(super) struct Sending {
    pub(super) wakes: Vec<Wake>,
    /// What sessions hear that have but one thing to hear: most hear the same.
    alike: BTreeMap<(usize, u32, bool, bool), Arc<Event>>,
}

impl Sending {
    /// The event with the last parts of all.
    pub(super) fn alike(&mut self, vector: &Bytes, tellings: &[Telling]) -> Arc<Event> {
        let event = || commit(vector, tellings, |telling| telling.parts.len() - 1);
        let key = match tellings {
            [] => (0, 0, false, false),
            // The address says which plan's they are.
            [one] => (Rc::as_ptr(&one.parts).addr(), one.number, one.more, one.stale),
            _ => return event(),
        };
        Arc::clone(self.alike.entry(key).or_insert_with(event))
    }

    pub(super) fn put(&mut self, session: &Session, event: Arc<Event>) -> Result<(), Gone> {
        self.wakes.push(session.put(event)?);
        Ok(())
    }
}

pub(super) fn commit(vector: &Bytes, tellings: &[Telling], part: impl Fn(&Telling) -> usize) -> Arc<Event> {
    let deltas = tellings.iter().map(|telling| {
        let part = part(telling);
        v1::SubscriptionDelta {
            subscription: telling.number,
            delta: telling.parts[part].clone(),
            more: telling.more || part + 1 < telling.parts.len(),
            stale: telling.stale,
        }
    });
    Arc::new(Event::Commit(v1::Commit {
        vector: vector.clone(),
        deltas: deltas.collect(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn telling(number: u32, (more, stale): (bool, bool), parts: &Rc<[Bytes]>) -> Telling {
        Telling {
            number,
            more,
            stale,
            parts: Rc::clone(parts),
        }
    }

    #[test]
    fn what_two_sessions_hear_is_one_event_only_if_it_is_the_same() {
        let ours: Rc<[Bytes]> = vec![Bytes::from_static(b"first"), Bytes::from_static(b"last")].into();
        let theirs: Rc<[Bytes]> = vec![Bytes::from_static(b"other")].into();
        let plain = (false, false);
        //     one             the other                                  one event
        check((7, plain, &ours), (7, plain, &ours), true);
        check((7, plain, &ours), (8, plain, &ours), false);
        check((7, plain, &ours), (7, (true, false), &ours), false);
        check((7, plain, &ours), (7, (false, true), &ours), false);
        check((7, plain, &ours), (7, plain, &theirs), false);
    }

    type One<'a> = (u32, (bool, bool), &'a Rc<[Bytes]>);

    #[track_caller]
    fn check(one: One<'_>, other: One<'_>, is_same: bool) {
        let (vector, mut sending) = (Bytes::from_static(b"vector"), Sending::default());
        let mut told = |(number, flags, parts): One<'_>| {
            let event = sending.alike(&vector, &[telling(number, flags, parts)]);
            let delta = v1::SubscriptionDelta {
                subscription: number,
                delta: parts[parts.len() - 1].clone(),
                more: flags.0,
                stale: flags.1,
            };
            let (vector, deltas) = (vector.clone(), vec![delta]);
            assert_eq!(*event, Event::Commit(v1::Commit { vector, deltas }));
            event
        };
        assert_eq!(Arc::ptr_eq(&told(one), &told(other)), is_same);
    }
}
