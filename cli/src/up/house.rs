//! All children of one `up`, from the first start to the last end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::announce::Announcement;
use super::event::Event;
use super::fleet::Fleet;
use super::opening::Opening;
use super::part::Part;
use super::supervise::{Ending, supervise};
use super::{probe, progress};
use crate::failure::Failure;
use crate::logs::Format;
use crate::router::Addresses;

/// Beyond its own bound for running answers, a child gets this long to end. A router needs some seconds for
/// last words, ten for what Redis has to hear, and ten for what the database of its ledger does not take.
const GRACE: Duration = Duration::from_secs(30);

/// The children and who looks after them.
pub(super) struct House {
    fleet: Fleet,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    routers: Floor,
    ledgers: Floor,
    engines: Floor,
    kill: CancellationToken,
}

/// Children that end together.
struct Floor {
    tasks: TaskTracker,
    ending: Ending,
}

// === impl House ===

impl House {
    /// Starts all children at once: a router waits for its workers and its ledger by itself.
    pub(super) fn start(fleet: Fleet, drain_timeout: Duration, format: Format) -> Self {
        let (sender, events) = mpsc::channel(64);
        let kill = CancellationToken::new();
        let floor = || Floor {
            tasks: TaskTracker::new(),
            ending: Ending {
                stop: CancellationToken::new(),
                kill: kill.clone(),
                grace: drain_timeout + GRACE,
            },
        };
        let (routers, ledgers, engines) = (floor(), floor(), floor());
        let width = fleet.parts().map(|part| part.name.len()).max().unwrap_or(0);
        let prefix = |part: &Part| match format {
            Format::Text => format!("{:width$} | ", part.name),
            Format::Json => String::new(),
        };
        let keep = |floor: &Floor, part: &Arc<Part>| {
            let ending = floor.ending.clone();
            let life = supervise(part.clone(), prefix(part), ending, sender.clone());
            floor.tasks.spawn(life);
        };
        if let Some(ledger) = &fleet.ledger {
            keep(&ledgers, ledger);
        }
        for router in &fleet.routers {
            keep(&routers, router);
        }
        for (index, worker) in fleet.workers.iter().enumerate() {
            keep(&engines, &worker.part);
            let stop = engines.ending.stop.clone();
            let follow = progress::follow(index, worker.clone(), stop, sender.clone());
            engines.tasks.spawn(follow);
        }
        Self {
            fleet,
            events,
            sender,
            routers,
            ledgers,
            engines,
            kill,
        }
    }

    /// Announces the house once it serves, and keeps it until a child cannot start.
    pub(super) async fn keep(&mut self, announcement: Announcement) -> Failure {
        let mut opening = Opening::of(&self.fleet);
        loop {
            let event = self.events.recv().await;
            match event.expect("the house should hold a sender itself") {
                Event::Bound(router, addresses) => opening.bound(router, addresses),
                Event::LedgerBound => opening.ledger_listens(),
                Event::Ready(worker) => opening.loaded(worker),
                Event::Failed(message) => return Failure::failed(message),
                Event::Serving(router) => {
                    if let Some(addresses) = opening.serves(router)
                        && let Err(error) = announcement.print(&addresses, &self.fleet)
                    {
                        return Failure::failed(format!("cannot print the endpoint: {error}"));
                    }
                }
            }
            for (router, addresses) in opening.take_ready().into_iter().flatten().enumerate() {
                self.probe(router, addresses);
            }
        }
    }

    /// A router must have heard of the workers too before anybody sends a request.
    fn probe(&self, router: usize, addresses: Addresses) {
        let sender = self.sender.clone();
        let stop = self.routers.ending.stop.clone();
        self.routers
            .tasks
            .spawn(stop.run_until_cancelled_owned(async move {
                probe::until_ready(probe::reachable(addresses.address)).await;
                sender.send(Event::Serving(router)).await.ok();
            }));
    }

    /// Ends routers first, so that no request finds its worker gone and the ledger gets their last
    /// usage; then the ledger, then workers.
    pub(super) async fn stop(&mut self) {
        // Nobody listens any more: who tells something must not wait.
        self.events.close();
        self.routers.stop().await;
        self.ledgers.stop().await;
        self.engines.stop().await;
    }

    /// Ends all at once.
    pub(super) async fn kill(&mut self) {
        self.kill.cancel();
        self.ledgers.ending.stop.cancel();
        self.engines.ending.stop.cancel();
        self.stop().await;
    }
}

// === impl Floor ===

impl Floor {
    async fn stop(&self) {
        self.ending.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
