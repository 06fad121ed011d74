//! One worker: its connection, and the slots taken on it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use inferyard_placement::WorkerId;
use inferyard_proto::worker::v1::WorkerState;
use inferyard_proto::worker::v1::worker_client::WorkerClient;
use inferyard_proto::worker::v1::worker_state::Phase;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::hop::Connection;
use inferyard_catalog::Endpoint;

/// For what is not on the way of a token: `Watch` and `Cancel`.
const CONNECT_TIME: Duration = Duration::from_secs(2);
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Of a state with all prefixes that a worker holds.
const LARGEST_STATE: usize = 64 << 20;

/// A worker that the catalog names.
pub(crate) struct Worker {
    endpoint: Endpoint,
    /// Requests and their answers go this way, and everything else by `client`.
    connection: Arc<Connection>,
    client: WorkerClient<Channel>,
    id: WorkerId,
    /// Requests of this router that run here.
    running: AtomicU32,
    /// Requests that it had beyond those, when it last spoke.
    others: AtomicU32,
    /// It is about to end, or is not named any longer.
    leaving: AtomicBool,
    crashes: Mutex<Crashes>,
    /// Ends the task that follows the state.
    following: CancellationToken,
}

/// How often a worker broke off.
#[derive(Clone, Copy, Debug, Default)]
struct Crashes {
    number: u64,
    /// Requests that it had when it last did.
    requests: u32,
}

// === impl Worker ===

impl Worker {
    /// A worker that is not yet known; `following` ends with it.
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

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// For calls that are rare.
    pub(crate) fn client(&self) -> WorkerClient<Channel> {
        self.client.clone()
    }

    /// Requests of this router that run here.
    pub(crate) fn running(&self) -> u32 {
        self.running.load(Ordering::Relaxed)
    }

    pub(super) fn id(&self) -> WorkerId {
        self.id
    }

    /// It is not one of the crew any longer, and nobody listens to it.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        self.following.cancel();
    }

    /// It said how it is.
    pub(super) fn said(&self, state: &WorkerState) {
        let all = state.open_requests.saturating_add(state.queued);
        let others = all.saturating_sub(self.running());
        self.others.store(others, Ordering::Relaxed);
        let draining = state.phase() == Phase::Draining;
        self.leaving.store(draining, Ordering::Relaxed);
    }

    /// A request of this router begins here. How often the worker had broken off until then.
    pub(super) fn begins(&self) -> u64 {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.crashes().number
    }

    /// One that began has ended.
    pub(super) fn ends(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    /// It broke off under a request before which it had done so `before` times. Whether it had no other request at
    /// that moment, and was not about to end: all requests that this ends come here one after the other, and only the
    /// first can count the others.
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

    fn crashes(&self) -> std::sync::MutexGuard<'_, Crashes> {
        // Only numbers are written under the lock.
        self.crashes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn channel(endpoint: &Endpoint) -> Channel {
    let address = match endpoint {
        Endpoint::Tcp(address) => format!("http://{address}"),
        // Only the connector knows the path; HTTP needs some name all the same.
        Endpoint::Unix(_) => "http://localhost".to_owned(),
    };
    let settings = tonic::transport::Endpoint::from_shared(address)
        // The catalog's type promises `host:port`; a host that no URI can hold resolves nowhere.
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
