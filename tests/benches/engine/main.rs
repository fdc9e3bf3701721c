//! The storage engine beside `SQLite`, in turns in one run: acknowledged after fsync, no network.
//!
//! `cargo bench -p halcyon-tests --bench engine`. Each round fills a new store on one side, then on the other, and
//! measures single changes on what is there then: a store in use is not empty, and what a change costs in an index grows
//! with it. Medians and their ratio are printed. `HALCYON_ROUNDS` (5) and `HALCYON_TRIPLES` (1,000,000) make it shorter.

mod halcyon;
mod sqlite;
mod work;

use std::time::Duration;

use work::{Figures, Row, Side};

/// The node's allocator, as the binary has it. `SQLite` has its own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long a window of single changes lasts.
const WINDOW: Duration = Duration::from_secs(2);

fn main() {
    // `cargo test --benches` only asks whether it runs.
    let is_test = std::env::args().any(|argument| argument == "--test");
    let rounds = if is_test { 1 } else { number("HALCYON_ROUNDS", 5) };
    let triples = if is_test {
        10_000
    } else {
        number("HALCYON_TRIPLES", 1_000_000)
    };
    let window = if is_test { WINDOW / 20 } else { WINDOW };
    let rows = [
        Row::Batches,
        Row::Singles { writers: 1, window },
        Row::Singles { writers: 64, window },
    ];
    let mut figures = Figures::default();
    for _ in 0..rounds {
        figures.add(Side::Sqlite, sqlite::measure(&rows, triples));
        figures.add(Side::Halcyon, halcyon::measure(&rows, triples));
    }
    figures.print();
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}
