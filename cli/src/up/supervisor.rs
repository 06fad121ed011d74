//! The supervisor of all processes of one `up`: it starts them, announces them, and stops them in order.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::announce::Announcement;
use super::event::Event;
use super::fleet::Fleet;
use super::process::ManagedProcess;
use super::restart::{Shutdown, keep_running};
use super::startup::Startup;
use super::{probe, progress};
use crate::failure::Failure;
use crate::logs::Format;
use crate::router::Addresses;

/// Time that a process gets to exit, in addition to the drain timeout for running answers. After its last answer
/// a router needs some seconds to flush its logs and traces, up to 10 s to send what Redis has to know, and up to
/// 10 s for usage that the database of its own ledger does not accept.
const GRACE: Duration = Duration::from_secs(30);

/// Starts, watches and stops every process of a fleet.
pub(super) struct Supervisor {
    fleet: Fleet,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    routers: ProcessGroup,
    ledgers: ProcessGroup,
    workers: ProcessGroup,
    kill: CancellationToken,
}

/// The processes of one role, which are stopped together. (Each child is the leader of a POSIX process group of
/// its own; this is not one of those.)
struct ProcessGroup {
    tasks: TaskTracker,
    shutdown: Shutdown,
}

// === impl Supervisor ===

impl Supervisor {
    /// Starts all processes at once: a router waits for its workers and its ledger by itself.
    pub(super) fn start(fleet: Fleet, drain_timeout: Duration, format: Format) -> Self {
        let (sender, events) = mpsc::channel(64);
        let kill = CancellationToken::new();
        let group = || ProcessGroup {
            tasks: TaskTracker::new(),
            shutdown: Shutdown {
                stop: CancellationToken::new(),
                kill: kill.clone(),
                grace: drain_timeout + GRACE,
            },
        };
        let (routers, ledgers, workers) = (group(), group(), group());
        let names = fleet.processes().map(|process| process.name.len());
        let width = names.max().unwrap_or(0);
        let prefix = |process: &ManagedProcess| match format {
            Format::Text => format!("{:width$} | ", process.name),
            Format::Json => String::new(),
        };
        let start = |group: &ProcessGroup, process: &Arc<ManagedProcess>| {
            let shutdown = group.shutdown.clone();
            let prefix = prefix(process);
            let task = keep_running(process.clone(), prefix, shutdown, sender.clone());
            group.tasks.spawn(task);
        };
        if let Some(ledger) = &fleet.ledger {
            start(&ledgers, ledger);
        }
        for router in &fleet.routers {
            start(&routers, router);
        }
        for (index, worker) in fleet.workers.iter().enumerate() {
            start(&workers, &worker.process);
            let stop = workers.shutdown.stop.clone();
            let follow = progress::follow(index, worker.clone(), stop, sender.clone());
            workers.tasks.spawn(follow);
        }
        Self {
            fleet,
            events,
            sender,
            routers,
            ledgers,
            workers,
            kill,
        }
    }

    /// Prints the announcement once every router is ready, and runs until a process cannot start.
    ///
    /// # Cancellation
    ///
    /// Dropping the future stops nothing: call [`stop`](Self::stop) or [`kill`](Self::kill) afterwards.
    pub(super) async fn run(&mut self, announcement: Announcement) -> Failure {
        let mut startup = Startup::of(&self.fleet);
        loop {
            let event = self.events.recv().await;
            match event.expect("the supervisor should hold a sender itself") {
                Event::RouterBound(router, addresses) => startup.router_bound(router, addresses),
                Event::LedgerBound => startup.ledger_bound(),
                Event::WorkerReady(worker) => startup.worker_ready(worker),
                Event::Failed(message) => return Failure::failed(message),
                Event::RouterReady(router) => {
                    if let Some(addresses) = startup.router_ready(router)
                        && let Err(error) = announcement.print(&addresses, &self.fleet)
                    {
                        return Failure::failed(format!("cannot print the endpoint: {error}"));
                    }
                }
            }
            for (router, addresses) in startup.take_probes().into_iter().flatten().enumerate() {
                self.probe(router, addresses);
            }
        }
    }

    /// Reports a router as ready once its own `/readyz` does: it has to know of the workers before the first
    /// request is sent.
    fn probe(&self, router: usize, addresses: Addresses) {
        let sender = self.sender.clone();
        let stop = self.routers.shutdown.stop.clone();
        self.routers
            .tasks
            .spawn(stop.run_until_cancelled_owned(async move {
                probe::until_ready(probe::reachable(addresses.address)).await;
                sender.send(Event::RouterReady(router)).await.ok();
            }));
    }

    /// Stops routers first, so that no request loses its worker and the ledger gets their last usage; then the
    /// ledger, then the workers. Returns when all have exited.
    pub(super) async fn stop(&mut self) {
        // Events are not read any more. Closing the channel makes senders fail instead of waiting for room in it.
        self.events.close();
        self.routers.stop().await;
        self.ledgers.stop().await;
        self.workers.stop().await;
    }

    /// Kills all processes at once, and returns when all have exited.
    pub(super) async fn kill(&mut self) {
        self.kill.cancel();
        self.ledgers.shutdown.stop.cancel();
        self.workers.shutdown.stop.cancel();
        self.stop().await;
    }
}

// === impl ProcessGroup ===

impl ProcessGroup {
    async fn stop(&self) {
        self.shutdown.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
