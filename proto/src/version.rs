//! Which wire versions this release speaks, and which one two sides agree on.
//!
//! A release speaks its own version and the one before, so that a cluster can be upgraded node by node.

use thiserror::Error;

use crate::v1;

/// What this release speaks, both ends included.
pub const WIRE: v1::WireVersions = v1::WireVersions { oldest: 1, newest: 1 };

/// The program and its release, for the other side's log.
pub const AGENT: &str = concat!("halcyon/", env!("CARGO_PKG_VERSION"));

/// No version in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the other side speaks wire versions {} to {}, this one {} to {}; upgrade the older of the two",
    .theirs.oldest, .theirs.newest, .ours.oldest, .ours.newest
)]
pub struct NoCommonVersion {
    /// What we speak.
    pub ours: v1::WireVersions,
    /// What they speak.
    pub theirs: v1::WireVersions,
}

/// The newest version that both speak. A side that says nothing speaks none.
pub fn negotiate(ours: v1::WireVersions, theirs: v1::WireVersions) -> Result<u32, NoCommonVersion> {
    let newest = ours.newest.min(theirs.newest);
    let oldest = ours.oldest.max(theirs.oldest).max(1);
    if oldest <= newest {
        Ok(newest)
    } else {
        Err(NoCommonVersion { ours, theirs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_sides_speak_the_newest_version_that_both_know() {
        //    ours    theirs  spoken
        check((1, 1), (1, 1), Some(1));
        check((1, 2), (1, 1), Some(1));
        check((1, 2), (2, 3), Some(2));
        check((1, 3), (2, 5), Some(3));
        check((1, 1), (2, 3), None);
        check((1, 1), (0, 0), None);
        check((1, 1), (3, 1), None);
    }

    /// The order must not matter.
    #[track_caller]
    fn check(ours: (u32, u32), theirs: (u32, u32), spoken: Option<u32>) {
        let range = |(oldest, newest)| v1::WireVersions { oldest, newest };
        assert_eq!(negotiate(range(ours), range(theirs)).ok(), spoken);
        assert_eq!(negotiate(range(theirs), range(ours)).ok(), spoken);
    }
}
