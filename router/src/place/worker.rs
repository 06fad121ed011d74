//! One worker: its connection, and the slots taken on it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use inferyard_placement::{Charge, Gap, Outcome, Ticket, WorkerId};
use inferyard_proto::worker::v1::WorkerState;
use inferyard_proto::worker::v1::worker_client::WorkerClient;
use inferyard_proto::worker::v1::worker_state::Phase;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::crew::Crew;
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
    /// Where what it says is written down. The crew has its workers, not the other way round.
    crew: Weak<Crew>,
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

/// A place on a worker; dropping it gives the place back.
pub(crate) struct Slot {
    worker: Arc<Worker>,
    boot_id: u64,
    ticket: Ticket,
    /// What its account was charged for it; `None`: it was given back.
    charge: Option<Charge>,
    /// Tokens of the answer so far.
    produced: u64,
    /// How often the worker had broken off when the place was taken.
    crashes: u64,
    outcome: Outcome,
}

// === impl Worker ===

impl Worker {
    /// A worker that is not yet known; `following` ends with it.
    pub(super) fn new(
        endpoint: Endpoint,
        crew: &Arc<Crew>,
        id: WorkerId,
        following: CancellationToken,
    ) -> Self {
        let client = WorkerClient::new(channel(&endpoint)).max_decoding_message_size(LARGEST_STATE);
        Self {
            connection: Arc::new(Connection::new(endpoint.clone())),
            endpoint,
            client,
            crew: Arc::downgrade(crew),
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
    pub(super) fn update(&self, state: WorkerState) -> Result<(), Gap> {
        let Some(crew) = self.crew.upgrade() else {
            return Ok(());
        };
        let all = state.open_requests.saturating_add(state.queued);
        let others = all.saturating_sub(self.running());
        self.others.store(others, Ordering::Relaxed);
        let draining = state.phase() == Phase::Draining;
        self.leaving.store(draining, Ordering::Relaxed);
        crew.state(self.id, state.into())
    }

    /// It is silent.
    pub(super) fn lost(&self) {
        if let Some(crew) = self.crew.upgrade() {
            crew.lost(self.id);
        }
    }
}

impl Worker {
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

// === impl Slot ===

impl Slot {
    pub(super) fn new(worker: Arc<Worker>, ticket: Ticket, boot_id: u64, charge: Charge) -> Self {
        worker.running.fetch_add(1, Ordering::Relaxed);
        let crashes = worker.crashes().number;
        Self {
            worker,
            boot_id,
            ticket,
            charge: Some(charge),
            produced: 0,
            crashes,
            outcome: Outcome::Untold,
        }
    }

    pub(crate) fn worker(&self) -> &Arc<Worker> {
        &self.worker
    }

    /// The worker's life in which the place was taken.
    pub(crate) fn boot_id(&self) -> u64 {
        self.boot_id
    }

    /// The first token is there: the worker itself says from now on what it holds.
    pub(crate) fn begun(&self) {
        if let Some(crew) = self.worker.crew.upgrade() {
            crew.begun(self.ticket);
        }
    }

    /// So many tokens more are there.
    pub(crate) fn produced(&mut self, tokens: u32) {
        self.produced += u64::from(tokens);
    }

    /// So many tokens are there in all.
    pub(crate) fn produced_in_all(&mut self, tokens: u32) {
        self.produced = tokens.into();
    }

    /// How the request ended, where that tells something of the worker.
    pub(crate) fn ends(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// The worker broke off under the request. Whether it had no other at that moment, and was not about to
    /// end: all requests that this ends come here one after the other, and only the first can count the others.
    pub(crate) fn crashed_alone(&self) -> bool {
        let worker = &self.worker;
        let mut crashes = worker.crashes();
        if crashes.number == self.crashes {
            crashes.number += 1;
            crashes.requests = worker.running() + worker.others.load(Ordering::Relaxed);
        }
        crashes.number == self.crashes + 1
            && crashes.requests == 1
            && !worker.leaving.load(Ordering::Relaxed)
    }

    /// The worker has no room after all.
    pub(crate) fn refused(&mut self) {
        if let Some(crew) = self.worker.crew.upgrade() {
            crew.refused(self.ticket, self.charge.take().as_ref());
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(crew) = self.worker.crew.upgrade() {
            let charge = self.charge.as_ref();
            crew.ended(self.ticket, charge, self.produced, self.outcome);
        }
        self.worker.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.worker.endpoint)
    }
}
