//! Halcyon on the wire: the generated code of `halcyon.v1`, and checked conversions between it and core's types.
//!
//! Bytes become checked types here, once; past this crate nobody checks again.

pub mod convert;
pub mod error;
pub mod header;
pub mod version;

/// Generated from `proto/halcyon/v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::pedantic,
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("halcyon.v1");
}
