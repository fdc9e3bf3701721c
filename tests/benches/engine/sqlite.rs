//! `SQLite` with the customer's schema: WAL and `synchronous=FULL`, so that a commit is on the disk when it returns.
//!
//! It has one writer at a time: many writers share one connection behind a lock, a transaction for each change set.

use std::{
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use halcyon_tests::wait::Stopwatch;
use rusqlite::{Connection, params};

use super::work::{Fact, Found, Meter, Row, SET_CHANGES};

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE triples (
        subject TEXT NOT NULL, predicate TEXT NOT NULL, object TEXT NOT NULL, type INTEGER NOT NULL,
        timestamp INTEGER NOT NULL
    );
    CREATE UNIQUE INDEX spo ON triples (subject, predicate, object);
    CREATE INDEX pos ON triples (predicate, object, subject);
";

const INSERT: &str = "INSERT OR REPLACE INTO triples VALUES (?1, ?2, ?3, 0, ?4)";

/// Measures the rows, one after the other, in one store.
pub(crate) fn measure(rows: &[Row], triples: usize) -> Vec<(Row, Found)> {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let load = Load {
        shared: Mutex::new(open(directory.path())),
        triples,
        next: AtomicUsize::new(0),
    };
    let measure = |&row| {
        let meter = Meter::start();
        let written = match row {
            Row::Batches => load.batches(),
            Row::Singles { writers, window } => load.singles(writers, window),
        };
        (row, meter.stop(written, directory.path()))
    };
    rows.iter().map(measure).collect()
}

/// What writes to one store.
struct Load {
    shared: Mutex<Connection>,
    triples: usize,
    /// The next set of one.
    next: AtomicUsize,
}

impl Load {
    fn batches(&self) -> usize {
        for first in (0..self.triples).step_by(SET_CHANGES) {
            let facts: Vec<Fact> = Fact::set(first, self.triples).collect();
            write(&self.shared, &facts);
        }
        // What is still to be moved into the table counts here, and not in the row that comes next.
        let connection = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let moved = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
        moved.expect("the disk takes it");
        self.triples
    }

    fn singles(&self, writers: usize, window: Duration) -> usize {
        let before = self.next.load(Ordering::Relaxed);
        let watch = Stopwatch::start();
        std::thread::scope(|scope| {
            for _ in 0..writers {
                scope.spawn(|| {
                    while watch.elapsed() < window {
                        let number = self.next.fetch_add(1, Ordering::Relaxed);
                        write(&self.shared, &[Fact::single(number, self.triples)]);
                    }
                });
            }
        });
        self.next.load(Ordering::Relaxed) - before
    }
}

fn open(directory: &Path) -> Connection {
    let connection = Connection::open(directory.join("triples.sqlite")).expect("SQLite opens a new file");
    connection.execute_batch(SCHEMA).expect("the schema is SQL");
    connection
}

fn write(shared: &Mutex<Connection>, facts: &[Fact]) {
    let mut connection = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let transaction = connection.transaction().expect("nobody else has the file");
    {
        let mut insert = transaction.prepare_cached(INSERT).expect("the statement is SQL");
        for (at, fact) in facts.iter().enumerate() {
            let row = params![fact.subject, fact.predicate, fact.value, i64::try_from(at).unwrap_or(0)];
            insert.execute(row).expect("the disk takes it");
        }
    }
    transaction.commit().expect("the disk takes it");
}
