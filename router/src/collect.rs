//! The bytes of a request's body: collected once, into one buffer, within a size and a time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, EXPECT};
use http::{HeaderMap, HeaderValue};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

/// The body did not arrive as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// `Content-Type` is not JSON.
    #[error("not JSON by its content type")]
    NotJson {
        /// What it is instead.
        content_type: Option<String>,
    },
    /// `Content-Encoding` is not `identity`.
    #[error("compressed")]
    Encoded {
        /// What it is.
        encoding: String,
    },
    /// More bytes than the limit.
    #[error("body above {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The body came too slowly.
    #[error("body not complete after {limit:?}")]
    TooSlow {
        /// The limit.
        limit: Duration,
    },
    /// The connection broke or the framing is wrong.
    #[error("body cut off")]
    CutOff,
}

/// The first buffer for a body of unknown length.
const UNKNOWN_LENGTH: usize = 16 << 10;
/// A declared length is believed up to here; a longer body grows the buffer as it arrives, so that
/// an announcement alone holds no memory.
const BELIEVED_LENGTH: usize = 1 << 20;
/// Longest part of a header that an answer repeats.
const SHOWN_VALUE: usize = 100;
/// How long the rest of a refused body is read, so that the client gets to the answer.
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// Collects a JSON body of at most `limit` bytes, which must arrive within `time`.
pub(crate) async fn collect(
    headers: &HeaderMap,
    body: &mut Incoming,
    limit: usize,
    time: Duration,
) -> Result<Bytes, ReceiveError> {
    check(headers)?;
    let declared = body.size_hint().exact();
    let too_large = || ReceiveError::TooLarge { limit };
    let capacity = match declared.map(usize::try_from) {
        Some(Ok(length)) if length <= limit => length.min(BELIEVED_LENGTH),
        Some(_) => return Err(too_large()),
        None => UNKNOWN_LENGTH.min(limit),
    };
    let gather = async {
        let mut whole = BytesMut::with_capacity(capacity);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| ReceiveError::CutOff)?.into_data() else {
                continue;
            };
            if whole.len() + data.len() > limit {
                return Err(too_large());
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    };
    timeout(time, gather)
        .await
        .unwrap_or(Err(ReceiveError::TooSlow { limit: time }))
}

/// Reads on and forgets, for a while, what a refused client still sends: closing the connection
/// under its writing would destroy the answer before the client has read it. A client that asked
/// first (`Expect`) sends nothing.
pub(crate) async fn discard(headers: &HeaderMap, body: &mut Incoming, limit: usize) {
    if body.is_end_stream() || headers.contains_key(EXPECT) {
        return;
    }
    let read = async {
        let mut left = limit;
        while let Some(Ok(frame)) = body.frame().await {
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // Late or not: the answer goes out now.
    let _ = timeout(DISCARD_TIME, read).await;
}

/// A missing type is taken for JSON; a wrong one is a mistake that is better named than parsed.
fn check(headers: &HeaderMap) -> Result<(), ReceiveError> {
    if let Some(value) = headers.get(CONTENT_TYPE).filter(|value| !is_json(value)) {
        let content_type = Some(shown(value));
        return Err(ReceiveError::NotJson { content_type });
    }
    match headers.get(CONTENT_ENCODING) {
        Some(value) if !value.as_bytes().eq_ignore_ascii_case(b"identity") => {
            let encoding = shown(value);
            Err(ReceiveError::Encoded { encoding })
        }
        _ => Ok(()),
    }
}

fn is_json(value: &HeaderValue) -> bool {
    let essence = value.to_str().unwrap_or_default().split(';').next();
    let essence = essence.unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

/// What an answer repeats of a header.
fn shown(value: &HeaderValue) -> String {
    let text = String::from_utf8_lossy(value.as_bytes());
    text.chars().take(SHOWN_VALUE).collect()
}
