//! How long runs in processes of their own may go on: until the time is up, or somebody presses Ctrl-C.
//!
//! What was found until then counts. So an interrupt is heard here instead of ending this process, and the run that is
//! under way is ended with the wait for it.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{
    process::Command,
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};

use crate::world::interpose::real_time;

/// See the module.
#[derive(Debug)]
pub(super) struct Patience {
    /// What is run.
    program: PathBuf,
    runtime: Runtime,
    interrupts: Signal,
    /// On the machine's own clock.
    until: Duration,
    is_interrupted: bool,
}

/// Why runs are given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// The time is up.
    Late,
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

impl Patience {
    /// With runs of this program, from now on, with no end where nothing is said.
    pub(super) fn new(within: Option<Duration>) -> Result<Self, String> {
        let program = std::env::current_exe();
        let program = program.map_err(|error| format!("this program cannot be started again: {error}"))?;
        Self::with(program, within)
    }

    /// With runs of another program.
    pub(super) fn with(program: PathBuf, within: Option<Duration>) -> Result<Self, String> {
        let told = |error: io::Error| format!("runs cannot be waited for: {error}");
        let runtime = Builder::new_current_thread().enable_all().build().map_err(told)?;
        let interrupts = runtime
            .block_on(async { signal(SignalKind::interrupt()) })
            .map_err(told)?;
        let mut patience = Self {
            program,
            runtime,
            interrupts,
            until: Duration::MAX,
            is_interrupted: false,
        };
        patience.renew(within);
        Ok(patience)
    }

    /// Anew from now on. An interrupt stays one.
    pub(super) fn renew(&mut self, within: Option<Duration>) {
        self.until = within.map_or(Duration::MAX, |within| real_time().saturating_add(within));
    }

    /// Whether it is over.
    pub(super) fn over(&self) -> Option<Over> {
        if self.is_interrupted {
            return Some(Over::Interrupted);
        }
        self.left().is_zero().then_some(Over::Late)
    }

    fn left(&self) -> Duration {
        self.until.saturating_sub(real_time())
    }

    /// Starts the program with these words. Nothing, where it was not waited for.
    pub(super) fn output(&mut self, words: &[String]) -> Option<io::Result<Output>> {
        if self.over().is_some() {
            return None;
        }
        let left = self.left();
        let Self {
            program,
            runtime,
            interrupts,
            ..
        } = self;
        let ended = runtime.block_on(async {
            tokio::select! {
                biased;
                _ = interrupts.recv() => Err(Over::Interrupted),
                () = sleep(left) => Err(Over::Late),
                output = start(program, words) => Ok(output),
            }
        });
        // A terminal interrupts both at once, and the run may be the first to end.
        let was_interrupted = |output: &Output| output.status.signal() == Some(SignalKind::interrupt().as_raw_value());
        let ended = match ended {
            Ok(Ok(output)) if was_interrupted(&output) => Err(Over::Interrupted),
            ended => ended,
        };
        self.is_interrupted |= ended.as_ref().is_err_and(|over| *over == Over::Interrupted);
        ended.ok()
    }
}

/// It ends with the wait for it.
async fn start(program: &Path, words: &[String]) -> io::Result<Output> {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).kill_on_drop(true);
    command.output().await
}

/// An interrupt is one for all tests of a process.
#[cfg(test)]
pub(super) static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    /// A child that ends by itself: this program, asked which tests it has.
    fn asked(patience: &mut Patience) -> Option<bool> {
        let output = patience.output(&["--list".to_owned()]);
        output.map(|output| output.is_ok_and(|output| output.status.success()))
    }

    #[test]
    fn a_run_is_waited_for_until_the_time_is_up_or_somebody_interrupts() {
        let _alone = ALONE.lock();
        let mut patience = Patience::new(None).unwrap();
        assert_eq!((asked(&mut patience), patience.over()), (Some(true), None));
        patience.renew(Some(Duration::ZERO));
        assert_eq!((asked(&mut patience), patience.over()), (None, Some(Over::Late)));
        patience.renew(Some(Duration::from_mins(1)));
        assert_eq!((asked(&mut patience), patience.over()), (Some(true), None));
        kill_process(getpid(), Signal::INT).unwrap();
        assert_eq!((asked(&mut patience), patience.over()), (None, Some(Over::Interrupted)));
        patience.renew(None);
        assert_eq!(asked(&mut patience), None, "an interrupt stays one");
    }
}
