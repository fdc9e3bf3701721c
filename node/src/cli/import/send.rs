//! The sending half of an import: change sets of bounded size, several on their way, and a journal of what is durable.

use std::{collections::VecDeque, time::Duration};

use halcyon_client::{Client, Pending};
use halcyon_core::change::Change;

use super::{Plan, changes_bytes, journal::Journal, row_changes, rows};
use crate::cli::{
    connect,
    failure::Failure,
    output::{self, Progress},
};

/// Changes in one set: enough that the cost of a set does not count, few enough to merge in a few milliseconds.
const SET_CHANGES: usize = 1_000;

/// Bytes of one set.
const SET_BYTES: usize = 512 << 10;

/// Sets on their way at a time. Hides the round trip to another continent.
const SETS_IN_FLIGHT: usize = 16;

/// Time between two entries in the journal.
const JOURNAL_EVERY: Duration = Duration::from_millis(500);

/// Lines of superseded changes that are named.
const LINES_SHOWN: usize = 5;

/// What was sent.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Rows, without bad ones.
    pub rows: u64,
    /// Changes that carry a value.
    pub changes: u64,
    /// Change sets.
    pub sets: u64,
    /// Changes that lost to a deletion or to an entity that does not exist.
    pub superseded: u64,
    /// Changes that had lost to later writes already.
    pub overwritten: u64,
    /// Where the first of them come from.
    pub superseded_lines: Vec<u64>,
    /// Time it took.
    pub took: Duration,
}

/// Rows gathered for one set.
#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    /// The line each change comes from.
    lines: Vec<u64>,
    bytes: usize,
    /// Rows of the file that are behind this batch once it is durable.
    rows_end: u64,
}

/// A batch on its way.
struct Flying {
    pending: Pending,
    lines: Vec<u64>,
    rows_end: u64,
}

struct Sender<'a> {
    client: &'a Client,
    journal: &'a mut Journal,
    patience: Duration,
    flying: VecDeque<Flying>,
    sent: Sent,
    progress: Progress,
    journaled: Duration,
}

/// Sends what the journal does not know as durable.
/// `patience`: how long to wait for the acknowledgement of one set.
pub async fn send(plan: &Plan, client: &Client, journal: &mut Journal, patience: Duration) -> Result<Sent, Failure> {
    let started = connect::clock().monotonic();
    let mut sender = Sender {
        client,
        journal,
        patience,
        flying: VecDeque::new(),
        sent: Sent::default(),
        progress: Progress::new("importing", "rows", plan.rows),
        journaled: started,
    };
    let outcome = tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Err(Failure::interrupted("interrupted")),
        outcome = sender.run(plan) => outcome,
    };
    sender.progress.done();
    if let Err(failure) = outcome {
        let rows = output::plural(sender.journal.rows_durable(), "row is", "rows are");
        // With `region` acknowledgement more may be durable in one region.
        return Err(Failure {
            message: format!("{}; {rows} acknowledged", failure.message),
            advice: Some(match &failure.advice {
                Some(advice) => format!("{advice}. Then run the same command again to go on"),
                None => "run the same command again to go on".into(),
            }),
            ..failure
        });
    }
    sender.sent.took = connect::clock().monotonic().saturating_sub(started);
    Ok(sender.sent)
}

impl Sender<'_> {
    async fn run(&mut self, plan: &Plan) -> Result<(), Failure> {
        let skip = self.journal.rows_durable();
        let rows = rows::open(&plan.path, plan.format).map_err(super::file_failure)?;
        let mut batch = Batch::default();
        for (row, at) in rows.zip(0..) {
            if at < skip {
                continue;
            }
            batch.rows_end = at + 1;
            // Bad rows were reported before; here they are left out.
            let Ok((line, mut changes)) = row_changes(plan, at, row) else {
                continue;
            };
            let bytes = changes_bytes(&changes);
            if !batch.changes.is_empty()
                && (batch.changes.len() + changes.len() > SET_CHANGES || batch.bytes + bytes > SET_BYTES)
            {
                let rows_end = at;
                let full = std::mem::take(&mut batch);
                self.launch(Batch { rows_end, ..full }).await?;
            }
            self.sent.rows += 1;
            self.sent.changes += changes.iter().filter(|change| change.value().is_some()).count() as u64;
            batch.lines.extend(std::iter::repeat_n(line, changes.len()));
            batch.changes.append(&mut changes);
            batch.bytes += bytes;
            batch.rows_end = at + 1;
        }
        if !batch.changes.is_empty() {
            self.launch(batch).await?;
        }
        while !self.flying.is_empty() {
            self.land().await?;
        }
        Ok(())
    }

    async fn launch(&mut self, batch: Batch) -> Result<(), Failure> {
        if self.flying.len() >= SETS_IN_FLIGHT {
            self.land().await?;
        }
        let pending = self.client.write(batch.changes).await.map_err(connect::write_failure)?;
        self.sent.sets += 1;
        self.flying.push_back(Flying {
            pending,
            lines: batch.lines,
            rows_end: batch.rows_end,
        });
        Ok(())
    }

    /// Waits for the oldest set. Sets are taken in order, so all rows before its end are durable then.
    async fn land(&mut self) -> Result<(), Failure> {
        let Some(mut flying) = self.flying.pop_front() else {
            return Ok(());
        };
        let taken = connect::acknowledged(&mut flying.pending, self.patience).await?;
        self.sent.superseded += taken.superseded.len() as u64;
        self.sent.overwritten += taken.overwritten.len() as u64;
        for place in taken.superseded {
            let line = usize::try_from(place).ok().and_then(|place| flying.lines.get(place));
            if let Some(&line) = line
                && self.sent.superseded_lines.len() < LINES_SHOWN
                && self.sent.superseded_lines.last() != Some(&line)
            {
                self.sent.superseded_lines.push(line);
            }
        }
        self.progress.at(flying.rows_end);
        let now = connect::clock().monotonic();
        if now.saturating_sub(self.journaled) >= JOURNAL_EVERY {
            self.journaled = now;
            if let Err(error) = self.journal.advance(flying.rows_end) {
                self.progress.note(&format!(
                    "the import's journal cannot be written ({error}); it goes on without"
                ));
            }
        }
        Ok(())
    }
}
