//! Cancellation: the worker of a request that its client has left is told, and says what it had produced by then.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::time::Duration;

use inferyard_proto::worker::v1::generate_event::Event;
use inferyard_proto::worker::v1::worker_client::WorkerClient;
use inferyard_proto::worker::v1::{Admitted, CancelRequest, GenerateEvent, Usage};
use tokio::sync::oneshot;
use tokio::task::consume_budget;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tonic::Code;
use tonic::transport::Channel;

use crate::hop::Call;
use crate::place::Slot;
use crate::quarantine::Suspect;
use crate::request_id::RequestId;

/// How long a worker has to say it. A step of a big model on a CPU takes a part of this.
const PATIENCE: Duration = Duration::from_secs(2);
/// A worker that does not know the request may be about to: pauses between questions, doubled after
/// each.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// What a worker said after its request was cancelled.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FinalUsage {
    /// It counted the prompt.
    pub(crate) admitted: Option<Admitted>,
    /// What it still sent.
    pub(crate) completion_tokens: u32,
    /// All that was used, by its own count.
    pub(crate) usage: Option<Usage>,
}

/// The usage of an attempt that is cancelled before its end; closed if the attempt ends by itself.
#[derive(Debug)]
pub(crate) struct PendingUsage {
    pub(crate) usage: oneshot::Receiver<FinalUsage>,
    /// Owns the tasks that wait for it.
    pub(crate) tasks: TaskTracker,
}

/// A request whose worker has not said its last word.
pub(super) struct Running {
    pub(super) call: Call,
    pub(super) id: RequestId,
    pub(super) suspect: Suspect,
    /// Given back as soon as the worker is done.
    pub(super) slot: Slot,
    pub(super) usage: oneshot::Sender<FinalUsage>,
    pub(super) tasks: TaskTracker,
}

// === impl Running ===

impl Running {
    /// Ends the request on its worker, and tells what it used.
    pub(super) async fn cancel(self) {
        let Self {
            mut call,
            id,
            mut slot,
            usage,
            ..
        } = self;
        let mut told = FinalUsage::default();
        let client = slot.worker().client();
        let work = async {
            tokio::select! {
                biased;
                Unknown = cancel(client, id) => {}
                () = told.read(&mut call) => {}
            }
        };
        if timeout(PATIENCE, work).await.is_err() {
            tracing::debug!(worker = %slot.worker().endpoint(), "a cancelled request did not end");
        }
        match told.usage {
            Some(usage) => slot.produced_in_all(usage.completion_tokens),
            None => slot.produced(told.completion_tokens),
        }
        // Whatever it was: now it ends.
        drop((call, slot));
        // Where its reader is gone too, the process is about to end.
        let _ = usage.send(told);
    }
}

/// The worker knows no `Cancel`.
struct Unknown;

/// Tells the worker, and comes back only where that is of no use.
async fn cancel(mut client: WorkerClient<Channel>, id: RequestId) -> Unknown {
    let mut pause = FIRST_PAUSE;
    loop {
        let request = CancelRequest {
            request_id: id.as_str().to_owned(),
        };
        match client.cancel(request).await.map_err(|status| status.code()) {
            Err(Code::Unimplemented) => return Unknown,
            // It overtook the request, or the last event is on its way.
            Err(Code::NotFound) => {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            // The stream tells what became of it.
            Ok(_) | Err(_) => match pending::<Infallible>().await {},
        }
    }
}

// === impl FinalUsage ===

impl FinalUsage {
    /// Reads to the last event, or to the end of the worker.
    async fn read(&mut self, call: &mut Call) {
        while let Some(Ok(GenerateEvent { event })) = poll_fn(|cx| call.poll_event(cx)).await {
            if event.is_some_and(|event| self.observe(event)) {
                return;
            }
            // A worker that is faster than this must not keep the rest from being polled.
            consume_budget().await;
        }
    }

    /// Counts an event; true: it is the last one.
    fn observe(&mut self, event: Event) -> bool {
        match event {
            Event::Admitted(admitted) => self.admitted = Some(admitted),
            Event::Delta(delta) => self.completion_tokens += delta.token_count,
            Event::ChoiceFinished(_) => {}
            Event::Finished(finished) => {
                self.usage = finished.usage;
                return true;
            }
            Event::Failed(failed) => {
                self.usage = failed.usage;
                return true;
            }
        }
        false
    }
}
