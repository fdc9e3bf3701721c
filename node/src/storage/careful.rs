//! redb trusts its pages: where bytes of one have changed on the disk it may panic instead of answering an error.
//!
//! Caught here, so that a bad disk is an error of the tenant's storage like any other, and not the end of a task.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::types::StorageError;

/// What `work` answers, or that a page is damaged. What it leaves half done inside redb answers the same from then on:
/// its locks are poisoned.
pub(super) fn careful<T, E: From<StorageError>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let error = "a page of the index is damaged; restore this node from its peers";
        Err(StorageError::Disk(error.into()).into())
    })
}
