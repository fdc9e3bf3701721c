//! The bounds of live queries on a node, each with its reason.

use std::time::Duration;

use halcyon_core::query::eval::Budget;

use crate::limits::MESSAGE_BYTES_MAX;

/// Subscriptions of one session. An app's screen has tens.
pub const SUBSCRIPTIONS_PER_SESSION_MAX: usize = 256;

/// Different queries of one tenant on a node. Each has some 7 KB beside its coverage.
pub const PLANS_PER_TENANT_MAX: usize = 20_000;

/// Commits that are taken in as one state, when more wait than one. Beyond that, watchers of the first wait too long.
pub const BATCH_COMMITS_MAX: usize = 256;

/// Bytes of one part of a subscription's coverage: some messages of a window, each a fraction of a second on a phone.
pub const CHUNK_BYTES: usize = 256 << 10;

/// Work that is done on the thread that has it. To give its core to another thread costs more than so much, and leaves
/// what the work keeps in the heaps of many threads.
pub const SHORT_MAX: Duration = Duration::from_millis(2);

/// How often work is done away after it took longer than that.
pub const AWAY_AFTER_LONG: u32 = 16;

/// Plans that a change asks, of which a little is read ahead: more do not fit the cache of a core.
pub const WARM_MAX: usize = 256;

/// Calls that wait for the task of one tenant.
pub const COMMANDS_MAX: usize = 1_024;

/// How often a tenant's task looks for what has become idle, late or over. Deltas never wait for it.
pub const TICK: Duration = Duration::from_secs(1);

/// Ticks between two words to sessions that nothing concerns: how far the node has come.
pub const TICKS_PER_WORD: u32 = 5;

/// How long a query that nobody follows is kept up to date: a page is loaded anew, a client comes back.
pub const PLAN_IDLE: Duration = Duration::from_secs(30);

/// How long a tenant's triples stay in memory without a query.
pub const TENANT_IDLE: Duration = Duration::from_mins(1);

/// How long a subscription waits for the node to come as far as the client, before it gets a stale answer.
pub const BEHIND_WAIT: Duration = Duration::from_secs(2);

/// How long the second call of a subscription may take.
pub const RESUME_WAIT: Duration = Duration::from_secs(30);

/// Subscriptions of a tenant that wait for the node.
pub const WAITING_MAX: usize = 4_096;

/// Bytes of a tenant's texts in memory from which on it is looked at how many are of values that are gone. As soon as half
/// is, the node begins anew to follow the tenant, and sessions come back by digest.
pub const TEXTS_LOOKED_AT_FROM: usize = 64 << 20;

/// About what a triple takes in memory, with its indexes and names; texts of more than eight bytes come on top.
pub const BYTES_PER_TRIPLE: usize = 150;

/// Rows of an answer that is sent in place of what it rests on. More is no page of an app either.
pub const ANSWER_ROWS_MAX: usize = 10_000;

/// Bytes of one change of such an answer: a row, with its place before and after.
pub const ANSWER_CHANGE_BYTES_MAX: usize = 256 << 10;

/// Bytes of what one state does to such an answer. More is told as a new subscription, which waits for its client.
pub const ANSWER_DELTA_BYTES_MAX: usize = 1 << 20;

const _: () = assert!(ANSWER_CHANGE_BYTES_MAX + CHUNK_BYTES < MESSAGE_BYTES_MAX);

/// What one evaluation for such an answer may cost: it counts what is too much to send.
pub const ANSWER_BUDGET: Budget = Budget {
    tuples: 4_000_000,
    bytes: 512 << 20,
    ..BUDGET
};

/// What one evaluation for a live query may cost: a tenth of a second, some of the tenant's memory.
pub const BUDGET: Budget = Budget {
    fuel: 20_000_000,
    tuples: 1_000_000,
    bytes: 64 << 20,
};
