//! How a subcommand ends when it does not end well.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use inferyard_manifests::{ManifestFile, Manifests, read};

/// Whose fault it is.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line or a manifest is wrong: the caller must change it.
    Usage(anyhow::Error),
    /// It could not start or broke while running.
    Failed(anyhow::Error),
}

/// Reads and checks manifests.
pub(crate) fn manifests(paths: &[PathBuf]) -> Result<(Vec<ManifestFile>, Manifests), Failure> {
    let files = read(paths).map_err(|error| Failure::Usage(error.into()))?;
    let manifests = Manifests::parse(&files).map_err(|error| Failure::Usage(error.into()))?;
    Ok((files, manifests))
}

/// A name on the command line that the manifests do not know.
pub(crate) fn unknown_model(name: &str) -> Failure {
    Failure::usage(format!("the manifests declare no model named `{name}`"))
}

// === impl Failure ===

impl Failure {
    /// Wrong use, said in a sentence.
    pub(crate) fn usage(message: String) -> Self {
        Self::Usage(anyhow::Error::msg(message))
    }

    /// A failure, said in a sentence.
    pub(crate) fn failed(message: String) -> Self {
        Self::Failed(anyhow::Error::msg(message))
    }

    /// What the shell gets.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::from(1),
        }
    }
}

/// With all causes.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) | Self::Failed(error) => write!(f, "{error:#}"),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}
