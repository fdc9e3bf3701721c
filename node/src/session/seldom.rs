//! What a stream waits for besides its events, and seldom hears of.
//!
//! A stream that takes an event looks at everything it waits for, again and again. What takes a lock that all streams
//! share is looked at only when it has asked for that.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::task::AtomicWaker;

/// Something that is polled only when it has woken its stream since it was pending.
#[derive(Debug)]
pub struct Seldom<T> {
    inner: T,
    bell: Arc<Bell>,
}

#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    stream: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.stream.wake();
    }
}

impl<T> Seldom<T> {
    /// Polled at the first opportunity.
    pub fn new(inner: T) -> Self {
        let bell = Bell {
            rung: AtomicBool::new(true),
            stream: AtomicWaker::new(),
        };
        Self {
            inner,
            bell: Arc::new(bell),
        }
    }

    /// Polls it, unless it has nothing to say.
    pub fn poll<R>(
        &mut self,
        context: &mut Context<'_>,
        ask: impl FnOnce(&mut T, &mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        // First, so that no ring is missed.
        self.bell.stream.register(context.waker());
        if !self.bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let waker = Waker::from(Arc::clone(&self.bell));
        let answer = ask(&mut self.inner, &mut Context::from_waker(&waker));
        if answer.is_ready() {
            // It may have more to say.
            self.bell.rung.store(true, Ordering::Release);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use futures::{
        StreamExt,
        channel::mpsc,
        future::{join, poll_fn},
    };

    use super::*;

    #[tokio::test]
    async fn it_is_polled_when_it_has_something_to_say_and_not_otherwise() {
        let (mut tell, hear) = mpsc::channel(8);
        let mut seldom = Seldom::new((hear, 0));
        let mut next = async |expected: Option<u8>| {
            let mut looks = 0;
            let heard = poll_fn(|context| {
                // As a stream does that is woken for other reasons.
                if looks < 3 {
                    looks += 1;
                    context.waker().wake_by_ref();
                }
                seldom.poll(context, |(hear, polls), context| {
                    *polls += 1;
                    hear.poll_next_unpin(context)
                })
            });
            assert_eq!(heard.await, expected);
            seldom.inner.1
        };
        tell.try_send(1).unwrap();
        tell.try_send(2).unwrap();
        assert_eq!(next(Some(1)).await, 1);
        assert_eq!(next(Some(2)).await, 2);
        let late = async {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            tell.try_send(3).unwrap();
        };
        // Once to find nothing, once to find it: however often the stream looks.
        assert_eq!(join(next(Some(3)), late).await.0, 4);
    }
}
