//! Step 9, the outermost: completion, error and disconnect all end here, where usage is counted and settled.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use inferyard_domain::{InstanceId, ModelId};
use inferyard_proto::worker::v1::generate_event::Event;
use inferyard_proto::worker::v1::{Admitted, Usage};
use tokio::runtime::Handle;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::{Sleep, sleep};
use tracing::Span;

use crate::accept::Accepted;
use crate::error::Error;
use crate::explain;
use crate::limits;
use crate::telemetry::Telemetry;
use inferyard_admission::{Bill, Need};
use inferyard_admission::{LimitStatus, Settling};
use inferyard_catalog::Key;
use inferyard_upstream::{PendingUsage, UpstreamEvent};

mod record;

use record::{Outcome, RequestRecord};

/// Maximum time that the end of an answer waits for its settlement, which a disk or a worker may delay. A
/// worker has 2 s to report final usage, a limit store 0.5 s to answer.
const SETTLED_WITHIN: Duration = if cfg!(test) {
    Duration::from_millis(50)
} else {
    Duration::from_secs(5)
};

/// The meter of one request. It writes the record when the last byte of the answer was handed to hyper, or,
/// after a disconnect, when the worker has reported what it produced.
pub(crate) struct Meter {
    record: RequestRecord,
    /// Response headers from earlier steps: limits, a visitor's cookie.
    headers: Vec<(HeaderName, HeaderValue)>,
    bill: Option<Bill>,
    settling: Option<Settling>,
    /// Final usage from the worker if its request is cancelled.
    pending: Option<PendingUsage>,
    /// Present while the end of the answer waits for its settlement.
    patience: Option<Pin<Box<Sleep>>>,
    written: bool,
}

// === impl Meter ===

impl Meter {
    /// Starts the meter of an accepted request.
    pub(crate) fn new(telemetry: &Arc<Telemetry>, accepted: &Accepted) -> Self {
        telemetry.in_flight.inc();
        Self {
            record: RequestRecord::new(telemetry, accepted),
            headers: Vec::new(),
            bill: None,
            settling: None,
            pending: None,
            patience: None,
            written: false,
        }
    }

    pub(crate) fn span(&self) -> Span {
        self.record.span.clone()
    }

    pub(crate) fn called_by(&mut self, key: &Arc<Key>) {
        self.record.key = Some(Arc::clone(key));
    }

    pub(crate) fn asks_for(&mut self, model: &ModelId) {
        self.record.model = Some(model.clone());
    }

    /// Tokens and money are reserved for the request.
    pub(crate) fn owes(&mut self, bill: Bill) {
        self.limited(bill.statuses());
        self.bill = Some(bill);
    }

    /// The reservation has changed.
    fn granted(&mut self, need: Need) {
        if let Some(bill) = &mut self.bill {
            bill.granted(need);
        }
    }

    /// Adds a header to the response, whether it succeeds or fails.
    pub(crate) fn tell(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.push((name, value));
    }

    /// Takes the headers for the response.
    pub(crate) fn headers(&mut self) -> impl Iterator<Item = (HeaderName, HeaderValue)> + '_ {
        self.headers.drain(..)
    }

    fn limited(&mut self, statuses: &[LimitStatus]) {
        for (name, value) in limits::headers(statuses) {
            // The latest status of a limit replaces earlier ones.
            self.headers.retain(|(other, _)| *other != name);
            self.headers.push((name, value));
        }
        self.record.denied_by = limits::denied_by(statuses);
    }

    /// Observes an event, and returns it if it is part of the answer.
    pub(crate) fn observe(&mut self, event: UpstreamEvent) -> Option<Event> {
        match event {
            UpstreamEvent::Placed(decision) => {
                if let Some((name, value)) = explain::header(&decision) {
                    self.tell(name, value);
                }
            }
            UpstreamEvent::Attempt { instance, pending } => self.attempts(instance, pending),
            UpstreamEvent::Admitted(admitted) => self.admitted(admitted),
            UpstreamEvent::AttemptFailed(usage) => self.used(Some(usage)),
            UpstreamEvent::Reserved(need) => self.granted(need),
            UpstreamEvent::Answer(event) => {
                self.answers(&event);
                return Some(event);
            }
        }
        None
    }

    /// A new attempt starts; usage of earlier attempts is not charged.
    fn attempts(&mut self, instance: Option<InstanceId>, pending: PendingUsage) {
        self.record.instance = instance;
        self.record.usage = Usage::default();
        self.pending = Some(pending);
    }

    /// The worker has counted the prompt.
    fn admitted(&mut self, admitted: Admitted) {
        let record = &mut self.record;
        record.admitted(admitted);
        if let Some(bill) = &self.bill {
            bill.admitted(admitted, &record.usage, record.instance);
        }
    }

    /// An event of the answer.
    fn answers(&mut self, event: &Event) {
        let record = &mut self.record;
        let arrived = record.arrived;
        record.first_token.get_or_insert_with(|| arrived.elapsed());
        match event {
            Event::Delta(delta) => {
                record.usage.completion_tokens += delta.token_count;
                if let Some(bill) = &self.bill {
                    bill.progress(&record.usage, record.instance);
                }
            }
            Event::Finished(finished) => self.used(finished.usage),
            Event::Admitted(_) | Event::ChoiceFinished(_) | Event::Failed(_) => {}
        }
    }

    /// Usage reported by the worker; it exceeds what was streamed if the stream broke off.
    pub(crate) fn used(&mut self, usage: Option<Usage>) {
        self.record.used(usage);
    }

    pub(crate) fn failed(&mut self, error: &Error) {
        self.record.outcome = Outcome::Failed {
            code: error.label(),
            refused: error.is_refusal(),
        };
        if let Some(statuses) = error.statuses() {
            self.limited(statuses);
        }
        // The text of a read error may quote the body, which is never logged; its label is logged instead.
        if !matches!(error, Error::Read(_)) {
            tracing::debug!(parent: &self.record.span, %error, "failed");
        }
    }

    /// The answer is complete, but its last bytes are not sent yet: settles the usage if it is known.
    pub(crate) fn ends(&mut self) {
        if self.record.outcome == Outcome::ClientLeft {
            self.record.outcome = Outcome::Answered;
        }
        if !self.expects_more() {
            self.settle();
        }
    }

    /// Settles the usage of a complete response and waits for it, at most `SETTLED_WITHIN`: a client that has
    /// the whole answer finds its limits settled.
    pub(crate) async fn ends_with(&mut self, status: StatusCode) {
        self.answers_with(status);
        self.ends();
        poll_fn(|cx| self.poll_settled(cx)).await;
    }

    /// Ready when the settlement is complete or took longer than `SETTLED_WITHIN`. In the second case it
    /// continues in the background.
    pub(crate) fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_end(cx).is_ready() {
            return Poll::Ready(());
        }
        let new = || Box::pin(sleep(SETTLED_WITHIN));
        let patience = self.patience.get_or_insert_with(new);
        patience.as_mut().poll(cx)
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(pending) = &mut self.pending {
            let usage = ready!(Pin::new(&mut pending.usage).poll(cx));
            self.pending = None;
            self.record.ended_with(usage.unwrap_or_default());
        }
        self.settle();
        if let Some(settling) = &mut self.settling {
            ready!(Pin::new(settling).poll(cx));
            self.settling = None;
        }
        Poll::Ready(())
    }

    /// Whether the worker of a cancelled request has not reported its final usage yet.
    fn expects_more(&mut self) -> bool {
        let Some(pending) = &mut self.pending else {
            return false;
        };
        match pending.usage.try_recv() {
            Err(TryRecvError::Empty) => return true,
            Ok(usage) => self.record.ended_with(usage),
            // The request was not cancelled: its sender was dropped without a value.
            Err(TryRecvError::Closed) => {}
        }
        self.pending = None;
        false
    }

    fn settle(&mut self) {
        if let Some(bill) = self.bill.take() {
            self.settling = Some(self.record.settle(bill));
        }
    }

    /// Sets the status of the response.
    pub(crate) fn answers_with(&mut self, status: StatusCode) {
        self.record.status = status.as_u16();
    }

    /// The whole response was handed to hyper.
    pub(crate) fn complete(&mut self) {
        self.ends();
        self.write();
    }

    fn write(&mut self) {
        if !std::mem::replace(&mut self.written, true) {
            self.settle();
            self.record.write();
        }
    }

    /// Spawns a task that settles and writes the record when the worker has reported its final usage.
    fn write_later(&mut self, pending: PendingUsage, runtime: &Handle) {
        self.written = true;
        let (mut record, bill) = (self.record.clone(), self.bill.take());
        let PendingUsage { usage, tasks } = pending;
        let work = async move {
            record.ended_with(usage.await.unwrap_or_default());
            if let Some(bill) = bill {
                // Dropped, not awaited: settling continues in a task of its own.
                drop(record.settle(bill));
            }
            record.write();
        };
        tasks.spawn_on(work, runtime);
    }
}

/// Dropping the body is the only signal of a client disconnect: hyper drops it without calling us.
impl Drop for Meter {
    fn drop(&mut self) {
        if self.written {
            return;
        }
        let expects_more = self.expects_more();
        match (Handle::try_current(), self.pending.take()) {
            (Ok(runtime), Some(pending)) if expects_more => {
                return self.write_later(pending, &runtime);
            }
            (Ok(_), _) => {}
            // Without a runtime the process is about to exit, and nothing can be settled here: the store
            // expires the lease.
            (Err(_), _) => self.bill = None,
        }
        self.write();
    }
}

#[cfg(test)]
mod tests;
