//! Step 9, the outermost: completion, error and disconnect all end here, are counted and settled.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
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
use crate::reserve::{Bill, Need};
use crate::telemetry::Telemetry;
use crate::upstream::{PendingUsage, UpstreamEvent};
use inferyard_admission::{Reading, Settling};
use inferyard_catalog::Key;

mod record;

use record::Record;

/// How long the end of an answer waits for its settle, which a disk or a worker may delay. A worker has two
/// seconds for its last words, a store of limits half a second.
const SETTLED_WITHIN: Duration = if cfg!(test) {
    Duration::from_millis(50)
} else {
    Duration::from_secs(5)
};

/// The meter of one request. It is read when the answer's last byte was handed over, or, for a client
/// that left, when the worker has said what it had produced by then.
pub(crate) struct Meter {
    record: Record,
    /// What the steps before the answer want to be told in its head: limits, a visitor's cookie.
    headers: Vec<(HeaderName, HeaderValue)>,
    bill: Option<Bill>,
    settling: Option<Settling>,
    /// What the worker used, should its request be cancelled.
    pending: Option<PendingUsage>,
    /// Runs while the end of an answer waits for its settle.
    patience: Option<Pin<Box<Sleep>>>,
    written: bool,
}

// === impl Meter ===

impl Meter {
    /// The meter of a request that was let in.
    pub(crate) fn new(telemetry: &Arc<Telemetry>, accepted: &Accepted) -> Self {
        telemetry.in_flight.inc();
        Self {
            record: Record::new(telemetry, accepted),
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

    pub(crate) fn asks_for(&mut self, model: &Arc<str>) {
        self.record.model = Some(Arc::clone(model));
    }

    /// Something is set aside for the request.
    pub(crate) fn owes(&mut self, bill: Bill) {
        self.limited(bill.readings());
        self.bill = Some(bill);
    }

    /// What is set aside for the request has changed.
    fn granted(&mut self, need: Need) {
        if let Some(bill) = &mut self.bill {
            bill.granted(need);
        }
    }

    /// Adds a header to the answer, whatever it will be.
    pub(crate) fn tell(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.push((name, value));
    }

    /// The headers that were asked for.
    pub(crate) fn headers(&mut self) -> impl Iterator<Item = (HeaderName, HeaderValue)> + '_ {
        self.headers.drain(..)
    }

    fn limited(&mut self, readings: &[Reading]) {
        for (name, value) in limits::headers(readings) {
            // What is said of a limit last is true.
            self.headers.retain(|(other, _)| *other != name);
            self.headers.push((name, value));
        }
        self.record.denied_by = limits::denied_by(readings);
    }

    /// Takes note of an event; hands on one that belongs to the answer.
    pub(crate) fn observe(&mut self, event: UpstreamEvent) -> Option<Event> {
        match event {
            UpstreamEvent::Placed(decided) => {
                if let Some((name, value)) = explain::header(&decided) {
                    self.tell(name, value);
                }
            }
            UpstreamEvent::Attempt { boot_id, pending } => self.attempts(boot_id, pending),
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

    /// A worker is asked; what another one did is void.
    fn attempts(&mut self, boot_id: u64, pending: PendingUsage) {
        self.record.boot_id = boot_id;
        self.record.usage = Usage::default();
        self.pending = Some(pending);
    }

    /// The worker has counted the prompt.
    fn admitted(&mut self, admitted: Admitted) {
        let record = &mut self.record;
        record.admitted(admitted);
        if let Some(bill) = &self.bill {
            bill.admitted(admitted, &record.usage, record.boot_id);
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
                    bill.progress(&record.usage, record.boot_id);
                }
            }
            Event::Finished(finished) => self.used(finished.usage),
            Event::Admitted(_) | Event::ChoiceFinished(_) | Event::Failed(_) => {}
        }
    }

    /// What the worker says was used, which is more than it sent if it broke off.
    pub(crate) fn used(&mut self, usage: Option<Usage>) {
        self.record.used(usage);
    }

    pub(crate) fn failed(&mut self, error: &Error) {
        self.record.code = error.label();
        self.record.refused = error.is_refusal();
        if let Some(readings) = error.readings() {
            self.limited(readings);
        }
        // Why a body is refused may quote it, and a log never does: its label must do.
        if !matches!(error, Error::Read(_)) {
            tracing::debug!(parent: &self.record.span, %error, "failed");
        }
    }

    /// The answer is known to its end, and was not handed over yet: settles what was used, where that
    /// is known.
    pub(crate) fn ends(&mut self) {
        if self.record.code == "client_left" {
            self.record.code = "ok";
        }
        if !self.expects_more() {
            self.settle();
        }
    }

    /// Settles a whole answer, and waits until that is done: a client that has the end of an answer
    /// finds its meters settled, unless that takes longer than five seconds.
    pub(crate) async fn ends_with(&mut self, status: StatusCode) {
        self.answers_with(status);
        self.ends();
        poll_fn(|cx| self.poll_settled(cx)).await;
    }

    /// Whether what [`Meter::ends`] began is done, or has taken too long: then it goes on by itself, and
    /// the client no longer waits for it.
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

    /// Whether a request was cancelled whose worker has yet to say what it used.
    fn expects_more(&mut self) -> bool {
        let Some(pending) = &mut self.pending else {
            return false;
        };
        match pending.usage.try_recv() {
            Err(TryRecvError::Empty) => return true,
            Ok(usage) => self.record.ended_with(usage),
            // It was not cancelled.
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

    /// The head of the answer is known.
    pub(crate) fn answers_with(&mut self, status: StatusCode) {
        self.record.status = status.as_u16();
    }

    /// Everything that there is to say was said.
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

    /// Leaves a task that settles and writes as soon as the worker has said what it used.
    fn write_later(&mut self, pending: PendingUsage, runtime: &Handle) {
        self.written = true;
        let (mut record, bill) = (self.record.clone(), self.bill.take());
        let PendingUsage { usage, tasks } = pending;
        let work = async move {
            record.ended_with(usage.await.unwrap_or_default());
            if let Some(bill) = bill {
                // It becomes safe without being awaited.
                drop(record.settle(bill));
            }
            record.write();
        };
        tasks.spawn_on(work, runtime);
    }
}

/// A leaver is told only by this: hyper drops what it no longer needs.
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
            // Without a runtime the process is about to end, and nothing can be settled here: the store
            // sweeps the lease.
            (Err(_), _) => self.bill = None,
        }
        self.write();
    }
}

#[cfg(test)]
mod tests;
