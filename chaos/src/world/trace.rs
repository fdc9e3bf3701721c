//! Everything that happens, as a running hash, and what people and oracles want to hear of it, as text.
//!
//! Two kinds of events: bytes (sent, received, written; only their hash is kept) and told ones (a probe, a fault, a
//! check), kept with their text for the timeline. Both move the hash, with the simulated nanosecond.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io::{self, BufWriter, Write},
    mem,
};

use xxhash_rust::xxh3::xxh3_64;

use super::{clock::now, machine::Machine};

/// Told events that are kept: a run of ten minutes has a tenth of it. More move the hash and are forgotten.
const TOLD_MAX: usize = 2_000_000;

/// Bytes of an event's text that are kept: of a set its tag and its beginning. Oracles hear all of it, and so does a file.
const DETAIL_BYTES_MAX: usize = 1_000;

/// An event with its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Simulated nanoseconds since the beginning.
    pub at: u64,
    /// Where.
    pub machine: Machine,
    /// What kind: `metadata.apply`, `fault`, …
    pub kind: &'static str,
    /// In words.
    pub detail: String,
}

/// What a run leaves.
#[derive(Debug, Default)]
pub struct Trace {
    /// Of all events.
    pub hash: u64,
    /// How many there were.
    pub count: u64,
    /// How many of each kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Those with text, in order.
    pub told: Vec<Told>,
}

#[derive(Default)]
struct Recorder {
    trace: Trace,
    file: Option<BufWriter<File>>,
}

thread_local! {
    static RECORDER: RefCell<Recorder> = RefCell::default();
}

/// Writes every event to a file as well, a line each: the first line in which two runs differ is where they parted.
pub fn write_to(path: &std::path::Path) -> io::Result<()> {
    let file = BufWriter::new(File::create(path)?);
    RECORDER.with_borrow_mut(|recorder| recorder.file = Some(file));
    Ok(())
}

/// Bytes were sent, received or written: `at` says where (a peer, an offset).
pub fn bytes(host: Machine, kind: &'static str, at: u64, bytes: &[u8]) {
    record(host, kind, [at, bytes.len() as u64, xxh3_64(bytes)]);
}

/// Something happened that has no bytes.
pub fn mark(host: Machine, kind: &'static str, value: u64) {
    record(host, kind, [value, 0, 0]);
}

/// Something happened that a person may read.
pub fn tell(host: Machine, kind: &'static str, mut detail: String) {
    record(host, kind, [0, detail.len() as u64, xxh3_64(detail.as_bytes())]);
    tracing::debug!(at_ms = now() / 1_000_000, %host, kind, "{detail}");
    RECORDER.with_borrow_mut(|recorder| {
        if let Some(file) = &mut recorder.file {
            let _ = writeln!(file, "  {detail}");
        }
        if recorder.trace.told.len() < TOLD_MAX {
            let at = now();
            detail.truncate(detail.floor_char_boundary(DETAIL_BYTES_MAX));
            detail.shrink_to_fit();
            recorder.trace.told.push(Told {
                at,
                machine: host,
                kind,
                detail,
            });
        }
    });
}

/// Ends the trace and hands it over.
pub fn finish() -> Trace {
    RECORDER.with_borrow_mut(|recorder| {
        if let Some(file) = &mut recorder.file {
            let _ = file.flush();
        }
        mem::take(recorder).trace
    })
}

fn record(host: Machine, kind: &'static str, values: [u64; 3]) {
    let now = now();
    RECORDER.with_borrow_mut(|recorder| {
        let trace = &mut recorder.trace;
        let mut hash = trace.hash;
        for value in [now, host.code(), xxh3_64(kind.as_bytes())].into_iter().chain(values) {
            hash = (hash.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
        trace.hash = hash;
        trace.count += 1;
        *trace.kinds.entry(kind).or_default() += 1;
        if let Some(file) = &mut recorder.file {
            let mut line = String::new();
            let [a, b, c] = values;
            let _ = write!(line, "{} {now} {host} {kind} {a} {b} {c:016x} {hash:016x}", trace.count);
            let _ = writeln!(file, "{line}");
        }
    });
}
