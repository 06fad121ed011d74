//! What is wanted, parsed at the edge into what cannot be wrong.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::{Deserialize, Serialize};

use crate::checksum::{self, Sha256};

/// Where weights come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A repository of a hub that speaks Hugging Face's API.
    HuggingFace(HuggingFace),
    /// One file at an address.
    Plain(Plain),
}

/// A repository of a hub.
#[derive(Clone, Debug)]
pub struct HuggingFace {
    /// The hub, `https://huggingface.co` or a mirror.
    pub endpoint: Address,
    /// Whose and which repository.
    pub repo: Repo,
    /// A branch, a tag or a commit.
    pub revision: Revision,
    /// Which files; none: those that an engine reads.
    pub include: Vec<Glob>,
    /// What opens it, where it is not public.
    pub token: Option<Token>,
}

/// One file at an address.
#[derive(Clone, Debug)]
pub struct Plain {
    /// The file.
    pub url: Address,
    /// What it must be.
    pub sha256: Option<Sha256>,
    /// What opens it, where it is not public.
    pub token: Option<Token>,
}

/// An `http://` or `https://` address.
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

/// A bearer token. It is never shown.
#[derive(Clone, Debug)]
pub struct Token(HeaderValue);

/// Why a text is none of these.
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

/// What a folder was filled from, as it is written down beside the weights: without secrets.
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
    /// What is written down of it.
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

    /// What opens it.
    pub(crate) fn token(&self) -> Option<&Token> {
        match self {
            Self::HuggingFace(hub) => hub.token.as_ref(),
            Self::Plain(plain) => plain.token.as_ref(),
        }
    }
}

/// For people.
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
    /// For requests.
    pub(crate) fn url(&self) -> &Url {
        &self.0
    }

    /// Without the query, which can be a signature.
    pub(crate) fn shown(&self) -> String {
        shown(&self.0)
    }

    /// Tells addresses apart without telling the query.
    fn fingerprint(&self) -> String {
        match self.0.query() {
            Some(query) => format!("{}?{}", self.shown(), checksum::of(query.as_bytes())),
            None => self.shown(),
        }
    }

    /// An address below this one; each segment is escaped.
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

/// An address without its query and fragment.
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
    /// Whether a name is meant.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let (pattern, name): (Vec<char>, Vec<char>) =
            (self.0.chars().collect(), name.chars().collect());
        let (mut at, mut place) = (0, 0);
        // Where the last `*` stands, and how far the text is that it stands for.
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
        // Taken as they are, they would match nothing, and nobody would know why.
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

    /// Secrets are often stored with a line end that is not part of them.
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
