//! The Rooms service: what clients do in rooms. What happens in them comes on their session's stream.
//!
//! Who has the tenant's key and an open session may enter any room of the tenant: a room's id is as secret as the app
//! makes it.

use halcyon_core::id::TenantId;
use halcyon_proto::{
    error::{ErrorCode, Refusal},
    v1::{self, rooms_server},
};
use tonic::{Request, Response, Status};

use super::{
    rooms::Rooms,
    status::{refusal, refuse},
};
use crate::{
    rooms::{
        engine::{Saying, Setting},
        timestamp,
    },
    session::SessionId,
};

/// See there.
#[derive(Debug)]
pub(super) struct RoomService {
    rooms: Rooms,
}

impl RoomService {
    pub(super) const fn new(rooms: Rooms) -> Self {
        Self { rooms }
    }

    /// The caller's session, and its tenant, if this node serves it.
    async fn admit<T>(
        &self,
        request: &Request<T>,
        (tenant, session): (&str, &[u8]),
    ) -> Result<(SessionId, TenantId), Refusal> {
        let (_, owner) = self.rooms.enter(request.metadata(), tenant).await?;
        let session = self.rooms.session(owner, session)?;
        Ok((session.id(), owner.tenant))
    }
}

#[tonic::async_trait]
impl rooms_server::Rooms for RoomService {
    async fn enter_room(
        &self,
        request: Request<v1::EnterRoomRequest>,
    ) -> Result<Response<v1::EnterRoomResponse>, Status> {
        let message = request.get_ref();
        let caller = self.admit(&request, (&message.tenant, &message.session)).await?;
        let user = (message.user.as_str(), message.presence.as_str());
        let entered = self.rooms.lobby.enter(caller, &message.room, user);
        let (room, connection) = entered.map_err(refuse)?;
        Ok(Response::new(v1::EnterRoomResponse {
            room: room.as_str().to_owned(),
            connection: connection.to_string(),
        }))
    }

    async fn leave_room(
        &self,
        request: Request<v1::LeaveRoomRequest>,
    ) -> Result<Response<v1::LeaveRoomResponse>, Status> {
        let message = request.get_ref();
        let caller = self.admit(&request, (&message.tenant, &message.session)).await?;
        let left = self.rooms.lobby.leave(caller, &message.room);
        left.map_err(refuse)?;
        Ok(Response::new(v1::LeaveRoomResponse {}))
    }

    async fn set_presence(
        &self,
        request: Request<v1::SetPresenceRequest>,
    ) -> Result<Response<v1::SetPresenceResponse>, Status> {
        let message = request.get_ref();
        let caller = self.admit(&request, (&message.tenant, &message.session)).await?;
        let set = self.rooms.lobby.set_presence(caller, &message.room, &message.presence);
        set.map_err(refuse)?;
        Ok(Response::new(v1::SetPresenceResponse {}))
    }

    async fn set_room_status(
        &self,
        request: Request<v1::SetRoomStatusRequest>,
    ) -> Result<Response<v1::SetRoomStatusResponse>, Status> {
        let message = request.get_ref();
        let caller = self.admit(&request, (&message.tenant, &message.session)).await?;
        let settings: Result<_, Refusal> = message.status.iter().map(setting).collect();
        let set = self.rooms.lobby.set_status(caller, &message.room, settings?);
        set.map_err(refuse)?;
        Ok(Response::new(v1::SetRoomStatusResponse {}))
    }

    async fn send_room_message(
        &self,
        request: Request<v1::SendRoomMessageRequest>,
    ) -> Result<Response<v1::SendRoomMessageResponse>, Status> {
        let message = request.get_ref();
        let caller = self.admit(&request, (&message.tenant, &message.session)).await?;
        let saying = saying(message)?;
        let sent = self.rooms.lobby.send(caller, &message.room, saying);
        sent.map_err(refuse)?;
        Ok(Response::new(v1::SendRoomMessageResponse {}))
    }
}

fn setting(message: &v1::RoomStatus) -> Result<Setting, Refusal> {
    Ok(Setting {
        key: message.key.as_str().into(),
        value: message.value.as_str().into(),
        timestamp: timestamp(&message.timestamp).map_err(refusal)?,
    })
}

fn saying(request: &v1::SendRoomMessageRequest) -> Result<Saying, Refusal> {
    let missing = || Refusal::new(ErrorCode::Malformed, "the message is missing");
    let message = request.message.as_ref().ok_or_else(missing)?;
    let to: Result<_, _> = request.to.iter().map(|id| id.parse()).collect();
    Ok(Saying {
        topic: message.topic.as_str().into(),
        payload: message.payload.as_str().into(),
        timestamp: timestamp(&message.timestamp).map_err(refusal)?,
        to: to.map_err(|error: crate::rooms::RoomError| refusal(error))?,
    })
}
