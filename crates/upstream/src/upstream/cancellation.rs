//! Cancellation: ends a request on its worker after the client disconnected, and collects its final usage.

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

use crate::grpc::Call;
use crate::place::Slot;
use crate::quarantine::Suspect;
use inferyard_domain::RequestId;

/// How long a worker has to report the final usage. One step of a big model on a CPU takes a part of this.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pauses between calls of `Cancel`, doubled after each: a worker that does not know the request may not have
/// received it yet.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// What a worker reported after its request was cancelled.
#[derive(Debug, Clone, Copy, Default)]
pub struct FinalUsage {
    /// Set if the worker counted the prompt.
    pub admitted: Option<Admitted>,
    /// Tokens received after the cancellation.
    pub completion_tokens: u32,
    /// The worker's own count of all usage.
    pub usage: Option<Usage>,
}

/// The usage of an attempt, if it is cancelled.
#[derive(Debug)]
pub struct PendingUsage {
    /// Closed without a value if the attempt ends by itself.
    pub usage: oneshot::Receiver<FinalUsage>,
    /// Tracks the tasks that send it and wait for it.
    pub tasks: TaskTracker,
}

/// A request on its worker, before its last event.
pub(super) struct Running {
    pub(super) call: Call,
    pub(super) id: RequestId,
    pub(super) suspect: Suspect,
    /// Freed as soon as the worker is done.
    pub(super) slot: Slot,
    pub(super) usage: oneshot::Sender<FinalUsage>,
    pub(super) tasks: TaskTracker,
}

// === impl Running ===

impl Running {
    /// Cancels the request on its worker, and sends its final usage.
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
            tracing::debug!(worker = %slot.worker().endpoint(), "a worker did not report the end of a cancelled request in time");
        }
        match told.usage {
            Some(usage) => slot.produced_in_all(usage.completion_tokens),
            None => slot.produced(told.completion_tokens),
        }
        // Dropping the call resets the stream, should it still be open.
        drop((call, slot));
        // The receiver is gone only while the process shuts down.
        let _ = usage.send(told);
    }
}

/// The worker does not implement `Cancel`.
struct Unknown;

/// Calls `Cancel` until the worker accepts it. Returns only if the worker does not implement it.
async fn cancel(mut client: WorkerClient<Channel>, id: RequestId) -> Unknown {
    let mut pause = FIRST_PAUSE;
    loop {
        let request = CancelRequest {
            request_id: id.as_str().to_owned(),
        };
        match client.cancel(request).await.map_err(|status| status.code()) {
            Err(Code::Unimplemented) => return Unknown,
            // `Cancel` overtook the request, or the last event is already on its way.
            Err(Code::NotFound) => {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            // The event stream shows what became of the request.
            Ok(_) | Err(_) => match pending::<Infallible>().await {},
        }
    }
}

// === impl FinalUsage ===

impl FinalUsage {
    /// Reads until the last event or the end of the stream.
    async fn read(&mut self, call: &mut Call) {
        while let Some(Ok(GenerateEvent { event })) = poll_fn(|cx| call.poll_event(cx)).await {
            if event.is_some_and(|event| self.observe(event)) {
                return;
            }
            // A fast worker's stream is always ready; without yielding, `select!` would never poll the timeout.
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
