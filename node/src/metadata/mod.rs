//! The control plane. Stub: the owner replaces this file; `state.rs` is the contract.

pub mod state;
