//! The sizes that every part of Halcyon agrees on, each with its reason.
//!
//! A node may be stricter through its settings, never looser: a set admitted anywhere must fit everywhere.

/// Bytes of an entity id. A nanoid has 21; imported data brings mail addresses and URLs.
pub const ENTITY_ID_BYTES_MAX: usize = 128;

/// Bytes of each half of a predicate, `type` and `field`.
pub const NAME_BYTES_MAX: usize = 64;

/// Bytes of one value. Documents fit; files belong in an object store, with a reference here.
pub const VALUE_BYTES_MAX: usize = 256 << 10;

/// Bytes of one element of a set. Elements are part of an index key, so they must be short.
pub const ELEMENT_BYTES_MAX: usize = 512;

/// Changes in one change set: what a person's largest paste does, and little enough to merge in milliseconds.
pub const CHANGES_MAX: usize = 10_000;

/// Bytes of one change set as encoded. A client waits for it whole, and a queue holds it whole.
pub const CHANGE_SET_BYTES_MAX: usize = 1 << 20;

/// Bytes of one batch of a stream between nodes. It holds at least one change set, so a batch never ends inside one.
pub const BATCH_BYTES_MAX: usize = 2 << 20;

/// Bytes of one gRPC message: a batch and the frame around it.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Origins in one version vector. Each start of a node that wrote to the tenant adds one, for good.
pub const ORIGINS_MAX: usize = 65_536;

const _: () = assert!(VALUE_BYTES_MAX < CHANGE_SET_BYTES_MAX);
const _: () = assert!(CHANGE_SET_BYTES_MAX < BATCH_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX < MESSAGE_BYTES_MAX);

/// Whether all forms of a query are read here, and dates and numbers as text. A browser's module is fetched before anything
/// shows: it reads what its package writes, entities in JSON.
pub const READS_ALL_FORMS: bool = cfg!(not(target_arch = "wasm32"));

/// Stands where only the other forms lead: to rules, and to rows of bindings. A browser's module has nothing behind it.
#[expect(
    clippy::inline_always,
    reason = "as a call it would leave all that stands behind it in a browser's module"
)]
#[inline(always)]
pub(crate) fn needs_all_forms() {
    if !READS_ALL_FORMS {
        unreachable!("a query of entities, without rules, does not come here");
    }
}
