//! The files of a source: one request to a hub, and its response in our types.

use bytes::BytesMut;
use reqwest::{Response, Url};
use serde::{Deserialize, Serialize};

use crate::checksum::{Checksum, ChecksumError};
use crate::http::{Context, FetchFailure, Refused, Stopped, Transient};
use crate::name::{Name, NameError};
use crate::retry::Failures;
use crate::source::{HuggingFace, Plain, Source};

/// Most bytes of the response: a repository has thousands of files at most.
const MAX_ANSWER: usize = 64 << 20;
/// File name for a URL without one.
const NAMELESS: &str = "weights";

/// Why the files of a source cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The hub refused the request for good.
    #[error(transparent)]
    Refused(#[from] Box<Refused>),
    /// The response cannot be read.
    #[error("{url} is no answer of a Hugging Face hub: {why}")]
    Answer {
        /// The URL.
        url: String,
        /// What is wrong with the response.
        why: String,
    },
    /// A file name would lead out of the folder.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A checksum cannot be read.
    #[error(transparent)]
    Checksum(#[from] ChecksumError),
    /// The fetch was cancelled.
    #[error("interrupted")]
    Interrupted,
}

/// The files of a source.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The commit that the revision stands for at the moment.
    pub(crate) commit: Option<String>,
    pub(crate) files: Vec<Remote>,
}

/// One file of a source; size and checksum as far as the source has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remote {
    pub(crate) name: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) checksum: Option<Checksum>,
}

/// The parts of the hub's response that are used.
#[derive(Deserialize)]
struct HubResponse {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

/// A file in git LFS or Xet.
#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: Option<u64>,
}

/// Lists the files of the source.
pub(crate) async fn list(context: &Context) -> Result<Listing, ListError> {
    match &context.source {
        Source::HuggingFace(hub) => ask(context, hub).await,
        Source::Plain(plain) => Ok(Listing {
            commit: None,
            files: vec![single(plain)?],
        }),
    }
}

/// The URL of a file.
pub(crate) fn url(source: &Source, commit: Option<&str>, name: &Name) -> Url {
    match source {
        Source::HuggingFace(hub) => {
            let commit = commit.unwrap_or(hub.revision.as_str());
            let place = hub.repo.segments().chain(["resolve", commit]);
            hub.endpoint.below(place.chain(name.segments()))
        }
        Source::Plain(plain) => plain.url.url().clone(),
    }
}

/// The only file of a plain URL.
fn single(plain: &Plain) -> Result<Remote, ListError> {
    let last = plain
        .url
        .url()
        .path_segments()
        .and_then(|mut path| path.next_back());
    let name = last.filter(|name| !name.is_empty()).unwrap_or(NAMELESS);
    Ok(Remote {
        name: name.parse()?,
        size: None,
        checksum: plain.sha256.map(Checksum::Sha256),
    })
}

async fn ask(context: &Context, hub: &HuggingFace) -> Result<Listing, ListError> {
    let place = ["api", "models"].into_iter().chain(hub.repo.segments());
    let mut url = hub
        .endpoint
        .below(place.chain(["revision", hub.revision.as_str()]));
    url.set_query(Some("blobs=true"));
    let mut failures = Failures::default();
    loop {
        let fault = match once(context, &url).await {
            Ok(body) => return read(&url, &body),
            Err(fault) => fault,
        };
        match fault {
            FetchFailure::Transient(_) if context.stop.is_cancelled() => {
                return Err(ListError::Interrupted);
            }
            FetchFailure::Transient(transient) => {
                context
                    .pause(&mut failures, &hub.repo.to_string(), transient)
                    .await?;
            }
            FetchFailure::Permanent(refused) => return Err(refused.into()),
        }
    }
}

async fn once(context: &Context, url: &Url) -> Result<BytesMut, FetchFailure> {
    let mut response = tokio::select! {
        response = context.send(context.get(url), url) => response?,
        () = context.stop.cancelled() => return Err(FetchFailure::Transient("interrupted".to_owned().into())),
    };
    tokio::select! {
        body = collect(context, &mut response, url) => body,
        () = context.stop.cancelled() => Err(FetchFailure::Transient("interrupted".to_owned().into())),
    }
}

async fn collect(
    context: &Context,
    response: &mut Response,
    url: &Url,
) -> Result<BytesMut, FetchFailure> {
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_ANSWER => {
                body.extend_from_slice(&chunk);
            }
            Ok(Some(_)) => {
                let why = format!("its answer has more than {MAX_ANSWER} bytes");
                return Err(FetchFailure::Transient(Transient::from(why)));
            }
            Ok(None) => return Ok(body),
            Err(error) => return Err(context.failed(&error, url)),
        }
    }
}

fn read(url: &Url, body: &[u8]) -> Result<Listing, ListError> {
    let wrong = |why: String| ListError::Answer {
        url: url.to_string(),
        why,
    };
    let answer: HubResponse =
        serde_json::from_slice(body).map_err(|error| wrong(error.to_string()))?;
    let commit = answer.sha;
    if !matches!(commit.len(), 40 | 64) || !commit.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err(wrong(format!("`sha` is no commit: {commit:.100}")));
    }
    let files = answer.siblings.into_iter().map(Sibling::read);
    Ok(Listing {
        commit: Some(commit),
        files: files.collect::<Result<_, _>>()?,
    })
}

// === impl Sibling ===

impl Sibling {
    fn read(self) -> Result<Remote, ListError> {
        let name = self.rfilename.parse()?;
        let (size, checksum) = match (self.lfs, self.blob_id) {
            (Some(lfs), _) => (
                lfs.size.or(self.size),
                Some(Checksum::Sha256(lfs.sha256.parse()?)),
            ),
            // The size is part of what a git id hashes.
            (None, Some(id)) if self.size.is_some() => (self.size, Some(Checksum::git_blob(&id)?)),
            (None, _) => (self.size, None),
        };
        Ok(Remote {
            name,
            size,
            checksum,
        })
    }
}

impl From<Stopped> for ListError {
    fn from(Stopped: Stopped) -> Self {
        Self::Interrupted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn listing(siblings: &str) -> Result<Listing, ListError> {
        let url = Url::parse("http://h/api").unwrap();
        let body =
            format!(r#"{{"_id":"x","id":"a/b","sha":"{COMMIT}","siblings":{siblings},"tags":[]}}"#);
        read(&url, body.as_bytes())
    }

    #[test]
    fn the_hub_tells_sizes_and_checksums() {
        let blob = "ce013625030ba8dba906f756967f9e9ca394464a";
        let sha = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        let listing = listing(&format!(
            r#"[{{"rfilename":"config.json","size":6,"blobId":"{blob}"}},
                {{"rfilename":"a.gguf","size":7,"blobId":"{blob}","lfs":{{"sha256":"{sha}","size":7,"pointerSize":133}}}},
                {{"rfilename":"old.txt"}}]"#
        ));
        let files = listing.unwrap().files;
        let told: Vec<_> = (files.iter())
            .map(|file| (file.size, file.checksum.map(|sum| sum.to_string())))
            .collect();
        let expect = [
            (Some(6), Some(format!("git:{blob}"))),
            (Some(7), Some(format!("sha256:{sha}"))),
            (None, None),
        ];
        assert_eq!(told, expect);
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        for name in ["../../etc/passwd", "/etc/passwd", ".inferyard-fetch/lock"] {
            let error = listing(&format!(r#"[{{"rfilename":"{name}"}}]"#)).unwrap_err();
            assert!(matches!(error, ListError::Name(_)), "{error}");
            assert!(error.to_string().contains("refused"), "{error}");
        }
    }

    #[test]
    fn what_is_no_hub_is_told() {
        let url = Url::parse("http://h/api").unwrap();
        for body in ["<html>", "{}", r#"{"sha":"../main","siblings":[]}"#] {
            let error = read(&url, body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("no answer of a Hugging Face hub"), "{error}");
        }
    }

    #[test]
    fn a_file_of_an_address_has_its_last_name() {
        let table = [
            ("https://h/a/b.gguf?x=y", "b.gguf"),
            ("https://h/a/", NAMELESS),
            ("https://h", NAMELESS),
            ("https://h/a/../..", NAMELESS),
        ];
        for (url, expect) in table {
            let plain = Plain {
                url: url.parse().unwrap(),
                sha256: None,
                token: None,
            };
            assert_eq!(single(&plain).unwrap().name.as_str(), expect, "{url}");
        }
    }
}
