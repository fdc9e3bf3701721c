//! One named thing of the control plane: a tenant, a key, a setting. It is there or not, and it has a content.

use std::{fmt, hash::Hash, marker::PhantomData};

use super::Spec;

/// A register that can be absent, with contents of type `V`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Register<V>(PhantomData<V>);

impl<V> Register<V> {
    /// The specification.
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

/// What a register is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call<V> {
    /// What is there?
    Read,
    /// This is there from now on, whatever was.
    Write(V),
    /// This is there, if nothing was.
    Create(V),
    /// Nothing is there from now on, if something was.
    Delete,
    /// `new` is there, if `old` was.
    Compare {
        /// What must be there.
        old: V,
        /// What comes instead.
        new: V,
    },
}

/// What a register answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<V> {
    /// This is there.
    Content(V),
    /// Nothing is there.
    Absent,
    /// It was done.
    Done,
    /// It was not done, because of what is there or not.
    Refused,
}

impl<V: Clone + Eq + Hash + fmt::Debug + fmt::Display> Spec for Register<V> {
    type State = Option<V>;
    type Call = Call<V>;
    type Reply = Reply<V>;

    fn start(&self) -> Option<V> {
        None
    }

    fn apply(&self, state: &Option<V>, call: &Call<V>) -> (Option<V>, Reply<V>) {
        match (call, state) {
            (Call::Read, Some(content)) => (state.clone(), Reply::Content(content.clone())),
            (Call::Read, None) => (None, Reply::Absent),
            (Call::Write(new), _) | (Call::Create(new), None) => (Some(new.clone()), Reply::Done),
            (Call::Delete, Some(_)) => (None, Reply::Done),
            (Call::Compare { old, new }, Some(content)) if old == content => (Some(new.clone()), Reply::Done),
            (Call::Create(_) | Call::Delete | Call::Compare { .. }, _) => (state.clone(), Reply::Refused),
        }
    }
}

impl<V: fmt::Display> fmt::Display for Call<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read => f.write_str("read"),
            Self::Write(new) => write!(f, "write {new}"),
            Self::Create(new) => write!(f, "create {new}"),
            Self::Delete => f.write_str("delete"),
            Self::Compare { old, new } => write!(f, "if {old} write {new}"),
        }
    }
}

impl<V: fmt::Display> fmt::Display for Reply<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Content(content) => content.fmt(f),
            Self::Absent => f.write_str("nothing there"),
            Self::Done => f.write_str("done"),
            Self::Refused => f.write_str("refused"),
        }
    }
}
