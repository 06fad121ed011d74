//! What a worker answers: frames become messages, and trailers tell how it ended.

use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use h2::RecvStream;
use http::{HeaderMap, Response, StatusCode};
use inferyard_proto::worker::v1::GenerateEvent;
use prost::Message as _;

use super::Lost;

/// Whether it is compressed, and how long it is.
const PREFIX: usize = 5;
/// Far above any event.
const LARGEST_MESSAGE: usize = 64 << 20;
const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";

/// The answer of a worker.
pub(super) struct Incoming {
    body: RecvStream,
    /// What was read and not taken yet.
    data: Bytes,
    /// The beginning of a message whose end is not there; then `data` is empty.
    partial: BytesMut,
    /// Known from the head on: it was refused by its transport.
    refusal: Option<Lost>,
}

/// Why nothing more will come of a stream that the worker may have seen.
pub(super) fn died(error: &h2::Error) -> Lost {
    Lost::Died(error.to_string())
}

// === impl Incoming ===

impl Incoming {
    pub(super) fn new(response: Response<RecvStream>) -> Self {
        let (head, body) = response.into_parts();
        let refusal = match head.status {
            StatusCode::OK => failure(&head.headers),
            status => Some(Lost::Died(format!("it answered with {status}"))),
        };
        Self {
            body,
            data: Bytes::new(),
            partial: BytesMut::new(),
            refusal,
        }
    }

    /// The next message; `None`: it ended well.
    pub(super) fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<GenerateEvent, Lost>>> {
        if let Some(refusal) = self.refusal.take() {
            return Poll::Ready(Some(Err(refusal)));
        }
        loop {
            if let Some(message) = self.message().transpose() {
                return Poll::Ready(Some(message));
            }
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(data)) => {
                    // It is owed to the worker as soon as it is read: who asks for more has room.
                    let _ = self.body.flow_control().release_capacity(data.len());
                    self.add(data);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(died(&error)))),
                None => {
                    let end = ready!(self.body.poll_trailers(cx));
                    return Poll::Ready(match end {
                        Ok(trailers) => trailers.as_ref().and_then(failure).map(Err),
                        Err(error) => Some(Err(died(&error))),
                    });
                }
            }
        }
    }

    fn add(&mut self, data: Bytes) {
        if self.partial.is_empty() && self.data.is_empty() {
            self.data = data;
        } else {
            self.partial.extend_from_slice(&self.data);
            self.data = Bytes::new();
            self.partial.extend_from_slice(&data);
        }
    }

    /// Takes a message where one is whole.
    fn message(&mut self) -> Result<Option<GenerateEvent>, Lost> {
        let there: &[u8] = if self.partial.is_empty() {
            &self.data
        } else {
            &self.partial
        };
        let Some((prefix, rest)) = there.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let [compressed, length @ ..] = *prefix;
        let length = u32::from_be_bytes(length) as usize;
        if compressed != 0 || length > LARGEST_MESSAGE {
            return Err(Lost::Died("it sent what is no message of ours".to_owned()));
        }
        let Some(message) = rest.get(..length) else {
            return Ok(None);
        };
        let event = GenerateEvent::decode(message);
        let event = event.map_err(|error| Lost::Died(error.to_string()))?;
        if self.partial.is_empty() {
            self.data.advance(PREFIX + length);
        } else {
            self.partial.advance(PREFIX + length);
        }
        Ok(Some(event))
    }
}

/// What a status other than OK says.
fn failure(headers: &HeaderMap) -> Option<Lost> {
    let status = headers.get(STATUS)?;
    if status == "0" {
        return None;
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let (status, message) = (text(STATUS), text(MESSAGE));
    let why = format!(
        "gRPC status {}: {}",
        status.unwrap_or_default(),
        message.unwrap_or_default()
    );
    Some(Lost::Died(why))
}
