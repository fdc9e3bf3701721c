//! Why a command ended without success: what it says, and the code the process leaves with.

use std::fmt;

/// The process's exit code. Scripts rely on these numbers; they are part of the command's contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// It was tried and did not work, or replicas disagree.
    Failed = 1,
    /// The command line, or a file it names, cannot be understood.
    Usage = 2,
    /// No node answered.
    Unreachable = 3,
    /// A node answered no.
    Refused = 4,
    /// Ctrl-C came first: 128 and the number of SIGINT, as a shell shows it.
    Interrupted = 130,
}

/// A command's end without success. People read it: what is wrong, then what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind.
    pub exit: Exit,
    /// What is wrong.
    pub message: String,
    /// What to do about it, where that is known.
    pub advice: Option<String>,
    /// What programs read of it besides, by name.
    pub details: Vec<(&'static str, serde_json::Value)>,
}

impl Failure {
    /// It was tried and did not work.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// The command line or a file it names is wrong.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// No node answered.
    pub fn unreachable(message: impl fmt::Display) -> Self {
        Self::new(Exit::Unreachable, message)
    }

    /// A node answered no.
    pub fn refused(message: impl fmt::Display) -> Self {
        Self::new(Exit::Refused, message)
    }

    /// Ctrl-C ended it.
    pub fn interrupted(message: impl fmt::Display) -> Self {
        Self::new(Exit::Interrupted, message)
    }

    /// The same, with what to do.
    pub fn advise(mut self, advice: impl fmt::Display) -> Self {
        self.advice = Some(advice.to_string());
        self
    }

    /// The same, with more for programs.
    pub fn with(mut self, name: &'static str, detail: serde_json::Value) -> Self {
        self.details.push((name, detail));
        self
    }

    fn new(exit: Exit, message: impl fmt::Display) -> Self {
        let message = message.to_string();
        Self {
            exit,
            message,
            advice: None,
            details: Vec::new(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.advice {
            Some(advice) => write!(f, "\n  try: {advice}"),
            None => Ok(()),
        }
    }
}

/// Names the file in an input or output error.
pub fn file_failure(doing: &str, path: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::failed(format_args!("cannot {doing} {}: {error}", path.display()))
}
