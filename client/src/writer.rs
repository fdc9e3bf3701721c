//! The task that makes writes durable: whatever has arrived is one commit, and shares its fsync.

use std::sync::Arc;

use halcyon_core::change::Change;
use tokio::sync::{mpsc, oneshot};

use crate::{
    error::WriteError,
    limits::WRITES_WAITING_MAX,
    outbox::OutboxFile,
    session::Stored,
    shared::{Shared, Ticket},
};

/// What a write is answered with: its number, and who hears how it ends.
pub(crate) type Written = Result<(u64, Ticket), WriteError>;

/// A write that waits for the disk.
#[derive(Debug)]
pub(crate) struct WriteRequest {
    pub(crate) changes: Vec<Change>,
    pub(crate) reply: oneshot::Sender<Written>,
}

/// A write that is stamped.
struct Stamped {
    number: u64,
    reply: oneshot::Sender<Written>,
}

/// Commits writes until the client is closed.
pub(crate) async fn run(shared: Arc<Shared>, outbox: Arc<OutboxFile>, mut requests: mpsc::Receiver<WriteRequest>) {
    let mut batch = Vec::with_capacity(WRITES_WAITING_MAX);
    loop {
        tokio::select! {
            biased;
            () = shared.until_closed() => return,
            count = requests.recv_many(&mut batch, WRITES_WAITING_MAX) => if count == 0 { return },
        }
        commit(&shared, &outbox, std::mem::take(&mut batch)).await;
    }
}

async fn commit(shared: &Shared, outbox: &OutboxFile, batch: Vec<WriteRequest>) {
    let _stamping = shared.stamping.lock().await;
    let (stamped, sets) = stamp(shared, batch);
    let floor = shared.state().engine.floor();
    if let Err(error) = outbox.commit(&shared.env, &sets, floor).await {
        for write in stamped {
            let _ = write.reply.send(Err(error.clone().into()));
        }
        return;
    }
    let answers: Vec<_> = {
        let mut state = shared.state();
        sets.into_iter().map(|stored| state.accept(stored)).collect()
    };
    shared.work.notify_one();
    for (write, ticket) in stamped.into_iter().zip(answers) {
        let _ = write.reply.send(Ok((write.number, ticket)));
    }
}

/// Stamps in the order of arrival. What is too large is answered at once.
fn stamp(shared: &Shared, batch: Vec<WriteRequest>) -> (Vec<Stamped>, Vec<Stored>) {
    let moment = shared.moment();
    let mut state = shared.state();
    let mut stamped = Vec::with_capacity(batch.len());
    let mut sets = Vec::with_capacity(batch.len());
    for WriteRequest { changes, reply } in batch {
        match state.engine.stamp(changes, moment) {
            Ok((stored, number)) => {
                sets.push(stored);
                stamped.push(Stamped { number, reply });
            }
            Err(error) => {
                let _ = reply.send(Err(error.into()));
            }
        }
    }
    (stamped, sets)
}
