//! The stream of what happens in a session's rooms. It takes from the engine when its reader is ready for more, so a
//! slow reader is told only the latest.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{Stream, task::AtomicWaker};
use halcyon_proto::v1;
use tokio::time::{Sleep, sleep};

use super::{engine::Haste, limits::PRESENCE_REST, lobby::Shared, types::SessionId, wire};

/// See the module. Ends when the session is over or has a newer stream; dropped, the session has none.
pub struct RoomEvents {
    shared: Arc<Shared>,
    session: SessionId,
    stream: u64,
    waker: Arc<AtomicWaker>,
    rest: Rest,
}

/// The pause after presences were told. It holds up only further ones.
pub(super) struct Rest(Option<Pin<Box<Sleep>>>);

impl Rest {
    pub(super) const fn over() -> Self {
        Self(None)
    }

    pub(super) fn begin(&mut self) {
        self.0 = Some(Box::pin(sleep(PRESENCE_REST)));
    }

    pub(super) const fn haste(&self) -> Haste {
        match self.0 {
            Some(_) => Haste::Urgent,
            None => Haste::All,
        }
    }

    /// Ready when a pause is over. Pending when none is, too: the one who waits has another waker.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let is_over = self
            .0
            .as_mut()
            .is_some_and(|rest| rest.as_mut().poll(context).is_ready());
        if !is_over {
            return Poll::Pending;
        }
        self.0 = None;
        Poll::Ready(())
    }
}

impl std::fmt::Debug for RoomEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoomEvents")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl RoomEvents {
    pub(super) fn new(shared: Arc<Shared>, (session, stream): (SessionId, u64), waker: Arc<AtomicWaker>) -> Self {
        Self {
            shared,
            session,
            stream,
            waker,
            rest: Rest::over(),
        }
    }
}

impl Stream for RoomEvents {
    type Item = v1::RoomEvent;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<v1::RoomEvent>> {
        let this = self.get_mut();
        this.waker.register(context.waker());
        loop {
            if !this.shared.is_attached(this.session, this.stream) {
                return Poll::Ready(None);
            }
            let (session, haste) = (this.session, this.rest.haste());
            if let Some((room, update)) = this.shared.with(|engine| engine.take(session, haste)) {
                if update.has_presence() {
                    this.rest.begin();
                }
                return Poll::Ready(Some(wire::event(&room, update)));
            }
            if this.rest.poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for RoomEvents {
    fn drop(&mut self) {
        self.shared.detach(self.session, self.stream);
    }
}
