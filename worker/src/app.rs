//! The life of a worker: bind, load, serve, drain, end.

mod listen;

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use inferyard_engine::state::State;
use inferyard_engine::{Engine, EngineHandle, StartEngine};
use inferyard_listen::{Address, Listener};
use inferyard_proto::worker::v1::worker_server::{self, WorkerServer};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::config::Config;
use crate::metrics;
use crate::rpc::{Service, Services};

/// The service of `grpc.health.v1` that is served as long as the process lives.
const LIVENESS: &str = "liveness";
/// The largest message a router may send: above its own limit for bodies.
const MAX_MESSAGE: usize = 64 << 20;
/// One frame for most prompts: at 16 KiB a long one costs twice as much.
const MAX_FRAME: u32 = 1 << 20;
/// What one prompt may send before it is read.
const STREAM_WINDOW: u32 = 4 << 20;
/// What all prompts of a router may send before they are read.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Requests of one router at a time; the queue is the limit that matters.
const MAX_STREAMS: u32 = 16_384;
/// How long clients may take for their last events once the engine has ended.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How often a silent connection is pinged.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A worker that has bound its address.
pub struct Worker {
    config: Config,
    listeners: Listeners,
    service: Service,
}

/// The bound addresses.
struct Listeners {
    grpc: Listener,
    metrics: Option<TcpListener>,
}

/// Why a worker does not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be bound.
    #[error(transparent)]
    Listen(#[from] inferyard_listen::BindError),
    /// The metrics address cannot be bound.
    #[error("cannot serve metrics on {address}")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// Why a worker ended without a shutdown.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The model cannot be served.
    #[error("the model cannot be served")]
    Load(#[source] Box<dyn Error + Send + Sync>),
    /// The operating system starts no thread for the engine.
    #[error("the engine's thread does not start")]
    Thread(#[source] io::Error),
    /// The engine's thread has ended.
    #[error("the engine broke; its last words are in the log")]
    Engine,
    /// The gRPC server has ended.
    #[error("the gRPC server broke")]
    Serve(#[source] tonic::transport::Error),
}

/// The servers of a worker, which run whatever the engine does.
struct Serving {
    service: Service,
    health: HealthReporter,
    server: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
}

// === impl Worker ===

impl Worker {
    /// Binds the address and the metrics port, and reads nothing yet.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        let listeners = Listeners::bind(&config).await?;
        let service = Service {
            state: Arc::new(State::new(config.model.clone(), instance_id()?)),
            engine: Arc::new(OnceLock::new()),
            open: Arc::default(),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
        };
        Ok(Self {
            config,
            listeners,
            service,
        })
    }

    /// The gRPC service itself, for callers in the same process: what they call through it is
    /// served while [`run`](Self::run) runs.
    #[must_use]
    pub fn service(&self) -> impl worker_server::Worker + Clone + use<> {
        self.service.clone()
    }

    /// The address of the gRPC server.
    #[must_use]
    pub fn address(&self) -> &Address {
        self.listeners.grpc.address()
    }

    /// The address of the metrics.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        let metrics = self.listeners.metrics.as_ref();
        metrics.and_then(|listener| listener.local_addr().ok())
    }

    /// Starts the engine, which loads the model, and serves it until `shutdown`.
    ///
    /// # Flow
    ///
    /// It answers `Watch` and health at once, and `Generate` once the model is loaded. After
    /// `shutdown` new requests are refused, those that run may finish within the drain timeout,
    /// and then it returns.
    ///
    /// # Errors
    ///
    /// The model cannot be served, or the engine or the server broke.
    pub async fn run(
        self,
        engine: impl StartEngine,
        shutdown: CancellationToken,
    ) -> Result<(), RunError> {
        let drain_timeout = self.config.drain_timeout;
        let state = Arc::clone(&self.service.state);
        let mut engine = engine.start(state).map_err(RunError::Thread)?;
        let mut serving = Serving::start(self.listeners, self.service).await;
        let outcome = serving.serve(&mut engine, &shutdown, drain_timeout).await;
        serving.end().await;
        outcome
    }
}

// === impl Listeners ===

impl Listeners {
    async fn bind(config: &Config) -> Result<Self, BindError> {
        let grpc = Listener::bind(&config.listen).await?;
        let metrics = match config.metrics {
            None => None,
            Some(address) => {
                let bound = TcpListener::bind(address).await;
                Some(bound.map_err(|source| BindError::Metrics { address, source })?)
            }
        };
        Ok(Self { grpc, metrics })
    }
}

// === impl Serving ===

impl Serving {
    async fn start(listeners: Listeners, service: Service) -> Self {
        let (health, health_service) = tonic_health::server::health_reporter();
        let Service {
            state,
            tasks,
            shutdown,
            ..
        } = service.clone();
        let services = Services {
            worker: WorkerServer::new(service.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
            health: health_service,
        };
        let server = tasks.spawn(listen::serve(
            listeners.grpc,
            builder(),
            services,
            shutdown.clone(),
        ));
        if let Some(listener) = listeners.metrics {
            tasks.spawn(metrics::serve(listener, state, shutdown));
        }
        let serving = Self {
            service,
            health,
            server,
        };
        serving.report(ServingStatus::NotServing).await;
        // Liveness is about the process: restarting the worker does not bring its engine back.
        let liveness = ServingStatus::Serving;
        serving.health.set_service_status(LIVENESS, liveness).await;
        serving
    }

    async fn serve(
        &mut self,
        engine: &mut impl EngineHandle,
        shutdown: &CancellationToken,
        drain_timeout: Duration,
    ) -> Result<(), RunError> {
        let loaded = tokio::select! {
            loaded = engine.loaded() => loaded.map_err(|error| RunError::Load(error.into()))?,
            broken = &mut self.server => return Err(server_broke(broken)),
            () = shutdown.cancelled() => {
                self.drain(engine, drain_timeout).await;
                return Ok(());
            }
        };
        let (capacity, note) = (loaded.capacity(), loaded.note());
        // The engine is set before routers are told that the worker is ready.
        self.service.engine.get_or_init(|| Arc::new(loaded));
        self.service.state.set_ready(capacity);
        if !note.is_empty() {
            self.service.state.set_note(note.to_owned());
        }
        self.report(ServingStatus::Serving).await;
        tracing::info!(
            model = self.service.state.model(),
            max_running = capacity.max_running,
            context_length = capacity.context_length,
            kv_tokens = capacity.kv_total_tokens,
            "ready"
        );
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break self.drain(engine, drain_timeout).await,
                changed = engine.health_changed() => match changed {
                    Some(up) => self.report(serving_status(up)).await,
                    None => return Err(RunError::Engine),
                },
                broken = &mut self.server => return Err(server_broke(broken)),
            }
        }
        Ok(())
    }

    async fn drain(&self, engine: &mut impl EngineHandle, drain_timeout: Duration) {
        self.service.state.set_draining();
        self.report(ServingStatus::NotServing).await;
        engine.drain();
        if timeout(drain_timeout, engine.ended()).await.is_err() {
            tracing::warn!("requests still ran at the end of the drain timeout; they fail");
            engine.stop();
            engine.ended().await;
        }
    }

    async fn report(&self, status: ServingStatus) {
        self.health.set_service_status("", status).await;
        self.health
            .set_service_status("inferyard.worker.v1.Worker", status)
            .await;
    }

    /// Lets clients read their last events, and ends all tasks.
    async fn end(self) {
        let Service {
            shutdown, tasks, ..
        } = &self.service;
        shutdown.cancel();
        tasks.close();
        if timeout(LAST_WORDS, tasks.wait()).await.is_err() {
            tracing::warn!("connections were still open at the end; they are cut");
            self.server.abort();
        }
    }
}

fn serving_status(up: bool) -> ServingStatus {
    if up {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    }
}

fn builder() -> Server {
    Server::builder()
        .max_frame_size(MAX_FRAME)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .tcp_nodelay(true)
}

fn server_broke(
    broken: Result<Result<(), tonic::transport::Error>, tokio::task::JoinError>,
) -> RunError {
    match broken {
        Ok(Err(error)) => RunError::Serve(error),
        // It ends by itself only with an error, or with a panic that is in the log.
        Ok(Ok(())) | Err(_) => RunError::Engine,
    }
}

fn instance_id() -> Result<u64, BindError> {
    getrandom::u64().map_err(|_| BindError::Random)
}
