//! What the command says: data and verdicts on stdout, progress and notes on stderr, colours only on a terminal.
//!
//! The one module that prints. A reader that went away (`halcyon scan | head`) ends the process in silence, as in any
//! Unix tool; output that cannot be written ends it with a word and a code, because half an answer is none.

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::failure::Exit;

/// How often a progress bar is drawn at the most.
const DRAWS_PER_SECOND: u8 = 8;

/// Blanks between two columns.
const GAP: u16 = 2;

/// What a shell shows for a Unix tool whose reader went away: 128 and the number of SIGPIPE.
const READER_GONE: i32 = 141;

/// Writes a line to stdout.
pub fn line(text: impl AsRef<str>) {
    let mut out = io::stdout().lock();
    let text = shown(text.as_ref(), out.is_terminal());
    let written = out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n"));
    leave_if_unwritten(written);
}

/// Writes a part of a line to stdout.
pub fn part(text: impl AsRef<str>) {
    let mut out = io::stdout().lock();
    let text = shown(text.as_ref(), out.is_terminal());
    leave_if_unwritten(out.write_all(text.as_bytes()));
}

/// Writes JSON as one line to stdout.
pub fn json(value: &serde_json::Value) {
    line(value.to_string());
}

/// Makes sure that a watcher's reader sees what was written.
pub fn flush() {
    leave_if_unwritten(io::stdout().lock().flush());
}

/// Writes a note for people to stderr.
pub fn note(text: impl AsRef<str>) {
    let mut err = io::stderr().lock();
    let text = shown(text.as_ref(), err.is_terminal());
    let _ = writeln!(err, "{text}");
}

/// Clears the terminal, for a view that draws itself anew. Does nothing where stdout is not a terminal.
pub fn clear_screen() {
    if io::stdout().is_terminal() {
        let _ = write!(io::stdout().lock(), "\x1b[H\x1b[2J");
    }
}

/// A meaning that has a colour.
#[derive(Debug, Clone, Copy)]
pub enum Tone {
    /// All is well.
    Good,
    /// Something is wrong.
    Bad,
    /// Wait, or look twice.
    Careful,
    /// Less important.
    Quiet,
    /// More important.
    Strong,
}

impl Tone {
    const ALL: [Self; 5] = [Self::Good, Self::Bad, Self::Careful, Self::Quiet, Self::Strong];

    const fn code(self) -> &'static str {
        match self {
            Self::Good => "\x1b[32m",
            Self::Bad => "\x1b[31m",
            Self::Careful => "\x1b[33m",
            Self::Quiet => "\x1b[2m",
            Self::Strong => "\x1b[1m",
        }
    }
}

/// Ends a tone.
const PLAIN: &str = "\x1b[0m";

/// Text in its colour, if stdout is a terminal and nobody forbade colours.
pub fn tint(tone: Tone, text: &str) -> Cow<'_, str> {
    tint_for(io::stdout().is_terminal(), tone, text)
}

/// The same for stderr.
pub fn tint_note(tone: Tone, text: &str) -> Cow<'_, str> {
    tint_for(io::stderr().is_terminal(), tone, text)
}

/// A table without frame: columns aligned, one row a line, fit for `grep` and `awk`.
#[derive(Debug)]
pub struct Rows {
    table: Table,
    columns: Vec<String>,
    /// Of the columns that were printed, the widest contents.
    widths: Vec<u16>,
}

impl Rows {
    /// An empty table with these columns. A name that ends with `>` has its column aligned to the right.
    pub fn new(columns: &[&str]) -> Self {
        Self {
            table: table(columns.iter().copied()),
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
            widths: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn push<T: ToString>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.table.add_row(cells.into_iter().map(|cell| cell.to_string()));
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The table as text, without blanks at the ends of lines.
    pub fn render(&self) -> String {
        let lines: Vec<String> = self.table.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n")
    }

    /// Writes it to stdout.
    pub fn print(&self) {
        line(self.render());
    }

    /// Writes the rows that were added since the last time, and forgets them. Columns grow from one time to the next, and
    /// never shrink; their names come once.
    pub fn print_so_far(&mut self) {
        let text = self.render_so_far();
        if !text.is_empty() {
            line(text);
        }
    }

    fn render_so_far(&mut self) -> String {
        if self.is_empty() {
            return String::new();
        }
        let mut widths = self.table.column_max_content_widths();
        for (width, before) in widths.iter_mut().zip(&self.widths) {
            *width = (*width).max(*before);
        }
        for (at, width) in widths.iter().enumerate() {
            if let Some(column) = self.table.column_mut(at) {
                // The padding counts.
                column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width + GAP)));
            }
        }
        let text = self.render();
        let is_first = self.widths.is_empty();
        self.widths = widths;
        self.table = table(self.columns.iter().map(String::as_str));
        let names = usize::from(!is_first);
        text.lines().skip(names).collect::<Vec<_>>().join("\n")
    }
}

fn table<'c>(columns: impl Iterator<Item = &'c str> + Clone) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    let names = columns.clone();
    table.set_header(names.map(|name| Cell::new(name.trim_end_matches('>').to_uppercase())));
    for (at, name) in columns.enumerate() {
        let Some(column) = table.column_mut(at) else { continue };
        column.set_padding((0, GAP));
        if name.ends_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// How far something long has come. Drawn on stderr, only on a terminal.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Of `total` things called `unit`; 0 where the total is not known.
    pub fn new(what: &str, unit: &str, total: u64) -> Self {
        let known = format!("{{msg}} [{{bar:28}}] {{human_pos}}/{{human_len}} {unit}  {{per_sec}}  {{eta}} left");
        let unknown = format!("{{msg}} {{spinner}} {{human_pos}} {unit}  {{per_sec}}");
        let bar = ProgressBar::with_draw_target(
            (total > 0).then_some(total),
            ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND),
        );
        let template = if total > 0 { known } else { unknown };
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what.to_owned());
        Self { bar }
    }

    /// It has come this far.
    pub fn at(&self, position: u64) {
        self.bar.set_position(position);
    }

    /// It has come this much further.
    pub fn add(&self, count: u64) {
        self.bar.inc(count);
    }

    /// Takes the bar away.
    pub fn done(&self) {
        self.bar.finish_and_clear();
    }

    /// A note that does not tear the bar apart.
    pub fn note(&self, text: &str) {
        self.bar.suspend(|| note(text));
    }
}

/// A duration as a person says it.
pub fn duration(time: Duration) -> String {
    let micros = time.as_micros();
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..10_000 => format!("{:.2} ms", time.as_secs_f64() * 1e3),
        10_000..1_000_000 => format!("{:.0} ms", time.as_secs_f64() * 1e3),
        1_000_000..100_000_000 => format!("{:.1} s", time.as_secs_f64()),
        _ => humantime::format_duration(Duration::from_secs(time.as_secs())).to_string(),
    }
}

/// A count with thousands apart: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes with a unit: `12.3 MB`.
pub fn bytes(number: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    let number_float = number as f64;
    match number {
        0..1_000 => format!("{number} B"),
        1_000..1_000_000 => format!("{:.1} kB", number_float / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", number_float / 1e6),
        _ => format!("{:.2} GB", number_float / 1e9),
    }
}

/// `1 issue`, `2 issues`.
pub fn plural(number: u64, one: &str, many: &str) -> String {
    let word = if number == 1 { one } else { many };
    format!("{} {word}", count(number))
}

fn tint_for(is_terminal: bool, tone: Tone, text: &str) -> Cow<'_, str> {
    if !is_terminal || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        return text.into();
    }
    format!("{}{text}{PLAIN}", tone.code()).into()
}

/// Text fit for a terminal: but for our own tones, what would command it is spelled out. Whoever may write a value could
/// otherwise draw on the screen of whoever reads it.
fn shown(text: &str, is_terminal: bool) -> Cow<'_, str> {
    let commands = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !is_terminal || !text.contains(commands) {
        return text.into();
    }
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let own = Tone::ALL.map(Tone::code).into_iter().chain([PLAIN]);
        let (part, behind) = match own.into_iter().find(|code| rest.starts_with(code)) {
            Some(code) => rest.split_at(code.len()),
            None => rest.split_at(first.len_utf8()),
        };
        if part.len() == first.len_utf8() && commands(first) {
            safe.extend(first.escape_unicode());
        } else {
            safe.push_str(part);
        }
        rest = behind;
    }
    safe.into()
}

/// Ends the process if what it has to say cannot be written.
pub fn leave_if_unwritten(written: io::Result<()>) {
    let Err(error) = written else { return };
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(READER_GONE);
    }
    note(format!(
        "{} the answer cannot be written to stdout: {error}",
        tint_note(Tone::Bad, "error:")
    ));
    std::process::exit(Exit::Failed as i32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(12), "12");
        assert_eq!(bytes(12_345_678), "12.3 MB");
        assert_eq!(duration(Duration::from_micros(1_234)), "1.23 ms");
        assert_eq!(plural(1, "issue", "issues"), "1 issue");
    }

    #[test]
    fn a_value_does_not_command_the_terminal_that_shows_it() {
        let evil = "a\x1b[2J\x07\u{9b}31m\tb\n";
        assert_eq!(shown(evil, true), "a\\u{1b}[2J\\u{7}\\u{9b}31m\tb\n");
        assert_eq!(shown(evil, false), evil, "a file or a pipe gets what is there");
        let tinted = tint_for(true, Tone::Careful, "wait");
        assert_eq!(shown(&tinted, true), "\x1b[33mwait\x1b[0m");
    }

    #[test]
    fn a_table_has_no_frame_and_no_blanks_at_line_ends() {
        let mut rows = Rows::new(&["name", "count>"]);
        rows.push(["a", "1"]);
        rows.push(["long name", "1000"]);
        assert_eq!(rows.render(), "NAME       COUNT\na              1\nlong name   1000");
    }

    #[test]
    fn a_table_that_is_written_in_parts_keeps_its_columns() {
        let mut rows = Rows::new(&["name", "count>"]);
        rows.push(["long name", "1"]);
        assert_eq!(rows.render_so_far(), "NAME       COUNT\nlong name      1");
        rows.push(["a", "1000"]);
        assert_eq!(rows.render_so_far(), "a           1000");
        rows.push(["a longer name", "5"]);
        assert_eq!(rows.render_so_far(), "a longer name      5");
        rows.push(["b", "1234567"]);
        assert_eq!(rows.render_so_far(), "b              1234567");
        assert_eq!(rows.render_so_far(), "");
    }
}
