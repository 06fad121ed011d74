//! Step 6: the worker's events, from the commit point on.

use std::error::Error as _;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use inferyard_proto::worker::v1::generate_event::Event;
use inferyard_proto::worker::v1::{GenerateEvent, GenerateRequest, Usage};
use opentelemetry::propagation::Injector;
use tokio_stream::Stream as _;
use tonic::metadata::{MetadataKey, MetadataMap};
use tonic::{ConnectError, Request, Status, Streaming};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::error::StreamError;
use crate::meter::Meter;
use crate::place::Slot;

mod tries;

pub(crate) use tries::Tries;

/// An answer that has begun: the first token is there, so no other worker takes over.
#[derive(Debug)]
pub(crate) struct Tokens {
    /// The event that was the commit point, until it is taken.
    first: Option<Event>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Running {
        events: Box<Streaming<GenerateEvent>>,
        /// Given back as soon as the worker is done.
        _slot: Slot,
    },
    /// The last event was given out; the transport's own end is still to come. Dropping the stream
    /// before it would cancel what is complete.
    Finished(Box<Streaming<GenerateEvent>>),
    Ended,
}

/// Why an answer broke off, and what was produced until then, where the worker said so.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) error: StreamError,
    pub(crate) usage: Option<Usage>,
}

/// Sends a request to its worker and waits for the first token.
#[tracing::instrument(level = "debug", skip_all)]
pub(crate) async fn open(
    slot: Slot,
    request: GenerateRequest,
    meter: &mut Meter,
) -> Result<Tokens, StreamError> {
    meter.tries(slot.boot_id());
    let mut request = Request::new(request);
    let context = tracing::Span::current().context();
    opentelemetry::global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&context, &mut Headers(request.metadata_mut()));
    });
    let mut client = slot.worker().client();
    let events = client
        .generate(request)
        .await
        .map_err(|status| broken(&status))?
        .into_inner();
    let mut tokens = Tokens {
        first: None,
        phase: Phase::Running {
            events: Box::new(events),
            _slot: slot,
        },
    };
    loop {
        match poll_fn(|cx| tokens.poll_event(cx)).await {
            Some(Ok(Event::Admitted(admitted))) => meter.admitted(admitted),
            Some(Ok(event)) => {
                meter.begins();
                tokens.first = Some(event);
                return Ok(tokens);
            }
            Some(Err(Broken { error, usage })) => {
                // Nothing came of it: only what the worker itself says was used counts.
                meter.used(Some(usage.unwrap_or_default()));
                return Err(error);
            }
            None => return Err(StreamError::Contract("no event was the last one")),
        }
    }
}

// === impl Tokens ===

impl Tokens {
    /// The next event. `Failed` comes as an error, and so does a stream that just ends; after
    /// `Finished` comes `None`.
    pub(crate) fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Event, Broken>>> {
        if let Some(event) = self.first.take() {
            return Poll::Ready(Some(Ok(event)));
        }
        loop {
            let events = match &mut self.phase {
                Phase::Running { events, .. } => events,
                Phase::Finished(events) => {
                    // Whatever it is, the answer was complete before it.
                    let _ = ready!(Pin::new(&mut **events).poll_next(cx));
                    self.phase = Phase::Ended;
                    return Poll::Ready(None);
                }
                Phase::Ended => return Poll::Ready(None),
            };
            let (error, usage) = match ready!(Pin::new(&mut **events).poll_next(cx)) {
                Some(Ok(GenerateEvent { event: Some(event) })) => match event {
                    Event::Failed(failed) => StreamError::from_failed(failed),
                    event => {
                        self.finish_after(&event);
                        return Poll::Ready(Some(Ok(event)));
                    }
                },
                // An event of a later version of the contract.
                Some(Ok(GenerateEvent { event: None })) => continue,
                Some(Err(status)) => (broken(&status), None),
                None => (early_end(), None),
            };
            self.phase = Phase::Ended;
            return Poll::Ready(Some(Err(Broken { error, usage })));
        }
    }

    fn finish_after(&mut self, event: &Event) {
        if !matches!(event, Event::Finished(_)) {
            return;
        }
        self.phase = match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Running { events, .. } => Phase::Finished(events),
            other => other,
        };
    }
}

fn early_end() -> StreamError {
    StreamError::Died {
        message: "the stream ended before the answer".to_owned(),
    }
}

/// A status other than OK says that the transport or the worker broke. Where not even a connection
/// came about, the worker has not seen the request.
fn broken(status: &Status) -> StreamError {
    let message = format!("{:?}: {}", status.code(), status.message());
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return StreamError::Unreachable { message };
        }
        source = error.source();
    }
    StreamError::Died { message }
}

/// gRPC metadata as what a trace context is written into.
struct Headers<'a>(&'a mut MetadataMap);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (MetadataKey::from_bytes(key.as_bytes()), value.parse()) {
            self.0.insert(key, value);
        }
    }
}
