//! `SQLite` with the customer's schema: WAL and `synchronous=FULL`, so that a commit is on the disk when it returns.
//!
//! It has one writer at a time: many writers share one connection behind a lock, a transaction for each change set.

use std::{
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

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

/// Measures a row.
pub(crate) fn measure(row: Row) -> Found {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let connection = open(directory.path());
    match row {
        Row::Batches { triples } => {
            let mut connection = connection;
            let meter = Meter::start();
            for first in (0..triples).step_by(SET_CHANGES) {
                let facts: Vec<Fact> = (first..(first + SET_CHANGES).min(triples)).map(Fact::nth).collect();
                write(&mut connection, &facts);
            }
            meter.stop(triples, directory.path())
        }
        Row::Singles { writers, window } => {
            let (shared, next) = (Mutex::new(connection), AtomicUsize::new(0));
            let meter = Meter::start();
            std::thread::scope(|scope| {
                for _ in 0..writers {
                    scope.spawn(|| {
                        while meter.elapsed() < window {
                            let fact = Fact::nth(next.fetch_add(1, Ordering::Relaxed) * 10);
                            let mut connection = shared.lock().unwrap_or_else(PoisonError::into_inner);
                            write(&mut connection, &[fact]);
                        }
                    });
                }
            });
            meter.stop(next.into_inner(), directory.path())
        }
    }
}

fn open(directory: &Path) -> Connection {
    let connection = Connection::open(directory.join("triples.sqlite")).expect("SQLite opens a new file");
    connection.execute_batch(SCHEMA).expect("the schema is SQL");
    connection
}

fn write(connection: &mut Connection, facts: &[Fact]) {
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
