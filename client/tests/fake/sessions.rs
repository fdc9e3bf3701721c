//! The `Sessions` service of a pretended node: real streams, and live queries answered from scratch.

use std::{pin::Pin, time::Duration};

use futures::Stream;
use halcyon_proto::v1::{self, sessions_server::Sessions};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use super::{Node, live};

type Events = Pin<Box<dyn Stream<Item = Result<v1::ConnectResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Sessions for Node {
    type ConnectStream = Events;

    async fn connect(&self, request: Request<v1::ConnectRequest>) -> Result<Response<Events>, Status> {
        self.enter(&request).await?;
        self.check_here()?;
        let (session, events) = self.live().connect(request.get_ref());
        let (messages, stream) = mpsc::channel(4);
        let node = self.clone();
        tokio::spawn(async move { node.tell(session, events, messages).await });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(
            stream,
        ))))
    }

    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<v1::SubscribeResponse>, Status> {
        self.enter(&request).await?;
        Ok(Response::new(self.live().subscribe(request.get_ref())?))
    }

    async fn unsubscribe(
        &self,
        request: Request<v1::UnsubscribeRequest>,
    ) -> Result<Response<v1::UnsubscribeResponse>, Status> {
        self.enter(&request).await?;
        self.live().unsubscribe(request.get_ref());
        Ok(Response::new(v1::UnsubscribeResponse {}))
    }
}

impl Node {
    pub(crate) fn live(&self) -> std::sync::MutexGuard<'_, live::Node> {
        self.live.lock().unwrap()
    }

    async fn tell(
        &self,
        session: u8,
        mut events: Vec<v1::ConnectResponse>,
        messages: mpsc::Sender<Result<v1::ConnectResponse, Status>>,
    ) {
        let mut after = 0;
        loop {
            for event in events.drain(..) {
                after = event.number;
                if messages.send(Ok(event)).await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
            if self.faults.lock().unwrap().down {
                let _ = messages.send(Err(Status::unavailable("down"))).await;
                return;
            }
            events = self.live().events(session, after);
        }
    }
}
