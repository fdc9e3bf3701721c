//! `chaos list`.

use std::process::ExitCode;

use super::output::line;
use crate::plan::scenario;

#[expect(clippy::unnecessary_wraps, reason = "every command has this shape")]
pub(super) fn run() -> Result<ExitCode, String> {
    let width = scenario::all()
        .iter()
        .map(|scenario| scenario.name.len())
        .max()
        .unwrap_or(0);
    for scenario in scenario::all() {
        line(format_args!("{:width$}  {}", scenario.name, scenario.line));
    }
    Ok(ExitCode::SUCCESS)
}
