//! Collects the body of a request into one buffer, within a size and a time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, EXPECT};
use http::{HeaderMap, HeaderValue};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

/// The body cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// `Content-Type` is not JSON.
    #[error("not JSON by its content type")]
    NotJson {
        /// The type, if there is one.
        content_type: Option<String>,
    },
    /// `Content-Encoding` is not `identity`.
    #[error("compressed")]
    Encoded {
        /// The encoding.
        encoding: String,
    },
    /// The body is larger than the limit.
    #[error("body above {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The body did not arrive in time.
    #[error("body not complete after {limit:?}")]
    TooSlow {
        /// The limit.
        limit: Duration,
    },
    /// The connection broke, or the framing is invalid.
    #[error("body cut off")]
    CutOff,
}

/// Initial capacity for a body of unknown length, in bytes.
const UNKNOWN_LENGTH: usize = 16 << 10;
/// Maximum initial capacity for a declared length, in bytes. The buffer of a longer body grows as bytes arrive,
/// so that a declared length alone allocates nothing.
const BELIEVED_LENGTH: usize = 1 << 20;
/// Maximum length of a header value in an error message, in characters.
const SHOWN_VALUE: usize = 100;
/// Maximum time for which the rest of a refused body is read.
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

/// Reads and discards the rest of a refused body, at most `limit` bytes. Closing a connection with unread bytes
/// resets it, and the client would lose the response. A client that sent `Expect` still waits for `100
/// Continue` and sends no body.
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
    // The response is sent whether or not the body has ended.
    let _ = timeout(DISCARD_TIME, read).await;
}

/// Checks type and encoding. A missing type counts as JSON; a wrong type gets an error of its own.
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

/// The start of a header value, for an error message.
fn shown(value: &HeaderValue) -> String {
    let text = String::from_utf8_lossy(value.as_bytes());
    text.chars().take(SHOWN_VALUE).collect()
}
