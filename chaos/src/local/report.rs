//! The report of a run: a table for people, JSON for programs, and files as evidence.

use std::{io, path::Path, time::Duration};

use clap::ValueEnum as _;
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::{
    figures::{Figures, Lag},
    ledger::Ledger,
    limits::SHOWN_MAX,
    oracles::{Evidence, Violation},
    scenario::{CLOCK_NOTE, Scenario},
};

/// All that is told at the end.
#[derive(Debug)]
pub(super) struct Report {
    /// See there.
    pub(super) scenario: Scenario,
    /// `namespaces` or `proxy`.
    pub(super) mode: &'static str,
    /// The same in a sentence.
    pub(super) ground: &'static str,
    /// The command that runs it again.
    pub(super) again: String,
    /// Before the first fault.
    pub(super) before: Lag,
    /// See there.
    pub(super) figures: Vec<Figures>,
    /// From the end of the load until all replicas agreed.
    pub(super) settled: Option<Duration>,
    /// See there.
    pub(super) violations: Vec<Violation>,
    /// Change sets, and those that were acknowledged.
    pub(super) sets: (usize, usize),
}

impl Report {
    /// For people.
    pub(super) fn print(&self, evidence: Option<&Path>) {
        let (name, line) = self.scenario.name_and_line();
        let (sets, acknowledged) = self.sets;
        out(&format!("{name}: {line}"));
        out(&format!("on {}", self.ground));
        out(&format!(
            "{sets} change sets, {acknowledged} acknowledged; before the first fault: lag {}",
            lag(self.before)
        ));
        out(&self.table().to_string());
        out(&self.settled.map_or_else(
            || "the replicas did not agree in time".to_owned(),
            |settled| format!("all replicas equal {} after the load ended", time(settled)),
        ));
        if self.violations.is_empty() {
            out("every promise was kept");
            return;
        }
        out(&format!("{} violations", self.violations.len()));
        let mut shown = std::collections::BTreeMap::<&str, usize>::new();
        for violation in &self.violations {
            let count = shown.entry(violation.oracle).or_default();
            *count += 1;
            if *count <= SHOWN_MAX {
                out(&format!("  {}: {}", violation.oracle, violation.message));
            }
        }
        if let Some(path) = evidence {
            out(&format!("evidence: {}", path.display()));
        }
        out(&format!("again:    {}", self.again));
    }

    /// For programs.
    pub(super) fn json(&self, evidence: Option<&Path>) -> Value {
        let faults: Vec<Value> = self.figures.iter().map(fault_json).collect();
        json!({
            "scenario": self.scenario.name_and_line().0,
            "mode": self.mode,
            "ground": self.ground,
            "change_sets": self.sets.0,
            "acknowledged": self.sets.1,
            "lag_before": lag_json(self.before),
            "faults": faults,
            "settled_ms": self.settled.map(millis),
            "violations": self.violations.iter().map(|violation| json!({
                "oracle": violation.oracle, "message": violation.message,
            })).collect::<Vec<_>>(),
            "evidence": evidence,
            "again": self.again,
        })
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header([
            "fault",
            "at",
            "for",
            "longest without an acknowledgement",
            "lag during: p50 p99 max",
            "lag after: p50 p99 max",
            "caught up",
        ]);
        for figures in &self.figures {
            let stretches = figures.stretches.iter();
            let stretches: Vec<String> = stretches
                .map(|(name, stretch)| format!("{name} {}", time(*stretch)))
                .collect();
            table.add_row([
                format!("{}\n{}", figures.fault.kind.name(), wrapped(&figures.fault.what)),
                time(figures.at),
                time(figures.lasted),
                stretches.join("\n"),
                lag(figures.during),
                lag(figures.after),
                figures.caught_up.map_or_else(|| "never".to_owned(), time),
            ]);
        }
        table
    }
}

/// Names every scenario, and says what is not here.
pub(super) fn list(as_json: bool) {
    let all = Scenario::value_variants()
        .iter()
        .map(|scenario| scenario.name_and_line());
    if as_json {
        let all: Vec<Value> = all.map(|(name, line)| json!({ "name": name, "line": line })).collect();
        json_line(&json!({ "scenarios": all, "note": CLOCK_NOTE }));
        return;
    }
    for (name, line) in all {
        out(&format!("{name:<20} {line}"));
    }
    out(&format!("\n{CLOCK_NOTE}"));
}

/// Writes the ledger and what was shown at the end beside the nodes' files.
pub(super) fn keep_evidence(directory: &Path, evidence: &Evidence, report: &Value) -> io::Result<()> {
    std::fs::write(directory.join("report.json"), format!("{report:#}\n"))?;
    std::fs::write(directory.join("ledger.jsonl"), ledger_lines(&evidence.ledger))?;
    for (what, all) in [("read", &evidence.reads), ("watched", &evidence.watched)] {
        for shown in all {
            let name = format!("{what}-n{}-{}.json", shown.place + 1, shown.tenant);
            std::fs::write(directory.join(name), format!("{:#}\n", json!(shown.picture)))?;
        }
    }
    Ok(())
}

/// One JSON value on standard output.
pub(super) fn json_line(value: &Value) {
    out(&value.to_string());
}

/// Progress, on standard error.
#[expect(clippy::print_stderr, reason = "this is the command's own output")]
pub(super) fn note(text: &str) {
    eprintln!("{text}");
}

#[expect(clippy::print_stdout, reason = "this is the command's own output")]
fn out(text: &str) {
    println!("{text}");
}

fn ledger_lines(ledger: &Ledger) -> String {
    let mut lines = String::new();
    for written in &ledger.written {
        let seen: Vec<Value> = ledger
            .seen
            .iter()
            .filter(|((_, marker), _)| *marker == written.marker)
            .map(|((place, _), at)| json!({ "node": place + 1, "at_ms": millis(*at) }))
            .collect();
        let line = json!({
            "marker": written.marker, "kind": format!("{:?}", written.kind), "tenant": written.tenant,
            "subject": written.subject, "beside": format!("n{}", written.place + 1), "at_ms": millis(written.at),
            "acknowledged_ms": written.acknowledged.map(|told| millis(told.at)),
            "by": written.acknowledged.map(|told| told.node),
            "refused": written.refused, "seen": seen,
        });
        lines.push_str(&line.to_string());
        lines.push('\n');
    }
    lines
}

fn fault_json(figures: &Figures) -> Value {
    json!({
        "fault": figures.fault.kind.name(),
        "what": figures.fault.what,
        "at_ms": millis(figures.at),
        "lasted_ms": millis(figures.lasted),
        "longest_without_acknowledgement_ms": figures.stretches.iter()
            .map(|(name, stretch)| (name.clone(), json!(millis(*stretch)))).collect::<serde_json::Map<_, _>>(),
        "lag_during": lag_json(figures.during),
        "lag_after": lag_json(figures.after),
        "caught_up_ms": figures.caught_up.map(millis),
    })
}

fn lag_json(lag: Lag) -> Value {
    json!({ "count": lag.count, "p50_ms": millis(lag.p50), "p99_ms": millis(lag.p99), "max_ms": millis(lag.max) })
}

fn lag(lag: Lag) -> String {
    if lag.count == 0 {
        return "-".to_owned();
    }
    format!("{} {} {}", time(lag.p50), time(lag.p99), time(lag.max))
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

fn time(time: Duration) -> String {
    match time.as_millis() {
        0..1_000 => format!("{}ms", time.as_millis()),
        _ => format!("{:.1}s", time.as_secs_f64()),
    }
}

/// Breaks a sentence so that the table fits a terminal.
fn wrapped(text: &str) -> String {
    const WIDTH: usize = 26;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("there is always a line");
        if last.is_empty() {
            word.clone_into(last);
        } else if last.len() + 1 + word.len() <= WIDTH {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join("\n")
}
