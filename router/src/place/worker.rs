//! One worker: its connection, the task that follows its state, and the slots taken on it.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use inferyard_proto::worker::v1::worker_client::WorkerClient;
use inferyard_proto::worker::v1::{WatchRequest, WorkerState};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;
use tonic::transport::Channel;

use super::view::{Expected, Standing, View, Work};
use crate::catalog::Endpoint;

/// A worker speaks at least once a second; after this silence it is taken for broken.
const SILENCE: Duration = Duration::from_secs(3);
/// Pauses between attempts to follow a worker's state, doubled after each.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const CONNECT_TIME: Duration = Duration::from_secs(2);
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Above the largest body that a router can be set to accept, with the chain of its blocks.
const LARGEST_MESSAGE: usize = 64 << 20;
/// What a worker may send on one stream before the client takes it: the back-pressure of a slow
/// client begins here.
const STREAM_WINDOW: u32 = 32 << 10;
/// h2 charges 256 bytes minus its length for each small unread frame, and closes the connection
/// with all its streams once the charge exceeds half of this window. A full stream window of token
/// frames costs about 320 KB, so thousands of stalled clients fit.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// A worker that the catalog names.
pub(crate) struct Worker {
    endpoint: Endpoint,
    client: WorkerClient<Channel>,
    view: Mutex<View>,
    /// Requests of this router that run here.
    running: AtomicU32,
    /// Ends the task that follows the state.
    _following: DropGuard,
}

/// A place on a worker; dropping it gives the place back.
pub(crate) struct Slot {
    worker: Arc<Worker>,
    boot_id: u64,
    serial: u64,
}

/// Why a worker's stream of states ended.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error("{0}")]
    Broken(#[source] Status),
    #[error("the worker ended its stream of states")]
    Ended,
    #[error("the worker was silent for {SILENCE:?}")]
    Silent,
}

// === impl Worker ===

impl Worker {
    /// A worker that is not yet known; `following` ends with it.
    pub(crate) fn new(endpoint: Endpoint, following: CancellationToken) -> Self {
        let client = WorkerClient::new(channel(&endpoint))
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(LARGEST_MESSAGE);
        Self {
            endpoint,
            client,
            view: Mutex::default(),
            running: AtomicU32::new(0),
            _following: following.drop_guard(),
        }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn client(&self) -> WorkerClient<Channel> {
        self.client.clone()
    }

    /// Requests of this router that run here.
    pub(crate) fn running(&self) -> u32 {
        self.running.load(Ordering::Relaxed)
    }

    pub(crate) fn standing(&self, model: &str) -> Standing {
        self.view().standing(model)
    }

    pub(crate) fn expect(&self, work: &Work<'_>) -> Option<Expected> {
        self.view().expect(work)
    }

    pub(crate) fn context_length(&self) -> Option<u64> {
        self.view().context_length()
    }

    /// Takes a place for work that is about to be sent.
    pub(crate) fn take(self: &Arc<Self>, work: &Work<'_>, expected: &Expected) -> Slot {
        self.running.fetch_add(1, Ordering::Relaxed);
        let mut view = self.view();
        Slot {
            boot_id: view.boot_id(),
            serial: view.sent(work, expected, Instant::now()),
            worker: Arc::clone(self),
        }
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, state: WorkerState) {
        self.view().update(state, Instant::now());
    }
}

/// Follows the state of a worker, over broken connections and other lives of it, until the worker
/// leaves the catalog.
pub(crate) async fn follow(worker: std::sync::Weak<Worker>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let Some(client) = worker.upgrade().map(|worker| worker.client()) else {
            return;
        };
        let mut spoke = false;
        let error = listen(client, &worker, &mut spoke).await;
        let Some(worker) = worker.upgrade() else {
            return;
        };
        worker.view().forget();
        if spoke {
            tracing::warn!(worker = %worker.endpoint, %error, "lost a worker");
            // One that broke is soon back; one that hangs would only be taken for ready again.
            pause = match error {
                FollowError::Broken(_) | FollowError::Ended => FIRST_PAUSE,
                FollowError::Silent => LONGEST_PAUSE,
            };
        } else {
            tracing::debug!(worker = %worker.endpoint, %error, "no worker yet");
        }
        drop(worker);
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Takes states until the stream breaks, and says why it did.
async fn listen(
    mut client: WorkerClient<Channel>,
    worker: &std::sync::Weak<Worker>,
    spoke: &mut bool,
) -> FollowError {
    let mut stream = match timeout(SILENCE, client.watch(WatchRequest {})).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return FollowError::Broken(status),
        Err(_) => return FollowError::Silent,
    };
    loop {
        let state = match timeout(SILENCE, stream.message()).await {
            Ok(Ok(Some(state))) => state,
            Ok(Ok(None)) => return FollowError::Ended,
            Ok(Err(status)) => return FollowError::Broken(status),
            Err(_) => return FollowError::Silent,
        };
        let Some(worker) = worker.upgrade() else {
            return FollowError::Ended;
        };
        if !*spoke {
            tracing::info!(worker = %worker.endpoint, phase = ?state.phase(), "found a worker");
            *spoke = true;
        }
        worker.update(state);
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
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        // Frames that arrive for a stream that was given up are charged for ever while h2 remembers
        // the stream, and answered with a reset once it has forgotten it. So it forgets at once,
        // and may send as many resets as clients leave.
        .http2_max_concurrent_reset_streams(0)
        .http2_max_local_error_reset_streams(None);
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

// === impl Slot ===

impl Slot {
    pub(crate) fn worker(&self) -> &Arc<Worker> {
        &self.worker
    }

    /// The worker's life in which the place was taken.
    pub(crate) fn boot_id(&self) -> u64 {
        self.boot_id
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.worker.view().ended(self.serial);
        self.worker.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.worker.endpoint)
    }
}
