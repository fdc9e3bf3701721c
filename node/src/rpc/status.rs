//! Errors of the rooms as refusals on the wire: the only place that knows both.

use std::time::Duration;

use halcyon_core::{codec::DecodeError, id::IdError, query::live::Refused};
use halcyon_proto::{
    convert::ConvertError,
    error::{ErrorCode, Refusal},
};
use tonic::Status;

use super::rooms::Rooms;
use crate::{
    live::SubscribeError,
    metadata::{self, RaftRpcError, WriteError, state::Tenant},
    replication::PeerCallError,
    rooms::{AnswerError, RoomError},
    session::{End, SessionError},
    storage::types::{AdmitError, StorageError},
    tenant::{PushError, ReadError, admit},
};

/// When to come back after BUSY and RETRY: a commit or two later.
const SOON: Duration = Duration::from_millis(50);

/// When to come back after an election.
const AFTER_ELECTION: Duration = Duration::from_millis(500);

/// An error that can be told to another program.
pub(super) trait Tell {
    /// As what.
    fn tell(self) -> Refusal;
}

/// A room's error as a refusal.
pub(super) fn refusal(error: impl Tell) -> Refusal {
    error.tell()
}

/// A room's error as a call's status.
pub(super) fn refuse(error: impl Tell) -> Status {
    error.tell().into()
}

/// The refusal of a limit that goes by this name.
pub(super) fn named(limit: &str, refusal: Refusal) -> Refusal {
    Refusal {
        limit: limit.to_owned(),
        ..refusal
    }
}

impl Tell for Refusal {
    fn tell(self) -> Refusal {
        self
    }
}

impl Tell for IdError {
    fn tell(self) -> Refusal {
        Refusal::new(ErrorCode::Malformed, self.to_string())
    }
}

impl Tell for ConvertError {
    fn tell(self) -> Refusal {
        match self {
            Self::Decode(error) => error.tell(),
            Self::Missing(_) | Self::Length { .. } | Self::Id(_) => {
                Refusal::new(ErrorCode::Malformed, self.to_string())
            }
        }
    }
}

impl Tell for DecodeError {
    fn tell(self) -> Refusal {
        let text = self.to_string();
        match self {
            Self::OverLimit { field, .. } => Refusal::limit(field, text),
            _ => Refusal::new(ErrorCode::Malformed, text),
        }
    }
}

impl Tell for StorageError {
    fn tell(self) -> Refusal {
        let text = self.to_string();
        match self {
            // A client must not take it for refused: a set whose sync failed may be there after a restart.
            Self::Disk(_) | Self::Damaged { .. } | Self::Unanswered => Refusal::new(ErrorCode::Internal, text),
            Self::BadCursor => Refusal::new(ErrorCode::Malformed, text),
            Self::Closed | Self::NotHeld(_) => Refusal::retry(text, AFTER_ELECTION),
        }
    }
}

impl Tell for WriteError {
    fn tell(self) -> Refusal {
        let text = self.to_string();
        match self {
            Self::NoQuorum | Self::Deadline(_) => Refusal {
                retry_after: Some(AFTER_ELECTION),
                ..Refusal::new(
                    ErrorCode::NoQuorum,
                    format!("{text}; reads and writes of data go on. `halcyon status` shows which nodes are missing"),
                )
            },
            Self::Rejected(refused) => refused.tell(),
            Self::TooLarge(_) => Refusal::limit("command_bytes", text),
            Self::Stopped(_) => Refusal::retry(text, AFTER_ELECTION),
        }
    }
}

impl Tell for metadata::command::Refusal {
    fn tell(self) -> Refusal {
        use metadata::command::Refusal as R;
        let text = self.to_string();
        let code = match self {
            R::UnknownTenant(_) | R::UnknownRegion(_) | R::UnknownNode(_) | R::UnknownKey { .. } => ErrorCode::NotFound,
            R::NameTaken(_) | R::TenantIdTaken(_) | R::KeyExists(_) => ErrorCode::Exists,
            R::HomeOutsideRegions(_) | R::NoRegion | R::Setting { .. } => ErrorCode::Malformed,
            R::TokenUnknown | R::TokenExpired => ErrorCode::Unauthenticated,
            R::Limit { what, .. } => return Refusal::limit(&what, text),
            _ => ErrorCode::Conflict,
        };
        Refusal::new(code, text)
    }
}

impl Tell for RaftRpcError {
    fn tell(self) -> Refusal {
        let text = self.to_string();
        match self {
            Self::Malformed(_) => Refusal::new(ErrorCode::Malformed, text),
            Self::NotLeader(_) | Self::Stopped(_) => Refusal::retry(text, AFTER_ELECTION),
        }
    }
}

impl Tell for PeerCallError {
    fn tell(self) -> Refusal {
        let text = self.to_string();
        match self {
            Self::Malformed(error) => error.tell(),
            Self::NotReplicated(..) => Refusal::new(ErrorCode::Conflict, text),
            Self::Busy => named("catch_ups_per_node", Refusal::busy(text, SOON)),
            Self::Storage(error) => error.tell(),
        }
    }
}

impl Tell for RoomError {
    fn tell(self) -> Refusal {
        let text = self.to_string();
        match self {
            Self::Name | Self::Connection => Refusal::new(ErrorCode::Malformed, text),
            Self::NoSession => Refusal::new(ErrorCode::NotFound, text),
            Self::NotEntered => Refusal::new(ErrorCode::Conflict, text),
            Self::OtherTenant => Refusal::new(ErrorCode::Forbidden, text),
            Self::Rooms => Refusal::limit("rooms_per_session", text),
            Self::Full => Refusal::limit("users_per_room", text),
            Self::StatusKeys => Refusal::limit("room_status_keys", text),
            Self::TooLarge { .. } => Refusal::limit("room_bytes", text),
            Self::Sends { retry_after } => named("room_sends_per_second", Refusal::busy(text, retry_after)),
            Self::Presences { retry_after } => named("room_presences_per_second", Refusal::busy(text, retry_after)),
            Self::Drift(drift) => named("drift_max", Refusal::clock_drift(text, drift.wall)),
        }
    }
}

/// Why a peer's stream about rooms ended.
pub(super) fn room_status(error: AnswerError<Status>) -> Status {
    let text = error.to_string();
    match error {
        AnswerError::Broken(status) => status,
        AnswerError::Stale(_) => Refusal::retry(text, SOON).into(),
        AnswerError::Malformed(_) => Refusal::new(ErrorCode::Malformed, text).into(),
    }
}

impl Tell for AdmitError {
    fn tell(self) -> Refusal {
        let text = self.to_string();
        match self {
            Self::NotServing | Self::Behind => Refusal::retry(text, SOON),
            Self::NumberReused(_) => Refusal::new(ErrorCode::NumberReused, text),
            Self::NumbersFull => Refusal::limit("client_number_ranges", text),
            Self::Ahead(drift) => named("drift_max", Refusal::clock_drift(text, drift.wall)),
            Self::Busy => named("write_queue", Refusal::busy(text, SOON)),
            Self::Storage(error) => error.tell(),
        }
    }
}

impl Tell for SessionError {
    fn tell(self) -> Refusal {
        let text = self.to_string();
        match self {
            Self::Unknown => Refusal::new(ErrorCode::NotFound, text),
            Self::NotYours => Refusal::new(ErrorCode::Forbidden, text),
            Self::TooMany(_) => named("sessions", Refusal::busy(text, Duration::from_secs(1))),
        }
    }
}

impl Tell for End {
    fn tell(self) -> Refusal {
        let text = self.to_string();
        match self {
            Self::Slow => named("session_buffer", Refusal::busy(text, SOON)),
            Self::Lost => Refusal::new(ErrorCode::NotFound, text),
            Self::NotServed => Refusal::new(ErrorCode::Unauthenticated, text),
        }
    }
}

impl Rooms {
    /// Why a change set was not taken.
    pub(super) fn push_refusal(&self, tenant: &Tenant, error: PushError) -> Refusal {
        let refusal = self.push_error(tenant, error);
        // It goes inside an answer, where the edge does not see it.
        self.metrics.on_refusal(&refusal);
        refusal
    }

    fn push_error(&self, tenant: &Tenant, error: PushError) -> Refusal {
        let text = error.to_string();
        match error {
            PushError::Malformed(error) => error.tell(),
            PushError::Refused(refused) => self.admit_refusal(tenant, &refused),
            PushError::Admit(error) => error.tell(),
            PushError::Rate { retry_after, .. } => named("push_sets_per_second_max", Refusal::busy(text, retry_after)),
            PushError::OutOfTurn | PushError::Rest => Refusal::retry(text, SOON),
            PushError::NotYetReplicated(_) => Refusal::new(ErrorCode::NotYetReplicated, text),
        }
    }

    /// Why a change set may not be taken here.
    fn admit_refusal(&self, tenant: &Tenant, refused: &admit::Refusal) -> Refusal {
        let text = refused.to_string();
        match refused {
            admit::Refusal::WrongRegion { .. } => self.wrong_region(tenant),
            admit::Refusal::NotServing => Refusal {
                replicas: self.routing.locate(tenant),
                ..Refusal::retry(text, SOON)
            },
            admit::Refusal::Empty
            | admit::Refusal::NumberZero
            | admit::Refusal::Reserved(_)
            | admit::Refusal::NotUnderstood(_) => Refusal::new(ErrorCode::Malformed, text),
        }
    }

    /// Why a query is not followed.
    pub(super) fn subscribe_refusal(&self, tenant: &Tenant, error: SubscribeError) -> Refusal {
        let text = error.to_string();
        match error {
            SubscribeError::Refused(Refused::TooLarge(_) | Refused::TooManyEntities(_) | Refused::Eval(_)) => {
                Refusal::limit("live_query", text)
            }
            SubscribeError::Refused(_) => Refusal::new(ErrorCode::Malformed, text),
            SubscribeError::NumberInUse(_) | SubscribeError::NotResuming(_) => Refusal::new(ErrorCode::Conflict, text),
            SubscribeError::TooMany(_) => Refusal::limit("subscriptions_per_session", text),
            SubscribeError::TooManyPlans(_) => Refusal::limit("live_queries_per_tenant", text),
            SubscribeError::Memory(_) => Refusal::limit("live_bytes_per_tenant_max", text),
            SubscribeError::TooManyBytes(_) | SubscribeError::Answer(_) => Refusal::limit("live_query", text),
            SubscribeError::Busy => named("session_buffer", Refusal::busy(text, SOON)),
            SubscribeError::Gone => Refusal::new(ErrorCode::NotFound, text),
            SubscribeError::Read(error) => self.read_refusal(tenant, error),
            SubscribeError::Closed | SubscribeError::Anew | SubscribeError::MakingRoom => Refusal::retry(text, SOON),
        }
    }

    /// Why nothing was read.
    pub(super) fn read_refusal(&self, tenant: &Tenant, error: ReadError) -> Refusal {
        let text = error.to_string();
        match error {
            ReadError::WrongRegion { .. } => self.wrong_region(tenant),
            // Another replica may be ready: the list says which.
            ReadError::NotServing => Refusal {
                replicas: self.routing.locate(tenant),
                ..Refusal::retry(text, SOON)
            },
            ReadError::Storage(error) => error.tell(),
        }
    }
}
