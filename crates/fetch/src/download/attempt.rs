//! One attempt to download a file: a request for the missing bytes, and the response to it.

use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{Response, StatusCode, Url};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::download::part::Part;
use crate::download::{DownloadError, Wrong, blocking};
use crate::folder::Folder;
use crate::http::{Context, FetchFailure, Refused, Transient};
use crate::list::Remote;
use crate::plan::{self, NoRoom};

/// Chunks that may wait for the writer: together with the buffers of the network at most some megabytes per file.
const PIECES: usize = 16;

/// What all attempts for one file share.
pub(super) struct Attempt<'a> {
    pub(super) context: &'a Context,
    pub(super) remote: &'a Remote,
    folder: &'a Folder,
    url: Url,
    /// Size of the whole file in bytes, from the source or from the first response.
    size: Option<u64>,
    /// The server answers range requests wrongly, so only the whole file is requested.
    whole_only: bool,
}

/// Why a file is not complete after an attempt.
pub(super) enum AttemptError {
    Transient(Transient),
    Refused(Box<Refused>),
    Wrong(Wrong),
    Room(NoRoom),
    Stopped,
}

/// Which bytes of the file a response has.
struct ResponseRange {
    /// Offset of its first byte.
    from: u64,
    /// Size of the whole file in bytes.
    total: Option<u64>,
    validator: Option<String>,
}

type Outcome = (Part, Result<(), AttemptError>);

// === impl Attempt ===

impl<'a> Attempt<'a> {
    pub(super) fn new(
        context: &'a Context,
        folder: &'a Folder,
        remote: &'a Remote,
        url: Url,
    ) -> Self {
        Self {
            context,
            remote,
            folder,
            url,
            size: remote.size,
            whole_only: false,
        }
    }

    /// Requests the missing bytes and writes those that arrive.
    pub(super) async fn run(&mut self, mut part: Part) -> Result<Outcome, DownloadError> {
        if part.length() > 0 && self.size == Some(part.length()) {
            return Ok((part, Ok(())));
        }
        if part.length() > 0 && (self.whole_only || !part.can_go_on()) {
            part = reset(part).await?;
        }
        let response = tokio::select! {
            response = self.request(&part) => response,
            () = self.context.stop.cancelled() => return Ok((part, Err(AttemptError::Stopped))),
        };
        let response = match response {
            Ok(response) => response,
            Err(failure) => return Ok((part, Err(failure.into()))),
        };
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return self.range_not_satisfiable(part, &response).await;
        }
        let range = match self.response_range(&part, &response) {
            Ok(range) => range,
            Err(error) => return Ok((part, Err(error))),
        };
        if range.from == 0 && part.length() > 0 {
            part = reset(part).await?;
        }
        if let Err(error) = self.set_size(range.total, &part) {
            return Ok((part, Err(error)));
        }
        part = blocking(move || part.begin(range.validator).map(|()| part)).await?;
        self.receive(part, response).await
    }

    async fn request(&self, part: &Part) -> Result<Response, FetchFailure> {
        let mut request = self.context.get(&self.url);
        if part.length() > 0 {
            request = request.header(RANGE, format!("bytes={}-", part.length()));
            if let Some(validator) = part.validator() {
                request = request.header(IF_RANGE, validator);
            }
        }
        self.context.send(request, &self.url).await
    }

    /// The range of a response, if it continues the bytes that are here.
    fn response_range(
        &mut self,
        part: &Part,
        response: &Response,
    ) -> Result<ResponseRange, AttemptError> {
        let validator = validator(response.headers());
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(ResponseRange {
                from: 0,
                total: response.content_length(),
                validator,
            });
        }
        let range = response
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|range| range.to_str().ok());
        let (from, total) = range.and_then(content_range).unwrap_or((u64::MAX, None));
        let other = part
            .validator()
            .is_some_and(|before| validator.as_deref() != Some(before));
        if from != part.length() || other {
            // Another range request would get the same response.
            self.whole_only = true;
            let why = if other {
                "the file has changed"
            } else {
                "another range came than was asked for"
            };
            return Err(AttemptError::Transient(why.to_owned().into()));
        }
        Ok(ResponseRange {
            from,
            total,
            validator,
        })
    }

    /// Status 416: the file is complete, or its bytes are those of another file and are dropped.
    async fn range_not_satisfiable(
        &mut self,
        part: Part,
        response: &Response,
    ) -> Result<Outcome, DownloadError> {
        let range = response
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|range| range.to_str().ok());
        let total = range.and_then(|range| range.strip_prefix("bytes */")?.parse().ok());
        if part.length() > 0 && total == Some(part.length()) && self.remote.checksum.is_some() {
            return Ok((part, Ok(())));
        }
        if part.length() == 0 {
            let refused = Refused::Status {
                host: crate::http::host(response.url()),
                status: 416,
                what: self.remote.name.to_string(),
                message: String::new(),
            };
            return Ok((part, Err(AttemptError::Refused(Box::new(refused)))));
        }
        let part = reset(part).await?;
        let why = "the server has fewer bytes than are here".to_owned();
        Ok((part, Err(AttemptError::Transient(why.into()))))
    }

    /// Sets the size of the whole file if the response has it, and checks that there is room for the rest.
    fn set_size(&mut self, total: Option<u64>, part: &Part) -> Result<(), AttemptError> {
        let Some(total) = total else {
            return Ok(());
        };
        match self.size {
            Some(size) if size == total => Ok(()),
            Some(size) if self.remote.size.is_some() => {
                Err(AttemptError::Wrong(sizes(size, total)))
            }
            // The size is from an earlier response, not from the source: the server has another file now.
            known => {
                self.context.progress.expect(known.unwrap_or(0), total);
                self.size = Some(total);
                plan::room(self.folder, total.saturating_sub(part.length()))
                    .map_err(AttemptError::Room)
            }
        }
    }

    /// Receives the body and hands it to a thread that writes.
    async fn receive(
        &self,
        mut part: Part,
        mut response: Response,
    ) -> Result<Outcome, DownloadError> {
        let mut left = self.size.map(|size| size.saturating_sub(part.length()));
        let (pieces, mut written) = mpsc::channel(PIECES);
        let writer = spawn_blocking(move || {
            let done = part.append(&mut written);
            (part, done)
        });
        let end = loop {
            let piece = tokio::select! {
                piece = response.chunk() => piece,
                () = self.context.stop.cancelled() => break Err(AttemptError::Stopped),
            };
            let piece = match piece {
                Ok(Some(piece)) => piece,
                Ok(None) => break Ok(()),
                Err(error) => break Err(self.context.failed(&error, &self.url).into()),
            };
            let length = piece.len() as u64;
            if let Some(left) = &mut left {
                match left.checked_sub(length) {
                    Some(less) => *left = less,
                    None => break Err(AttemptError::Wrong(longer(self.size))),
                }
            }
            // The writer has failed; its own error says why.
            if pieces.send(piece).await.is_err() {
                break Ok(());
            }
        };
        drop(pieces);
        let (part, done) = writer.await.expect("work with the disk should not panic");
        done?;
        Ok(match end {
            Ok(()) if left.is_some_and(|left| left > 0) => {
                let why = format!(
                    "{} closed the connection",
                    crate::http::host(response.url())
                );
                (part, Err(AttemptError::Transient(why.into())))
            }
            end => (part, end),
        })
    }
}

async fn reset(mut part: Part) -> Result<Part, DownloadError> {
    blocking(move || part.reset().map(|()| part)).await
}

/// The validator for `If-Range`: a strong `ETag`, or else `Last-Modified`. A weak `ETag` is not allowed there.
fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name)?.to_str().ok();
    let tag = text(ETAG).filter(|tag| !tag.starts_with("W/"));
    tag.or_else(|| text(LAST_MODIFIED)).map(str::to_owned)
}

/// Reads `bytes 5-9/10`: the offset of the first byte, and the size of the whole file if it is known (`*`: it is not).
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, _) = range.split_once('-')?;
    Some((from.parse().ok()?, total.parse().ok()))
}

fn sizes(expected: u64, got: u64) -> Wrong {
    Wrong {
        expected: format!("{expected} bytes"),
        got: format!("{got} bytes"),
    }
}

fn longer(expected: Option<u64>) -> Wrong {
    let expected = expected.unwrap_or(0);
    Wrong {
        expected: format!("{expected} bytes"),
        got: "longer".to_owned(),
    }
}

impl From<FetchFailure> for AttemptError {
    fn from(failure: FetchFailure) -> Self {
        match failure {
            FetchFailure::Transient(transient) => Self::Transient(transient),
            FetchFailure::Permanent(refused) => Self::Refused(refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn a_range_is_read() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 0-0/*"), Some((0, None)));
        for wrong in ["", "bytes */10", "items 1-2/3", "bytes a-b/c", "bytes 5"] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_weak_tag_says_nothing_about_bytes() {
        let headers = |pairs: &[(reqwest::header::HeaderName, &'static str)]| {
            let pairs = pairs.iter().cloned();
            validator(
                &pairs
                    .map(|(name, value)| (name, HeaderValue::from_static(value)))
                    .collect(),
            )
        };
        assert_eq!(
            headers(&[(ETAG, "\"a\""), (LAST_MODIFIED, "now")]).unwrap(),
            "\"a\""
        );
        assert_eq!(
            headers(&[(ETAG, "W/\"a\""), (LAST_MODIFIED, "now")]).unwrap(),
            "now"
        );
        assert_eq!(headers(&[(ETAG, "W/\"a\"")]), None);
    }
}
