//! One call of a worker, from the sending of the request to the end of its events.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use inferyard_proto::worker::v1::worker_client::WorkerClient;
use inferyard_proto::worker::v1::{GenerateEvent, GenerateRequest};
use tokio_stream::Stream as _;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

type Opened = Result<Response<Streaming<GenerateEvent>>, Status>;

/// A call that can be handed on at any moment, also before the worker has answered to it.
pub(super) enum Call {
    Opening(Pin<Box<dyn Future<Output = Opened> + Send>>),
    Open(Box<Streaming<GenerateEvent>>),
}

// === impl Call ===

impl Call {
    /// Nothing is sent before it is polled.
    pub(super) fn new(
        mut client: WorkerClient<Channel>,
        request: Request<GenerateRequest>,
    ) -> Self {
        Self::Opening(Box::pin(async move { client.generate(request).await }))
    }

    /// The next event; after an error or the end not to be asked again.
    pub(super) fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<GenerateEvent, Status>>> {
        loop {
            match self {
                Self::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                    Ok(response) => *self = Self::Open(Box::new(response.into_inner())),
                    Err(status) => return Poll::Ready(Some(Err(status))),
                },
                Self::Open(events) => return Pin::new(&mut **events).poll_next(cx),
            }
        }
    }
}
