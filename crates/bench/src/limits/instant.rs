//! A worker that answers immediately, so that only the path to it is measured.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use anyhow::Result;
use inferyard_proto::worker::v1::generate_event::Event;
use inferyard_proto::worker::v1::worker_server::{Worker, WorkerServer};
use inferyard_proto::worker::v1::worker_state::Phase;
use inferyard_proto::worker::v1::{
    Admitted, CancelRequest, CancelResponse, Capacity, ChoiceFinished, Delta, FinishReason,
    Finished, GenerateEvent, GenerateRequest, Usage, WatchRequest, WorkerState,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{IntervalStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt, iter};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// The worker; it runs until this is dropped.
pub(crate) struct Instant {
    /// `host:port`.
    pub(crate) address: String,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

struct Service;

/// Interval of state messages; routers treat a worker that is silent for longer as lost.
const EVERY: Duration = Duration::from_secs(1);

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

// === impl Instant ===

impl Instant {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let address = listener.local_addr()?.to_string();
        let incoming = TcpListenerStream::new(listener).map(|connection| {
            connection.and_then(|connection| connection.set_nodelay(true).map(|()| connection))
        });
        let service = WorkerServer::new(Service);
        let serving = tokio::spawn(Server::builder().serve_with_incoming(service, incoming));
        Ok(Self { address, serving })
    }
}

impl Drop for Instant {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

// === impl Service ===

#[tonic::async_trait]
impl Worker for Service {
    type GenerateStream = Events<GenerateEvent>;
    type WatchStream = Events<WorkerState>;

    async fn generate(
        &self,
        _: Request<GenerateRequest>,
    ) -> Result<Response<Self::GenerateStream>, Status> {
        let events = answer().map(|event| Ok(GenerateEvent { event: Some(event) }));
        Ok(Response::new(Box::pin(iter(events))))
    }

    /// An answer has always ended before a cancellation can arrive.
    async fn cancel(&self, _: Request<CancelRequest>) -> Result<Response<CancelResponse>, Status> {
        Err(Status::not_found("no such request"))
    }

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let state = |sequence| WorkerState {
            instance_id: 1,
            sequence,
            load_progress: 1.0,
            model: inferyard_demo_model::NAME.to_owned(),
            phase: Phase::Ready.into(),
            capacity: Some(Capacity {
                max_running: 1_024,
                max_queued: 1_024,
                kv_total_tokens: 1 << 24,
                context_length: 1 << 16,
                template_tokens: 0,
            }),
            ..WorkerState::default()
        };
        let mut sequence = 0;
        let states = IntervalStream::new(tokio::time::interval(EVERY)).map(move |_| {
            sequence += 1;
            Ok(state(sequence))
        });
        Ok(Response::new(Box::pin(states)))
    }
}

/// An answer of one token.
fn answer() -> [Event; 4] {
    let usage = Usage {
        prompt_tokens: 20,
        completion_tokens: 1,
        ..Usage::default()
    };
    [
        Event::Admitted(Admitted {
            prompt_tokens: usage.prompt_tokens,
            ..Admitted::default()
        }),
        Event::Delta(Delta {
            content: "echo".to_owned(),
            token_count: usage.completion_tokens,
            ..Delta::default()
        }),
        Event::ChoiceFinished(ChoiceFinished {
            reason: FinishReason::Stop.into(),
            ..ChoiceFinished::default()
        }),
        Event::Finished(Finished { usage: Some(usage) }),
    ]
}
