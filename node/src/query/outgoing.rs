//! Parts of an answer that wait for their reader, who may be slow, or never come back for them.
//!
//! The giver never waits. A reader that takes a part now and then gets them all; what waits for one that takes none for
//! long is let go, and the reader hears so if it comes after all.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use thiserror::Error;
use tokio::{sync::Notify, time::timeout};

/// What waited was let go: the reader took nothing for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("nothing of the answer was taken for {} s, and the rest was let go; ask again", .0.as_secs())]
pub struct Stalled(pub Duration);

/// It is of no use to give more: nobody takes it, or it is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unwanted;

/// Where parts are put in.
#[derive(Debug)]
pub struct Giver<T> {
    shared: Arc<Shared<T>>,
}

/// Where they are taken out.
#[derive(Debug)]
pub struct Taker<T> {
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    most: usize,
    /// Something was given, or nothing more will be.
    given: Notify,
    /// Something was taken, or nothing more will be.
    taken: Notify,
}

#[derive(Debug)]
struct State<T> {
    parts: VecDeque<T>,
    /// How many were taken.
    taken: u64,
    is_given: bool,
    is_gone: bool,
    stalled: Option<Stalled>,
}

/// Both ends, for so many parts that wait.
pub fn outgoing<T>(most: usize) -> (Giver<T>, Taker<T>) {
    let state = State {
        parts: VecDeque::new(),
        taken: 0,
        is_given: false,
        is_gone: false,
        stalled: None,
    };
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        most,
        given: Notify::new(),
        taken: Notify::new(),
    });
    let giver = Giver {
        shared: Arc::clone(&shared),
    };
    (giver, Taker { shared })
}

impl<T> Giver<T> {
    /// Puts a part behind the others.
    pub fn give(&self, part: T) -> Result<(), Unwanted> {
        let mut state = self.shared.state();
        if state.is_gone || state.parts.len() >= self.shared.most {
            return Err(Unwanted);
        }
        state.parts.push_back(part);
        self.shared.given.notify_one();
        Ok(())
    }

    /// Whether nobody takes anything any more.
    pub fn is_gone(&self) -> bool {
        self.shared.state().is_gone
    }

    /// All is given: waits until it is taken, as long as the reader takes a part within `patience`.
    pub async fn until_taken(self, patience: Duration) {
        self.shared.state().is_given = true;
        self.shared.given.notify_one();
        let mut seen = None;
        loop {
            {
                let mut state = self.shared.state();
                if state.is_gone || state.parts.is_empty() {
                    return;
                }
                if seen == Some(state.taken) {
                    state.parts = VecDeque::new();
                    state.stalled = Some(Stalled(patience));
                    self.shared.given.notify_one();
                    return;
                }
                seen = Some(state.taken);
            }
            let last = async {
                loop {
                    self.shared.taken.notified().await;
                    let state = self.shared.state();
                    if state.is_gone || state.parts.is_empty() {
                        return;
                    }
                }
            };
            if timeout(patience, last).await.is_ok() {
                return;
            }
        }
    }
}

impl<T> Taker<T> {
    /// The next part; none behind the last.
    pub async fn next(&mut self) -> Option<Result<T, Stalled>> {
        loop {
            {
                let mut state = self.shared.state();
                if let Some(part) = state.parts.pop_front() {
                    state.taken += 1;
                    self.shared.taken.notify_one();
                    return Some(Ok(part));
                }
                if let Some(stalled) = state.stalled.take() {
                    return Some(Err(stalled));
                }
                if state.is_given {
                    return None;
                }
            }
            self.shared.given.notified().await;
        }
    }
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        self.shared.state().is_given = true;
        self.shared.given.notify_one();
    }
}

impl<T> Drop for Taker<T> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.is_gone = true;
        state.parts = VecDeque::new();
        self.shared.taken.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);
    const A_LITTLE_LESS: Duration = Duration::from_secs(29);

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_gets_all_and_who_takes_nothing_for_long_loses_the_rest() {
        let (giver, mut taker) = outgoing(8);
        for part in 0..4 {
            giver.give(part).unwrap();
        }
        let waiting = tokio::spawn(giver.until_taken(PATIENCE));
        for part in 0..2 {
            tokio::time::sleep(A_LITTLE_LESS).await;
            assert_eq!(taker.next().await, Some(Ok(part)));
        }
        // Longer than it may last until two looks have found the same.
        tokio::time::sleep(PATIENCE * 2).await;
        waiting.await.unwrap();
        assert_eq!(taker.next().await, Some(Err(Stalled(PATIENCE))));
        assert_eq!(taker.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_is_waited_for_and_what_nobody_takes_is_not() {
        let (giver, mut taker) = outgoing(2);
        giver.give("a part").unwrap();
        giver.give("another").unwrap();
        assert_eq!(giver.give("one too many"), Err(Unwanted));
        let waiting = tokio::spawn(giver.until_taken(PATIENCE));
        assert_eq!(taker.next().await, Some(Ok("a part")));
        assert_eq!(taker.next().await, Some(Ok("another")));
        assert_eq!(taker.next().await, None);
        waiting.await.unwrap();

        let (giver, taker) = outgoing(2);
        giver.give(()).unwrap();
        drop(taker);
        assert!(giver.is_gone() && giver.give(()).is_err());
        giver.until_taken(PATIENCE).await;
    }
}
