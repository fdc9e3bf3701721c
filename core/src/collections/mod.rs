//! Ordered maps and sets: the standard library's, or smaller ones where code has to be fetched first.
//!
//! A B-tree costs eight kilobytes of WebAssembly for each pair of types, and the engine has sixty of them. A module for a
//! browser takes the maps of [`compact`] instead. They do the same in the same order; native code is as fast as before.

pub mod compact;

#[cfg(any(target_arch = "wasm32", feature = "compact"))]
pub use self::compact::{Map as BTreeMap, Set as BTreeSet};
#[cfg(not(any(target_arch = "wasm32", feature = "compact")))]
pub use std::collections::{BTreeMap, BTreeSet};
