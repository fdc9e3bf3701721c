//! `chaos meta`: a seed is worth something only if it replays.

use std::process::ExitCode;

use clap::Args;

use super::{PlanArgs, child, output::line};

#[derive(Debug, Args)]
pub(super) struct MetaArgs {
    #[command(flatten)]
    plan: PlanArgs,
    /// How many times in all
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    times: u32,
}

pub(super) fn run(args: &MetaArgs) -> Result<ExitCode, String> {
    let first = child::run(&args.plan, &[])?;
    for _ in 1..args.times {
        let again = child::run(&args.plan, &[])?;
        if (&again.hash, again.events) != (&first.hash, first.events) {
            line(format_args!(
                "seed {} does not replay: {} over {} events, then {} over {}",
                first.seed, first.hash, first.events, again.hash, again.events
            ));
            for (kind, count) in &first.kinds {
                let then = again.kinds.get(kind).copied().unwrap_or(0);
                if then != *count {
                    line(format_args!("  {kind}: {count}, then {then}"));
                }
            }
            let words = args.plan.words().join(" ");
            line(format_args!(
                "to find where they part: chaos run {words} --trace a.txt; the same with b.txt; cmp a.txt b.txt"
            ));
            return Ok(ExitCode::FAILURE);
        }
    }
    line(format_args!(
        "seed {} replays: {} over {} events, {} simulated seconds, {} times",
        first.seed,
        first.hash,
        first.events,
        first.simulated_ms / 1_000,
        args.times
    ));
    Ok(ExitCode::SUCCESS)
}
