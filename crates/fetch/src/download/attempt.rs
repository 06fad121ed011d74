//! One request for what is missing of a file, and what its answer adds.

use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{Response, StatusCode, Url};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::ask::{Fault, Passing, Refused, Way};
use crate::download::part::Part;
use crate::download::{DownloadError, Wrong, blocking};
use crate::folder::Folder;
use crate::list::Remote;
use crate::plan::{self, NoRoom};

/// Pieces that wait to be written: with those of the network at most some megabytes for each file.
const PIECES: usize = 16;

/// What all requests for one file share.
pub(super) struct Attempt<'a> {
    pub(super) way: &'a Way,
    pub(super) remote: &'a Remote,
    folder: &'a Folder,
    url: Url,
    /// The whole, as the source or the first answer told.
    size: Option<u64>,
    /// The server answers a range with something else.
    whole_only: bool,
}

/// Why a file is not complete after a request.
pub(super) enum Cut {
    Passing(Passing),
    Refused(Box<Refused>),
    Wrong(Wrong),
    Room(NoRoom),
    Stopped,
}

/// What an answer says about itself.
struct Said {
    /// Where its first byte belongs.
    from: u64,
    /// Bytes of the whole.
    total: Option<u64>,
    validator: Option<String>,
}

type Outcome = (Part, Result<(), Cut>);

// === impl Attempt ===

impl<'a> Attempt<'a> {
    pub(super) fn new(way: &'a Way, folder: &'a Folder, remote: &'a Remote, url: Url) -> Self {
        Self {
            way,
            remote,
            folder,
            url,
            size: remote.size,
            whole_only: false,
        }
    }

    /// Asks for what is missing, and takes what comes.
    pub(super) async fn run(&mut self, mut part: Part) -> Result<Outcome, DownloadError> {
        if part.length() > 0 && self.size == Some(part.length()) {
            return Ok((part, Ok(())));
        }
        if part.length() > 0 && (self.whole_only || !part.can_go_on()) {
            part = reset(part).await?;
        }
        let response = tokio::select! {
            response = self.ask(&part) => response,
            () = self.way.stop.cancelled() => return Ok((part, Err(Cut::Stopped))),
        };
        let response = match response {
            Ok(response) => response,
            Err(fault) => return Ok((part, Err(fault.into()))),
        };
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return self.nothing_left(part, &response).await;
        }
        let said = match self.said(&part, &response) {
            Ok(said) => said,
            Err(cut) => return Ok((part, Err(cut))),
        };
        if said.from == 0 && part.length() > 0 {
            part = reset(part).await?;
        }
        if let Err(cut) = self.learn(said.total, &part) {
            return Ok((part, Err(cut)));
        }
        part = blocking(move || part.begin(said.validator).map(|()| part)).await?;
        self.take(part, response).await
    }

    async fn ask(&self, part: &Part) -> Result<Response, Fault> {
        let mut request = self.way.get(&self.url);
        if part.length() > 0 {
            request = request.header(RANGE, format!("bytes={}-", part.length()));
            if let Some(validator) = part.validator() {
                request = request.header(IF_RANGE, validator);
            }
        }
        self.way.send(request, &self.url).await
    }

    /// What the answer is, if it fits to what is here.
    fn said(&mut self, part: &Part, response: &Response) -> Result<Said, Cut> {
        let validator = validator(response.headers());
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(Said {
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
            // Not again: it would answer the same.
            self.whole_only = true;
            let why = if other {
                "the file has changed"
            } else {
                "another range came than was asked for"
            };
            return Err(Cut::Passing(why.to_owned().into()));
        }
        Ok(Said {
            from,
            total,
            validator,
        })
    }

    /// 416: what is here is all there is, or of no use.
    async fn nothing_left(
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
                host: crate::ask::host(response.url()),
                status: 416,
                what: self.remote.name.to_string(),
                said: String::new(),
            };
            return Ok((part, Err(Cut::Refused(Box::new(refused)))));
        }
        let part = reset(part).await?;
        let why = "the server has fewer bytes than are here".to_owned();
        Ok((part, Err(Cut::Passing(why.into()))))
    }

    /// How large the whole is, if the answer tells it.
    fn learn(&mut self, total: Option<u64>, part: &Part) -> Result<(), Cut> {
        let Some(total) = total else {
            return Ok(());
        };
        match self.size {
            Some(size) if size == total => Ok(()),
            Some(size) if self.remote.size.is_some() => Err(Cut::Wrong(sizes(size, total))),
            // Only the server told it, and it has another file now.
            known => {
                self.way.progress.expect(known.unwrap_or(0), total);
                self.size = Some(total);
                plan::room(self.folder, total.saturating_sub(part.length())).map_err(Cut::Room)
            }
        }
    }

    /// Passes what comes to a thread that writes.
    async fn take(&self, mut part: Part, mut response: Response) -> Result<Outcome, DownloadError> {
        let mut left = self.size.map(|size| size.saturating_sub(part.length()));
        let (pieces, mut written) = mpsc::channel(PIECES);
        let writer = spawn_blocking(move || {
            let done = part.append(&mut written);
            (part, done)
        });
        let end = loop {
            let piece = tokio::select! {
                piece = response.chunk() => piece,
                () = self.way.stop.cancelled() => break Err(Cut::Stopped),
            };
            let piece = match piece {
                Ok(Some(piece)) => piece,
                Ok(None) => break Ok(()),
                Err(error) => break Err(self.way.failed(&error, &self.url).into()),
            };
            let length = piece.len() as u64;
            if let Some(left) = &mut left {
                match left.checked_sub(length) {
                    Some(less) => *left = less,
                    None => break Err(Cut::Wrong(longer(self.size))),
                }
            }
            // The writer's own error says why it has gone.
            if pieces.send(piece).await.is_err() {
                break Ok(());
            }
        };
        drop(pieces);
        let (part, done) = writer.await.expect("work with the disk should not panic");
        done?;
        Ok(match end {
            Ok(()) if left.is_some_and(|left| left > 0) => {
                let why = format!("{} closed the connection", crate::ask::host(response.url()));
                (part, Err(Cut::Passing(why.into())))
            }
            end => (part, end),
        })
    }
}

async fn reset(mut part: Part) -> Result<Part, DownloadError> {
    blocking(move || part.reset().map(|()| part)).await
}

/// What changes with the file: a strong `ETag`, or else a date. A weak one is of no use for ranges.
fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name)?.to_str().ok();
    let tag = text(ETAG).filter(|tag| !tag.starts_with("W/"));
    tag.or_else(|| text(LAST_MODIFIED)).map(str::to_owned)
}

/// `bytes 5-9/10`: where it begins, and the whole if it is told.
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

impl From<Fault> for Cut {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Passing(passing) => Self::Passing(passing),
            Fault::Lasting(refused) => Self::Refused(refused),
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
