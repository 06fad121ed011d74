//! Where files come from: texts of the command line, parsed into checked types.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::{Deserialize, Serialize};

use crate::checksum::{self, Sha256};

/// Where weights come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A repository of a hub with the API of Hugging Face.
    HuggingFace(HuggingFace),
    /// One file at a URL.
    Plain(Plain),
}

/// A repository of a hub.
#[derive(Clone, Debug)]
pub struct HuggingFace {
    /// URL of the hub: `https://huggingface.co` or a mirror.
    pub endpoint: Address,
    /// `owner/name` of the repository.
    pub repo: Repo,
    /// A branch, a tag or a commit.
    pub revision: Revision,
    /// Patterns of file names; empty: the files that an engine reads.
    pub include: Vec<Glob>,
    /// Token for a repository that is not public.
    pub token: Option<Token>,
}

/// One file at a URL.
#[derive(Clone, Debug)]
pub struct Plain {
    /// URL of the file.
    pub url: Address,
    /// Its SHA-256, if it is known.
    pub sha256: Option<Sha256>,
    /// Token for a file that is not public.
    pub token: Option<Token>,
}

/// An `http://` or `https://` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(Url);

/// `owner/name` of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repo(String);

/// A branch, a tag or a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision(String);

/// A pattern of file names: `*` is any text, slashes included, `?` is one character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

/// A bearer token. `Debug` does not show it.
#[derive(Clone, Debug)]
pub struct Token(HeaderValue);

/// Why a text cannot be parsed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Not an address.
    #[error("`{0}` is no address: expected http:// or https://, a host, and no user or password")]
    Address(String),
    /// Not a repository.
    #[error("`{0}` is no repository: expected `owner/name`, as in Qwen/Qwen3-8B-GGUF")]
    Repo(String),
    /// Not a revision.
    #[error("`{0}` is no revision: expected a branch, a tag or a commit, as in main")]
    Revision(String),
    /// Not a pattern.
    #[error("`{0}` is no pattern: expected text with `*` and `?`, as in *Q4_K_M*.gguf")]
    Glob(String),
    /// Not a token.
    #[error("a token has characters that cannot be sent: expected visible ASCII")]
    Token,
}

/// Identity of a source, as it is stored in the record beside the weights. It holds no secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Identity {
    HuggingFace {
        endpoint: String,
        repo: String,
        revision: String,
        include: Vec<String>,
    },
    Plain {
        url: String,
        sha256: Option<String>,
    },
}

// === impl Source ===

impl Source {
    /// The identity that is stored in the record.
    pub(crate) fn identity(&self) -> Identity {
        match self {
            Self::HuggingFace(hub) => Identity::HuggingFace {
                endpoint: hub.endpoint.shown(),
                repo: hub.repo.0.clone(),
                revision: hub.revision.0.clone(),
                include: hub.include.iter().map(|glob| glob.0.clone()).collect(),
            },
            Self::Plain(plain) => Identity::Plain {
                url: plain.url.fingerprint(),
                sha256: plain.sha256.as_ref().map(ToString::to_string),
            },
        }
    }

    /// The token for requests.
    pub(crate) fn token(&self) -> Option<&Token> {
        match self {
            Self::HuggingFace(hub) => hub.token.as_ref(),
            Self::Plain(plain) => plain.token.as_ref(),
        }
    }
}

/// The name of the source in messages.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HuggingFace(hub) => write!(f, "{} at {}", hub.repo.0, hub.revision.0),
            Self::Plain(plain) => plain.url.shown().fmt(f),
        }
    }
}

// === impl Address ===

impl Address {
    /// The URL for requests.
    pub(crate) fn url(&self) -> &Url {
        &self.0
    }

    /// The URL without its query, which may be a signature.
    pub(crate) fn shown(&self) -> String {
        shown(&self.0)
    }

    /// Identifies the URL without revealing its query: a hash stands for it.
    fn fingerprint(&self) -> String {
        match self.0.query() {
            Some(query) => format!("{}?{}", self.shown(), checksum::of(query.as_bytes())),
            None => self.shown(),
        }
    }

    /// A URL below this one; each segment is percent-encoded.
    pub(crate) fn below<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.0.clone();
        url.set_query(None);
        url.path_segments_mut()
            .expect("an address with a host should have a path")
            .pop_if_empty()
            .extend(segments);
        url
    }
}

/// The URL without query and fragment, for messages.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

impl FromStr for Address {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || SourceError::Address(text.chars().take(200).collect());
        let url = Url::parse(text).map_err(|_| wrong())?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none();
        if plain { Ok(Self(url)) } else { Err(wrong()) }
    }
}

// === impl Repo ===

impl Repo {
    pub(crate) fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Repo {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let part = |part: &str| {
            (1..=96).contains(&part.len())
                && part.chars().all(allowed)
                && !part.chars().all(|c| c == '.')
        };
        match text.split_once('/') {
            Some((owner, name)) if part(owner) && part(name) => Ok(Self(text.to_owned())),
            _ => Err(SourceError::Repo(text.chars().take(200).collect())),
        }
    }
}

// === impl Revision ===

impl Revision {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Revision {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '\\' | '?' | '*' | ':' | '~');
        let whole = (1..=255).contains(&text.len()) && text.chars().all(allowed);
        if whole
            && !text
                .split('/')
                .any(|part| part.trim_matches('.').is_empty())
        {
            Ok(Self(text.to_owned()))
        } else {
            Err(SourceError::Revision(text.chars().take(200).collect()))
        }
    }
}

// === impl Glob ===

impl Glob {
    /// Whether the pattern matches a name.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let (pattern, name): (Vec<char>, Vec<char>) =
            (self.0.chars().collect(), name.chars().collect());
        let (mut at, mut place) = (0, 0);
        // Position of the last `*`, and of the end of the text that it matches so far.
        let mut star: Option<(usize, usize)> = None;
        while place < name.len() {
            match pattern.get(at) {
                Some('*') => {
                    star = Some((at, place));
                    at += 1;
                }
                Some(c) if *c == '?' || *c == name[place] => {
                    at += 1;
                    place += 1;
                }
                _ => match &mut star {
                    Some((before, taken)) => {
                        *taken += 1;
                        (at, place) = (*before + 1, *taken);
                    }
                    None => return false,
                },
            }
        }
        pattern[at..].iter().all(|c| *c == '*')
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Glob {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Taken literally they would match nothing, and the message would not say why.
        let unknown = |c: char| matches!(c, '[' | ']' | '{' | '}') || c.is_control();
        if (1..=255).contains(&text.len()) && !text.contains(unknown) {
            Ok(Self(text.to_owned()))
        } else {
            Err(SourceError::Glob(text.chars().take(200).collect()))
        }
    }
}

// === impl Token ===

impl Token {
    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl FromStr for Token {
    type Err = SourceError;

    /// Secrets are often stored with a trailing line break that is not part of them.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(SourceError::Token);
        }
        let value = HeaderValue::from_str(&format!("Bearer {text}"));
        let mut value = value.map_err(|_| SourceError::Token)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

#[cfg(test)]
mod tests;
