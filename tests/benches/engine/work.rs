//! What both sides do, and how it is summed up.

use std::{collections::BTreeMap, fs, time::Duration};

use halcyon_tests::wait::Stopwatch;

/// Changes in a set of the row with large sets.
pub(crate) const SET_CHANGES: usize = 1_000;

/// From one entity to the next: a prime, so that each comes once.
const STRIDE: usize = 611_953;

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Row {
    /// Sets of [`SET_CHANGES`], until all triples are in.
    Batches,
    /// Sets of one change.
    Singles { writers: usize, window: Duration },
}

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Sqlite,
    Halcyon,
}

/// What one measurement found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    /// Changes a second, acknowledged after fsync.
    pub(crate) rate: f64,
    /// Bytes that went to the device for each byte of payload.
    pub(crate) written: f64,
    /// Bytes that the files take.
    pub(crate) on_disk: u64,
}

/// The fields of an entity.
pub(crate) const FIELDS: [&str; 10] = [
    "issue/title",
    "issue/state",
    "issue/created",
    "issue/modified",
    "issue/creator",
    "issue/assignee",
    "issue/text",
    "issue/visibility",
    "issue/project",
    "issue/rank",
];

/// Fields that come later.
const MORE_FIELDS: [&str; 8] = [
    "issue/estimate",
    "issue/due",
    "issue/closed",
    "issue/closer",
    "issue/milestone",
    "issue/votes",
    "issue/locked",
    "issue/colour",
];

/// One fact to write.
#[derive(Debug, Clone)]
pub(crate) struct Fact {
    pub(crate) subject: String,
    pub(crate) predicate: &'static str,
    pub(crate) value: String,
}

impl Fact {
    /// The facts of a set of the row with large sets.
    pub(crate) fn set(first: usize, triples: usize) -> impl Iterator<Item = Self> {
        (first..(first + SET_CHANGES).min(triples)).map(Self::nth)
    }

    /// A fact of a set of one: one more field of an entity that is there, the entities in turn and in no order.
    pub(crate) fn single(number: usize, triples: usize) -> Self {
        let entities = triples.div_ceil(FIELDS.len());
        let of = Self::nth(number * STRIDE % entities * FIELDS.len());
        Self {
            predicate: MORE_FIELDS[number / entities % MORE_FIELDS.len()],
            value: value_of(triples + number),
            ..of
        }
    }

    /// The facts of a seed: subjects in random order, ten fields each, 25 bytes of value.
    pub(crate) fn nth(at: usize) -> Self {
        let subject = mix(at / FIELDS.len());
        Self {
            subject: format!("{subject:021x}"),
            predicate: FIELDS[at % FIELDS.len()],
            value: value_of(at),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.subject.len() + self.predicate.len() + self.value.len()
    }
}

/// Scatters numbers: neither subjects nor values come in an order that an index would like.
const fn mix(number: usize) -> u64 {
    (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn value_of(at: usize) -> String {
    format!("{:016x} {:07x}", mix(at), at % (1 << 28))
}

/// Counts changes, bytes and time of one measurement.
#[derive(Debug)]
pub(crate) struct Meter {
    watch: Stopwatch,
    device_before: u64,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self {
            watch: Stopwatch::start(),
            device_before: device_bytes(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "figures are shown with a few digits")]
    pub(crate) fn stop(&self, changes: usize, directory: &std::path::Path) -> Found {
        let took = self.watch.elapsed().as_secs_f64();
        let payload: usize =
            (0..changes.min(1_000)).map(|at| Fact::nth(at).bytes()).sum::<usize>() * changes / changes.clamp(1, 1_000);
        Found {
            rate: changes as f64 / took,
            written: (device_bytes() - self.device_before) as f64 / payload as f64,
            on_disk: size_of_files(directory),
        }
    }
}

/// Bytes that this process made dirty and has to write to the device.
fn device_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

fn size_of_files(directory: &std::path::Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

/// All that was found.
#[derive(Debug, Default)]
pub(crate) struct Figures(BTreeMap<(Row, Side), Vec<Found>>);

impl Figures {
    pub(crate) fn add(&mut self, side: Side, found: Vec<(Row, Found)>) {
        for (row, found) in found {
            self.0.entry((row, side)).or_default().push(found);
        }
    }

    #[expect(clippy::print_stdout, reason = "a bench prints its figures")]
    pub(crate) fn print(&self) {
        println!("| medians | SQLite FULL | Halcyon | ratio |\n|---|---|---|---|");
        let rows: std::collections::BTreeSet<Row> = self.0.keys().map(|(row, _)| *row).collect();
        for row in rows {
            let name = match row {
                Row::Singles { writers, .. } => format!("sets of 1, {writers} writers, changes/s"),
                Row::Batches => format!("sets of {SET_CHANGES}, triples/s"),
            };
            self.line(&name, row, |found| found.rate);
            if matches!(row, Row::Batches) {
                self.line("  bytes to the device per byte of payload", row, |found| found.written);
                #[expect(clippy::cast_precision_loss, reason = "megabytes")]
                self.line("  megabytes on disk", row, |found| found.on_disk as f64 / 1e6);
            }
        }
    }

    #[expect(clippy::print_stdout, reason = "a bench prints its figures")]
    fn line(&self, name: &str, row: Row, of: fn(&Found) -> f64) {
        let [theirs, ours] = [Side::Sqlite, Side::Halcyon].map(|side| {
            let mut all: Vec<f64> = self.0.get(&(row, side)).into_iter().flatten().map(of).collect();
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or_default()
        });
        println!("| {name} | {theirs:.0} | {ours:.0} | {:.2} |", ours / theirs);
    }
}
