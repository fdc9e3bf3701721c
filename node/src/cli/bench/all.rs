//! Every measurement in sequence, and one table with their figures beside what they must reach.

use clap::{Args, Parser};

use super::{Figure, What, median, short};
use crate::cli::{failure::Failure, output};

/// The measurements, in the order of the table.
const NAMES: [&str; 7] = ["engine", "push", "control", "replicate", "catch-up", "join", "idle"];

/// See there.
#[derive(Debug, Args)]
pub struct AllArgs {}

/// A measurement with its defaults, as if it had been typed.
#[derive(Debug, Parser)]
struct Typed {
    #[command(subcommand)]
    what: What,
}

/// On which side of its limit a figure must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Must {
    AtLeast(u32),
    AtMost(u32),
}

/// What the figures of this name must reach.
const TARGETS: [(&str, Must); 15] = [
    ("one node's storage, sets of 1, 1 writer", Must::AtLeast(3_375)),
    ("one node's storage, sets of 1, 64 writers", Must::AtLeast(22_500)),
    (
        "one node's storage, 1,000,000 triples in sets of 1,000",
        Must::AtLeast(80_000),
    ),
    ("bytes to the device per byte of payload", Must::AtMost(40)),
    ("3 nodes, sets of 1, 1 client", Must::AtLeast(920)),
    ("3 nodes, sets of 1, 64 clients", Must::AtLeast(11_700)),
    ("3 nodes, sets of 1000, 4 clients", Must::AtLeast(40_000)),
    ("control-plane writes, 1 client", Must::AtLeast(460)),
    ("control-plane writes, 64 clients", Must::AtLeast(3_900)),
    ("acknowledged on A to readable on B, p50", Must::AtMost(2)),
    ("acknowledged on A to readable on B, p99", Must::AtMost(10)),
    ("a node returns after 100,000 single-change sets", Must::AtMost(4)),
    (
        "an empty node joins 1,000,000 triples: placed to serving",
        Must::AtMost(20),
    ),
    (
        "resident memory of a node with 1,000,000 triples, written to",
        Must::AtMost(250),
    ),
    ("disk of the node that was written to", Must::AtMost(250)),
];

impl Must {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(limit) => value >= f64::from(limit),
            Self::AtMost(limit) => value <= f64::from(limit),
        }
    }

    fn words(self) -> String {
        match self {
            Self::AtLeast(limit) => format!("at least {}", output::count(limit.into())),
            Self::AtMost(limit) => format!("at most {}", output::count(limit.into())),
        }
    }
}

/// All measurements with their defaults.
pub(super) fn each() -> Result<Vec<What>, Failure> {
    let typed = |name| {
        Typed::try_parse_from(["bench", name])
            .map(|typed| typed.what)
            .map_err(Failure::failed)
    };
    NAMES.into_iter().map(typed).collect()
}

/// A row for a page in Markdown: figure, its noise, what it must reach, whether it does.
pub(super) fn row(figure: &Figure, values: &[f64]) -> String {
    let median = median(values);
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let must = TARGETS
        .iter()
        .find(|(name, _)| *name == figure.name)
        .map(|(_, must)| *must);
    let (words, met) = match must {
        Some(must) => (must.words(), if must.is_met(median) { "yes" } else { "no" }),
        None => ("-".to_owned(), "-"),
    };
    let (name, unit) = (&figure.name, figure.unit);
    format!(
        "| {name} | {} {unit} | {}-{} | {words} | {met} |",
        short(median),
        short(low),
        short(high)
    )
}

/// The lines above the rows.
pub(super) const HEAD: &str = "| measured | median | min-max | must reach | met |\n|---|---|---|---|---|";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measurement_has_defaults() {
        assert_eq!(each().unwrap().len(), NAMES.len());
    }

    #[test]
    fn a_row_says_whether_the_median_reaches_its_target() {
        fn check(value: f64, met: &str) {
            let figure = Figure::new("control-plane writes, 1 client", value, "writes/s");
            assert!(row(&figure, &[value]).ends_with(met));
        }
        check(500.0, "| at least 460 | yes |");
        check(400.0, "| at least 460 | no |");
        let other = Figure::new("payload", 1.0, "MB");
        assert!(row(&other, &[1.0, 2.0]).ends_with("| 1.50 MB | 1.00-2.00 | - | - |"));
    }
}
