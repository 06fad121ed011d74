//! The response of a worker: frames become messages, trailers become a status.

use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use h2::RecvStream;
use http::{HeaderMap, Response, StatusCode};
use inferyard_proto::worker::v1::GenerateEvent;
use prost::Message as _;

use super::TransportError;

/// Length of the gRPC message prefix: a compression flag and a 32-bit length.
const PREFIX: usize = 5;
/// Bytes of a message at most; bounds the memory of one response. Far above any event.
const LARGEST_MESSAGE: usize = 64 << 20;
const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";

/// The response stream of a worker.
pub(super) struct Incoming {
    body: RecvStream,
    /// Bytes that were read but not decoded yet.
    data: Bytes,
    /// An incomplete message; `data` is empty if this is not.
    partial: BytesMut,
    /// An error known from the response headers.
    refusal: Option<TransportError>,
}

/// The error of a broken stream that the worker may have seen.
pub(super) fn died(error: &h2::Error) -> TransportError {
    TransportError::Died(error.to_string())
}

// === impl Incoming ===

impl Incoming {
    pub(super) fn new(response: Response<RecvStream>) -> Self {
        let (head, body) = response.into_parts();
        let refusal = match head.status {
            StatusCode::OK => failure(&head.headers),
            status => Some(TransportError::Died(format!("it answered with {status}"))),
        };
        Self {
            body,
            data: Bytes::new(),
            partial: BytesMut::new(),
            refusal,
        }
    }

    /// The next message; `None`: ended with status OK.
    pub(super) fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<GenerateEvent, TransportError>>> {
        if let Some(refusal) = self.refusal.take() {
            return Poll::Ready(Some(Err(refusal)));
        }
        loop {
            if let Some(message) = self.message().transpose() {
                return Poll::Ready(Some(message));
            }
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Released as soon as it is read: the caller polls only when it has room, so the window still
                    // bounds memory.
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

    /// Decodes the next message, if it is complete.
    fn message(&mut self) -> Result<Option<GenerateEvent>, TransportError> {
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
            return Err(TransportError::Died(
                "it sent what is no message of ours".to_owned(),
            ));
        }
        let Some(message) = rest.get(..length) else {
            return Ok(None);
        };
        let event = GenerateEvent::decode(message);
        let event = event.map_err(|error| TransportError::Died(error.to_string()))?;
        if self.partial.is_empty() {
            self.data.advance(PREFIX + length);
        } else {
            self.partial.advance(PREFIX + length);
        }
        Ok(Some(event))
    }
}

/// The error of a gRPC status other than OK.
fn failure(headers: &HeaderMap) -> Option<TransportError> {
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
    Some(TransportError::Died(why))
}
