//! A real gRPC server that sends what the test tells it to.

use std::collections::HashMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use inferyard_catalog::Endpoint;
use inferyard_proto::worker::v1::generate_event::Event;
use inferyard_proto::worker::v1::worker_server::{Worker, WorkerServer};
use inferyard_proto::worker::v1::worker_state::Phase;
use inferyard_proto::worker::v1::{
    Admitted, CancelRequest, CancelResponse, Capacity, ChoiceFinished, Delta, Failed, FinishReason,
    Finished, GenerateEvent, GenerateRequest, Usage, WatchRequest, WorkerState, failed::Kind,
};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream, UnixListenerStream, WatchStream};
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::within;

/// A worker on a runtime of its own, so that it can die like a process: at once, with all its connections.
pub(crate) struct ScriptedWorker {
    pub(crate) endpoint: Endpoint,
    pub(crate) state: watch::Sender<WorkerState>,
    silent: Arc<AtomicBool>,
    calls: mpsc::UnboundedReceiver<Call>,
    runtime: Option<Runtime>,
}

/// A call of `Generate`; dropping it ends the stream.
pub(crate) struct Call {
    pub(crate) request: GenerateRequest,
    pub(crate) metadata: MetadataMap,
    events: mpsc::Sender<Result<GenerateEvent, Status>>,
    cancel: CancellationToken,
}

struct Service {
    state: watch::Sender<WorkerState>,
    silent: Arc<AtomicBool>,
    calls: mpsc::UnboundedSender<Call>,
    cancels: Mutex<HashMap<String, CancellationToken>>,
}

impl ScriptedWorker {
    /// A ready worker of the model `m` on a TCP port.
    pub(crate) async fn start() -> Self {
        let (runtime, worker, service) = Self::parts();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let listener = listener.into_std().unwrap();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let incoming = TcpListenerStream::new(listener);
            let incoming =
                incoming.map(|stream| stream.inspect(|stream| stream.set_nodelay(true).unwrap()));
            server().serve_with_incoming(service, incoming).await
        });
        worker(runtime, Endpoint::Tcp(address.into()))
    }

    /// A ready worker of the model `m` on a Unix socket.
    pub(crate) fn start_unix(path: &Path) -> Self {
        let (runtime, worker, service) = Self::parts();
        let socket = path.to_owned();
        let listener = {
            let _guard = runtime.enter();
            UnixListener::bind(socket).unwrap()
        };
        let incoming = UnixListenerStream::new(listener);
        runtime.spawn(server().serve_with_incoming(service, incoming));
        worker(runtime, Endpoint::Unix(path.to_owned()))
    }

    fn parts() -> (
        Runtime,
        impl FnOnce(Runtime, Endpoint) -> Self,
        WorkerServer<Service>,
    ) {
        let (state, _) = watch::channel(ready());
        let (sender, calls) = mpsc::unbounded_channel();
        let silent = Arc::new(AtomicBool::new(false));
        let service = Service {
            state: state.clone(),
            silent: Arc::clone(&silent),
            calls: sender,
            cancels: Mutex::default(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let worker = |runtime, endpoint| Self {
            endpoint,
            state,
            silent,
            calls,
            runtime: Some(runtime),
        };
        (runtime, worker, WorkerServer::new(service))
    }

    /// The next call, within `PATIENCE`; a dead worker gets none.
    pub(crate) async fn call(&mut self) -> Call {
        within(self.next_call()).await
    }

    /// The next call, without a timeout.
    pub(crate) async fn next_call(&mut self) -> Call {
        match self.calls.recv().await {
            Some(call) => call,
            None => std::future::pending().await,
        }
    }

    /// Whether a call has arrived.
    pub(crate) fn was_called(&mut self) -> bool {
        self.calls.try_recv().is_ok()
    }

    /// Changes the worker's reported state.
    pub(crate) fn becomes(&self, change: impl FnOnce(&mut WorkerState)) {
        self.state.send_modify(change);
    }

    /// Stops reporting its state, but keeps its connections.
    pub(crate) fn falls_silent(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }

    /// Dies as by SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for ScriptedWorker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Configured like the real worker.
fn server() -> Server {
    Server::builder().max_frame_size(1 << 20)
}

fn ready() -> WorkerState {
    WorkerState {
        instance_id: 1,
        phase: Phase::Ready.into(),
        load_progress: 1.0,
        model: "m".to_owned(),
        capacity: Some(Capacity {
            max_running: 64,
            max_queued: 64,
            kv_total_tokens: 1 << 20,
            context_length: 1 << 14,
            template_tokens: 0,
        }),
        ..WorkerState::default()
    }
}

impl Call {
    /// Sends one event; a client that has disconnected does not fail the test.
    pub(crate) async fn say(&self, event: Event) {
        let event = GenerateEvent { event: Some(event) };
        let _ = within(self.events.send(Ok(event))).await;
    }

    /// Sends a complete short answer.
    pub(crate) async fn say_hello(self) {
        self.say(admitted(10, 4)).await;
        self.say(delta("Hello")).await;
        self.say(delta(" world")).await;
        self.say(choice_finished()).await;
        self.say(finished(10, 4, 2)).await;
    }

    /// Sends deltas until the router cancels or drops the call, at most `most`; returns their number.
    pub(crate) async fn pump(self, most: usize) -> usize {
        for count in 0..most {
            let event = GenerateEvent {
                event: Some(delta("token ")),
            };
            tokio::select! {
                sent = self.events.send(Ok(event)) => if sent.is_err() {
                    return count;
                },
                () = self.cancel.cancelled() => return count,
            }
        }
        most
    }

    /// Waits until the router has cancelled the call.
    pub(crate) async fn cancelled(&self) {
        within(self.cancel.cancelled()).await;
    }

    /// Waits until the router has cancelled the call, and ends it with this usage.
    pub(crate) async fn ends_when_cancelled(self, usage: Usage) {
        self.cancelled().await;
        let failed = Failed {
            kind: Kind::Cancelled.into(),
            usage: Some(usage),
            ..Failed::default()
        };
        self.say(Event::Failed(failed)).await;
    }

    /// Waits until the router has dropped the stream.
    pub(crate) async fn dropped(&self) {
        within(self.events.closed()).await;
    }
}

#[tonic::async_trait]
impl Worker for Service {
    type GenerateStream = ReceiverStream<Result<GenerateEvent, Status>>;
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WorkerState, Status>> + Send>>;

    async fn generate(
        &self,
        request: Request<GenerateRequest>,
    ) -> Result<Response<Self::GenerateStream>, Status> {
        let (events, receiver) = mpsc::channel(16);
        let (metadata, _, request) = request.into_parts();
        let cancel = CancellationToken::new();
        let id = request.request_id.clone();
        self.cancels.lock().unwrap().insert(id, cancel.clone());
        let call = Call {
            request,
            metadata,
            events,
            cancel,
        };
        let _ = self.calls.send(call);
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn cancel(
        &self,
        request: Request<CancelRequest>,
    ) -> Result<Response<CancelResponse>, Status> {
        let cancels = self.cancels.lock().unwrap();
        match cancels.get(&request.get_ref().request_id) {
            Some(cancel) => cancel.cancel(),
            None => return Err(Status::not_found("none")),
        }
        Ok(Response::new(CancelResponse {}))
    }

    async fn watch(
        &self,
        _request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let changes = WatchStream::new(self.state.subscribe());
        let state = self.state.clone();
        let beat = tokio::time::interval(std::time::Duration::from_secs(1));
        let beats = tokio_stream::wrappers::IntervalStream::new(beat);
        let silent = Arc::clone(&self.silent);
        let beats = beats
            .filter(move |_| !silent.load(Ordering::Relaxed))
            .map(move |_| state.borrow().clone());
        let mut sequence = 0;
        let numbered = changes.merge(beats).map(move |mut state| {
            sequence += 1;
            state.sequence = sequence;
            Ok(state)
        });
        Ok(Response::new(Box::pin(numbered)))
    }
}

pub(crate) fn admitted(prompt_tokens: u32, cached_tokens: u32) -> Event {
    Event::Admitted(Admitted {
        prompt_tokens,
        cached_tokens,
    })
}

pub(crate) fn delta(content: &str) -> Event {
    Event::Delta(Delta {
        content: content.to_owned(),
        token_ids: vec![1],
        token_count: 1,
        ..Delta::default()
    })
}

pub(crate) fn choice_finished() -> Event {
    Event::ChoiceFinished(ChoiceFinished {
        choice: 0,
        reason: FinishReason::Stop.into(),
    })
}

pub(crate) fn finished(prompt_tokens: u32, cached_tokens: u32, completion_tokens: u32) -> Event {
    Event::Finished(Finished {
        usage: Some(usage(prompt_tokens, cached_tokens, completion_tokens)),
    })
}

pub(crate) fn usage(prompt_tokens: u32, cached_tokens: u32, completion_tokens: u32) -> Usage {
    Usage {
        prompt_tokens,
        cached_tokens,
        completion_tokens,
        reasoning_tokens: 0,
    }
}

pub(crate) fn failed(kind: Kind, message: &str, param: &str) -> Event {
    Event::Failed(Failed {
        kind: kind.into(),
        message: message.to_owned(),
        param: param.to_owned(),
        ..Failed::default()
    })
}
