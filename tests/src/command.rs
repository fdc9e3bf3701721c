//! Runs `halcyon` as an operator does, and reads what it answers.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    binary,
    wait::{self, runtime},
};

/// No command of a test takes longer.
const COMMAND_WITHIN: Duration = Duration::from_mins(2);

/// What a command left behind.
#[derive(Debug)]
pub struct Answer {
    /// 0 done, 1 failed or replicas disagree, 2 usage, 3 nobody reached, 4 refused.
    pub code: i32,
    /// Data and verdicts.
    pub stdout: String,
    /// Progress and notes.
    pub stderr: String,
    /// The command, for messages.
    pub command: String,
}

impl Answer {
    /// Demands success.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "`{}`\n{}\n{}", self.command, self.stdout, self.stderr);
        self
    }

    /// Demands a failure with this code, and a message that says all of `words`.
    #[track_caller]
    pub fn fails(self, code: i32, words: &[&str]) -> Self {
        let said = format!("{}\n{}", self.stdout, self.stderr);
        assert_eq!(self.code, code, "`{}`\n{said}", self.command);
        for word in words {
            let found = said.to_lowercase().contains(&word.to_lowercase());
            assert!(found, "`{}` does not say `{word}`:\n{said}", self.command);
        }
        self
    }

    /// The JSON on stdout.
    #[track_caller]
    pub fn json(&self) -> Value {
        let read = serde_json::from_str(self.stdout.trim());
        read.unwrap_or_else(|error| panic!("`{}` is not JSON ({error}):\n{}", self.command, self.stdout))
    }

    /// One JSON value for each line of stdout.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        let lines = self.stdout.lines().filter(|line| !line.trim().is_empty());
        lines
            .map(|line| serde_json::from_str(line).expect("every line is JSON"))
            .collect()
    }
}

/// Runs the command with `variables` in its environment.
#[track_caller]
pub fn halcyon(arguments: &[&str], variables: &[(&str, &str)]) -> Answer {
    let mut command = tokio::process::Command::from(prepared(arguments, variables));
    command.kill_on_drop(true);
    let shown = format!("halcyon {}", arguments.join(" "));
    // `output` needs the runtime from its first call on.
    let ended = runtime().block_on(async { timeout(COMMAND_WITHIN, command.output()).await });
    let output = ended.unwrap_or_else(|_| panic!("`{shown}` takes longer than {COMMAND_WITHIN:?}"));
    let output = output.expect("the binary under test can be run");
    Answer {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        command: shown,
    }
}

fn prepared(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary::halcyon());
    command.args(arguments).env("NO_COLOR", "1").stdin(Stdio::null());
    for name in ["HALCYON_CLUSTER", "HALCYON_ADMIN", "HALCYON_KEY"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    command
}

/// Starts the command with `variables` in its environment and its notes in a pipe.
#[track_caller]
pub fn piped(arguments: &[&str], variables: &[(&str, &str)], stdout: Stdio) -> Child {
    let mut command = prepared(arguments, variables);
    let child = command.stdout(stdout).stderr(Stdio::piped()).spawn();
    child.expect("the binary under test can be run")
}

/// A program that runs while the test does something else. Dropped, it is killed.
#[derive(Debug)]
pub struct Running {
    child: Child,
    out: PathBuf,
    shown: String,
}

impl Running {
    /// Starts `halcyon`, with what it says going to the file `out` and to `out` with `.err` behind.
    #[track_caller]
    pub fn halcyon(arguments: &[&str], variables: &[(&str, &str)], out: &Path) -> Self {
        let shown = format!("halcyon {}", arguments.join(" "));
        Self::start(prepared(arguments, variables), shown, out)
    }

    /// Starts any program.
    #[track_caller]
    pub fn start(mut command: Command, shown: String, out: &Path) -> Self {
        let file = |path: &Path| File::create(path).expect("a temporary directory can be written to");
        command.stdout(file(out)).stderr(file(&out.with_extension("err")));
        let child = command.spawn().expect("the program under test can be run");
        Self {
            child,
            out: out.to_owned(),
            shown,
        }
    }

    /// The whole lines that it has written. What a kill cut off is no line.
    pub fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.out).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// What it said besides.
    pub fn notes(&self) -> String {
        fs::read_to_string(self.out.with_extension("err")).unwrap_or_default()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a child takes signals");
    }

    /// kill -9.
    #[track_caller]
    pub fn kill(&mut self) {
        self.child.kill().expect("a child may be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// Waits for its own end, and demands that it went well.
    #[track_caller]
    pub fn succeeds(&mut self, within: Duration) {
        self.ends_with(0, within);
    }

    /// Waits for its own end, and demands this exit code.
    #[track_caller]
    pub fn ends_with(&mut self, code: i32, within: Duration) {
        let what = format!("`{}` ends", self.shown);
        let status = wait::until(&what, within, || self.child.try_wait().ok().flatten());
        assert_eq!(
            status.code(),
            Some(code),
            "`{}` ended with {status}:\n{}",
            self.shown,
            self.notes()
        );
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
