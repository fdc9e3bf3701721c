//! What people should know of replication.

use halcyon_core::{clock::WallTime, id::TenantId};

/// What an alarm is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlarmKind {
    /// Replicas with equal vectors hold different facts.
    Fingerprint,
    /// Storage failed.
    Disk,
    /// A peer sent what cannot be read.
    PeerMessage,
}

impl AlarmKind {
    /// As it is shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fingerprint => "fingerprint",
            Self::Disk => "disk",
            Self::PeerMessage => "peer-message",
        }
    }
}

/// Something that people should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// What it is about.
    pub kind: AlarmKind,
    /// The tenant it concerns, if it is one.
    pub tenant: Option<TenantId>,
    /// What is wrong, and what to do.
    pub message: String,
    /// When it was raised first.
    pub since: WallTime,
}
