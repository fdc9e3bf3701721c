//! Storage of triples. Stub: the owner replaces this file; `types.rs` is the contract.

pub mod types;
