//! All children of one `up`, from the first start to the last end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::announce::Announcement;
use super::fleet::Fleet;
use super::part::Part;
use super::supervise::{Ending, supervise};
use super::{probe, progress};
use crate::failure::Failure;
use crate::logs::Format;
use crate::router::Addresses;

/// Beyond its own bound for running answers, a child gets this long to end.
const GRACE: Duration = Duration::from_secs(5);

/// What happens to the children.
pub(super) enum Event {
    /// The router listens.
    Bound(Addresses),
    /// The worker of this number has loaded its model.
    Ready(usize),
    /// The router can serve.
    Serving(Addresses),
    /// A child cannot start; a sentence says why.
    Failed(String),
}

/// The children and who looks after them.
pub(super) struct House {
    fleet: Fleet,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    routers: Floor,
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
    /// Starts all children at once: the router waits for its workers by itself.
    pub(super) fn start(fleet: Fleet, drain_timeout: Duration, format: Format) -> Self {
        let Fleet { router, workers } = &fleet;
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
        let (routers, engines) = (floor(), floor());
        let parts = || workers.iter().map(|worker| &worker.part).chain([router]);
        let width = parts().map(|part| part.name.len()).max().unwrap_or(0);
        let prefix = |part: &Part| match format {
            Format::Text => format!("{:width$} | ", part.name),
            Format::Json => String::new(),
        };
        let keep = |floor: &Floor, part: &Arc<Part>| {
            let ending = floor.ending.clone();
            let life = supervise(part.clone(), prefix(part), ending, sender.clone());
            floor.tasks.spawn(life);
        };
        keep(&routers, router);
        for (index, worker) in workers.iter().enumerate() {
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
            engines,
            kill,
        }
    }

    /// Announces the house once it serves, and keeps it until a child cannot start.
    pub(super) async fn keep(&mut self, announcement: Announcement) -> Failure {
        let mut waiting: Vec<bool> = vec![true; self.fleet.workers.len()];
        let mut bound = None;
        let mut probing = false;
        loop {
            let event = self.events.recv().await;
            match event.expect("the house should hold a sender itself") {
                Event::Bound(addresses) => bound = Some(addresses),
                Event::Ready(index) => waiting[index] = false,
                Event::Failed(message) => return Failure::failed(message),
                Event::Serving(addresses) => {
                    if let Err(error) = announcement.print(addresses, &self.fleet) {
                        return Failure::failed(format!("cannot print the endpoint: {error}"));
                    }
                }
            }
            if let Some(addresses) = bound
                && !probing
                && !waiting.contains(&true)
            {
                probing = true;
                self.probe(addresses);
            }
        }
    }

    /// The router must have heard of the workers too before anybody sends a request.
    fn probe(&self, addresses: Addresses) {
        let sender = self.sender.clone();
        let stop = self.routers.ending.stop.clone();
        self.routers
            .tasks
            .spawn(stop.run_until_cancelled_owned(async move {
                probe::until_ready(probe::reachable(addresses.address)).await;
                sender.send(Event::Serving(addresses)).await.ok();
            }));
    }

    /// Ends routers first, so that no request finds its worker gone, then workers.
    pub(super) async fn stop(&mut self) {
        // Nobody listens any more: who tells something must not wait.
        self.events.close();
        self.routers.stop().await;
        self.engines.stop().await;
    }

    /// Ends all at once.
    pub(super) async fn kill(&mut self) {
        self.kill.cancel();
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
