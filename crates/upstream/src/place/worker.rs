//! One worker: its connections, and the slots taken on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use inferyard_placement::WorkerId;
use inferyard_proto::worker::v1::WorkerState;
use inferyard_proto::worker::v1::worker_client::WorkerClient;
use inferyard_proto::worker::v1::worker_state::Phase;
use parking_lot::Mutex;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::grpc::Connection;
use inferyard_catalog::Endpoint;

/// Timeout of the connection for `Watch` and `Cancel`, in which no tokens flow.
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// Interval of HTTP/2 pings, and the timeout of each.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Bytes of a state with all prefixes of a worker, at most.
const LARGEST_STATE: usize = 64 << 20;

/// A worker of the catalog.
pub struct Worker {
    endpoint: Endpoint,
    /// Carries `Generate`; all other calls use `client`.
    connection: Arc<Connection>,
    client: WorkerClient<Channel>,
    id: WorkerId,
    /// Requests of this router that run on it.
    running: AtomicU32,
    /// Requests of other routers that it reported in its last state.
    others: AtomicU32,
    /// It is draining, or no longer declared.
    leaving: AtomicBool,
    crashes: Mutex<Crashes>,
    /// Stops the task that follows the state.
    following: CancellationToken,
}

/// Crashes of a worker.
#[derive(Clone, Copy, Debug, Default)]
struct Crashes {
    number: u64,
    /// Requests on it at the last crash.
    requests: u32,
}

// === impl Worker ===

impl Worker {
    /// A worker without a known state; `following` stops the task that follows it.
    pub(super) fn new(endpoint: Endpoint, id: WorkerId, following: CancellationToken) -> Self {
        let client = WorkerClient::new(channel(&endpoint)).max_decoding_message_size(LARGEST_STATE);
        Self {
            connection: Arc::new(Connection::new(endpoint.clone())),
            endpoint,
            client,
            id,
            running: AtomicU32::new(0),
            others: AtomicU32::new(0),
            leaving: AtomicBool::new(false),
            crashes: Mutex::default(),
            following,
        }
    }

    /// Its address.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The client for rare calls.
    pub(crate) fn client(&self) -> WorkerClient<Channel> {
        self.client.clone()
    }

    /// Requests of this router that run on it.
    pub fn running(&self) -> u32 {
        self.running.load(Ordering::Relaxed)
    }

    pub(super) fn id(&self) -> WorkerId {
        self.id
    }

    /// It is no longer declared: stops following its state.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        self.following.cancel();
    }

    /// Takes from a state what concerns crashes.
    pub(super) fn said(&self, state: &WorkerState) {
        let all = state.open_requests.saturating_add(state.queued);
        let others = all.saturating_sub(self.running());
        self.others.store(others, Ordering::Relaxed);
        let draining = state.phase() == Phase::Draining;
        self.leaving.store(draining, Ordering::Relaxed);
    }

    /// A request of this router starts. Returns the crash count so far.
    pub(super) fn begins(&self) -> u64 {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.crashes().number
    }

    /// A request has ended.
    pub(super) fn ends(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    /// Records that the worker crashed during a request that started at crash count `before`. True: it had no other
    /// request, and was not draining or removed. All requests of one crash call this in turn, so only the first one
    /// counts the requests that ran.
    pub(super) fn crashed_alone(&self, before: u64) -> bool {
        let mut crashes = self.crashes();
        if crashes.number == before {
            crashes.number += 1;
            crashes.requests = self.running() + self.others.load(Ordering::Relaxed);
        }
        crashes.number == before + 1
            && crashes.requests == 1
            && !self.leaving.load(Ordering::Relaxed)
    }

    fn crashes(&self) -> parking_lot::MutexGuard<'_, Crashes> {
        // Only numbers are written under the lock, so poisoning does no harm.
        self.crashes.lock()
    }
}

fn channel(endpoint: &Endpoint) -> Channel {
    let address = match endpoint {
        Endpoint::Tcp(address) => format!("http://{address}"),
        // HTTP needs an authority; the connector ignores it.
        Endpoint::Unix(_) => "http://localhost".to_owned(),
    };
    let settings = tonic::transport::Endpoint::from_shared(address)
        // The catalog's type guarantees `host:port`; a host that is no valid URI cannot be resolved.
        .unwrap_or_else(|_| tonic::transport::Endpoint::from_static("http://invalid.invalid:1"))
        .connect_timeout(CONNECT_TIME)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    match endpoint {
        Endpoint::Tcp(_) => settings.connect_lazy(),
        Endpoint::Unix(path) => {
            let path = path.clone();
            settings.connect_with_connector_lazy(tower::service_fn(move |_| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            }))
        }
    }
}
