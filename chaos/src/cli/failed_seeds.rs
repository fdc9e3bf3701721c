//! The first seeds that failed in a sweep: each is made smaller and explained, within a time that all of them share.
//!
//! More than a few failures are rarely more than a few bugs, and a sweep may be a step of CI that must end.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use indicatif::ProgressBar;
use serde::Serialize;

use super::{
    PlanArgs,
    child::Report,
    failure::{Shrunk, Smallest, progress},
    patience::{Over, Patience},
    shrink::Search,
    sweep::SweepArgs,
};
use crate::shrink::RUNS_MAX;

/// Seeds that are made smaller.
const SHRUNK_MAX: usize = 3;

/// How long the run may take that writes a page.
const PAGE_WITHIN: Duration = Duration::from_mins(1);

/// A seed that failed, and what was found out about it.
#[derive(Debug, Serialize)]
pub(super) struct FailedSeed {
    #[serde(flatten)]
    pub report: Report,
    #[serde(flatten)]
    pub shrunk: Shrunk,
    /// Its timeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<PathBuf>,
}

impl FailedSeed {
    /// Of which nothing but its report is known.
    pub(super) fn told(report: Report) -> Self {
        Self {
            report,
            shrunk: Shrunk::default(),
            page: None,
        }
    }
}

/// Explains the first of them, and hands each over as soon as it is.
pub(super) fn explain(args: &SweepArgs, seeds: &mut [FailedSeed], explained: impl Fn(&FailedSeed) + Sync) {
    let count = SHRUNK_MAX.min(seeds.len());
    let first = &mut seeds[..count];
    let jobs = args.jobs.clamp(1, first.len().max(1));
    let share = share(args.shrink_within, first.len().div_ceil(jobs));
    if first.is_empty() || share.is_zero() && args.html_dir.is_none() {
        return;
    }
    if !share.is_zero() {
        progress(&format!(
            "looking for smaller runs of {} seeds, {share:?} each; Ctrl-C ends that with the smallest so far",
            first.len()
        ));
    }
    let next = AtomicUsize::new(0);
    let first: Vec<Mutex<&mut FailedSeed>> = first.iter_mut().map(Mutex::new).collect();
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                let mut patience = Patience::new(None);
                while let Some(seed) = first.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut seed = seed.lock().unwrap_or_else(PoisonError::into_inner);
                    match &mut patience {
                        Ok(patience) => seed.explain(args, share, patience),
                        Err(why) => seed.shrunk = Err(why.clone()).into(),
                    }
                    explained(&seed);
                }
            });
        }
    });
}

/// What one of so many gets that come one after the other.
fn share(seconds: u64, turns: usize) -> Duration {
    let turns = u32::try_from(turns.max(1)).unwrap_or(u32::MAX);
    Duration::from_secs(seconds) / turns
}

impl FailedSeed {
    fn explain(&mut self, args: &SweepArgs, share: Duration, patience: &mut Patience) {
        let plan = args.plan(self.report.seed);
        if !share.is_zero() {
            patience.renew(Some(share));
            self.shrunk = self.smallest(&plan, patience).into();
        }
        let Some(directory) = &args.html_dir else { return };
        patience.renew(Some(PAGE_WITHIN));
        match page(directory, &self.report, self.shrunk.smallest.as_ref(), patience) {
            Ok(page) => self.page = Some(page),
            Err(why) => progress(&format!("seed {} has no page: {why}", self.report.seed)),
        }
    }

    fn smallest(&self, plan: &PlanArgs, patience: &mut Patience) -> Result<Smallest, String> {
        let search = Search {
            args: plan,
            mutant: None,
            runs_max: RUNS_MAX,
        };
        let seed = self.report.seed;
        let first = self.report.violations.first().ok_or("it broke no rule")?;
        search.smallest(&first.oracle, patience, &ProgressBar::hidden(), |_, told| {
            progress(&format!("seed {seed} {told}"));
        })
    }
}

/// The page of the smallest run, or of the whole where none is smaller.
fn page(
    directory: &Path,
    report: &Report,
    smallest: Option<&Smallest>,
    patience: &mut Patience,
) -> Result<PathBuf, String> {
    fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let path = directory.join(format!("seed-{}.html", report.seed));
    // One of an earlier sweep would be taken for this one's.
    let _ = fs::remove_file(&path);
    let plan = smallest.map_or(&report.words, |smallest| &smallest.words);
    let words = ["run", "--no-shrink", "--html"].map(str::to_owned).into_iter();
    let words: Vec<String> = words
        .chain([path.display().to_string()])
        .chain(plan.iter().cloned())
        .collect();
    let output = match patience.output(&words) {
        None if patience.over() == Some(Over::Interrupted) => return Err("interrupted".to_owned()),
        None => return Err(format!("its run takes longer than {PAGE_WITHIN:?}")),
        Some(output) => output.map_err(|error| format!("its run cannot be started: {error}"))?,
    };
    // The run makes an empty file first, to see that it can.
    if path.metadata().is_ok_and(|page| page.len() > 0) {
        return Ok(path);
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}
