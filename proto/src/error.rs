//! Refusals on the wire: the one `Error` message, inside a gRPC status or inside the answer for one change set.
//!
//! A status carries the encoded `Error` in its details. The gRPC code beside it is for programs that know only gRPC;
//! a Halcyon client reads the details, and takes a status without them for a failed connection.

use std::time::Duration;

use halcyon_core::clock::{NTP64, WallTime};
use prost::Message;
use thiserror::Error;
use tonic::{Code, Status};

use crate::v1;
pub use crate::v1::ErrorCode;

/// Why a node refused a call or a change set.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{message}")]
pub struct Refusal {
    /// What a program decides by.
    pub code: ErrorCode,
    /// A sentence for people: what is wrong and what to do.
    pub message: String,
    /// `WRONG_REGION`: who holds the tenant.
    pub replicas: Vec<v1::Replica>,
    /// `CLOCK_DRIFT`: the node's wall clock.
    pub wall: Option<WallTime>,
    /// `LIMIT`: the limit's name.
    pub limit: String,
    /// `BUSY` and `RETRY`: how long to wait, where the node knows.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal that is a code and a sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            code,
            message,
            replicas: Vec::new(),
            wall: None,
            limit: String::new(),
            retry_after: None,
        }
    }

    /// This node may not hold the tenant; `replicas` do.
    pub fn wrong_region(message: impl Into<String>, replicas: Vec<v1::Replica>) -> Self {
        Self {
            replicas,
            ..Self::new(ErrorCode::WrongRegion, message)
        }
    }

    /// A timestamp too far ahead of `wall`.
    pub fn clock_drift(message: impl Into<String>, wall: WallTime) -> Self {
        Self {
            wall: Some(wall),
            ..Self::new(ErrorCode::ClockDrift, message)
        }
    }

    /// Over the limit of this name.
    pub fn limit(name: &str, message: impl Into<String>) -> Self {
        Self {
            limit: name.to_owned(),
            ..Self::new(ErrorCode::Limit, message)
        }
    }

    /// Too much at once.
    pub fn busy(message: impl Into<String>, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(ErrorCode::Busy, message)
        }
    }

    /// The node cannot tell yet.
    pub fn retry(message: impl Into<String>, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(ErrorCode::Retry, message)
        }
    }

    /// The refusal inside a call's status; `None` where the status is not a node's answer but a failed connection.
    pub fn from_status(status: &Status) -> Option<Self> {
        from_status(status).map(Self::from)
    }
}

impl From<v1::Error> for Refusal {
    fn from(error: v1::Error) -> Self {
        Self {
            code: error.code(),
            wall: (error.wall != 0).then_some(WallTime(NTP64(error.wall))),
            retry_after: (error.retry_after_ms != 0).then(|| Duration::from_millis(error.retry_after_ms.into())),
            message: error.message,
            replicas: error.replicas,
            limit: error.limit,
        }
    }
}

impl From<Refusal> for v1::Error {
    fn from(refusal: Refusal) -> Self {
        let millis = refusal.retry_after.unwrap_or_default().as_millis();
        Self {
            code: refusal.code.into(),
            message: refusal.message,
            replicas: refusal.replicas,
            wall: refusal.wall.unwrap_or_default().0.0,
            limit: refusal.limit,
            retry_after_ms: u32::try_from(millis).unwrap_or(u32::MAX),
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        to_status(&refusal.into())
    }
}

/// A status that carries `error`.
pub fn to_status(error: &v1::Error) -> Status {
    Status::with_details(
        grpc_code(error.code()),
        error.message.clone(),
        error.encode_to_vec().into(),
    )
}

/// The error that a status carries; `None` where it carries none.
pub fn from_status(status: &Status) -> Option<v1::Error> {
    if status.details().is_empty() {
        return None;
    }
    v1::Error::decode(status.details()).ok()
}

const fn grpc_code(code: ErrorCode) -> Code {
    match code {
        ErrorCode::Unspecified => Code::Unknown,
        ErrorCode::WrongRegion | ErrorCode::Conflict | ErrorCode::WireVersion => Code::FailedPrecondition,
        ErrorCode::ClockDrift | ErrorCode::Malformed | ErrorCode::NumberReused => Code::InvalidArgument,
        ErrorCode::Limit | ErrorCode::Busy => Code::ResourceExhausted,
        ErrorCode::Retry | ErrorCode::NoQuorum | ErrorCode::NodeRemoved => Code::Unavailable,
        ErrorCode::NotFound => Code::NotFound,
        ErrorCode::Unauthenticated => Code::Unauthenticated,
        ErrorCode::Forbidden => Code::PermissionDenied,
        ErrorCode::NotYetReplicated => Code::DeadlineExceeded,
        ErrorCode::Exists => Code::AlreadyExists,
        ErrorCode::Internal => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_status_without_details_is_not_a_refusal() {
        assert_eq!(Refusal::from_status(&Status::unavailable("connection reset")), None);
    }

    #[test]
    fn a_code_of_a_newer_release_is_unspecified() {
        let error = v1::Error {
            code: 999,
            ..v1::Error::default()
        };
        assert_eq!(Refusal::from(error).code, ErrorCode::Unspecified);
    }

    proptest! {
        #[test]
        fn a_refusal_survives_the_status(code in 0..17_i32, message: String, wall: u64, limit in "[a-z_]*", wait: u32) {
            let refusal = Refusal::from(v1::Error {
                code,
                message,
                replicas: vec![v1::Replica { node: 7, ..v1::Replica::default() }],
                wall,
                limit,
                retry_after_ms: wait,
            });
            let status = Status::from(refusal.clone());
            prop_assert_eq!(Refusal::from_status(&status), Some(refusal));
        }

        #[test]
        fn any_details_are_read_or_passed_over(details: Vec<u8>) {
            let _ = Refusal::from_status(&Status::with_details(Code::Unknown, "", details.into()));
        }
    }
}
