//! The exit code and message of a subcommand that failed.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use inferyard_manifests::{ManifestFile, Manifests, read};

/// The cause of a failure, which decides the exit code.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line or a manifest is wrong: exit code 2.
    Usage(anyhow::Error),
    /// It could not start, or failed while running: exit code 1.
    Failed(anyhow::Error),
}

/// Reads and checks manifests.
pub(crate) fn manifests(paths: &[PathBuf]) -> Result<(Vec<ManifestFile>, Manifests), Failure> {
    let files = read(paths).map_err(|error| Failure::Usage(error.into()))?;
    let manifests = Manifests::parse(&files).map_err(|error| Failure::Usage(error.into()))?;
    Ok((files, manifests))
}

/// A name on the command line that the manifests do not declare.
pub(crate) fn unknown_model(name: &str) -> Failure {
    Failure::usage(format!("the manifests declare no model named `{name}`"))
}

// === impl Failure ===

impl Failure {
    /// A usage error with this message.
    pub(crate) fn usage(message: String) -> Self {
        Self::Usage(anyhow::Error::msg(message))
    }

    /// A failure with this message.
    pub(crate) fn failed(message: String) -> Self {
        Self::Failed(anyhow::Error::msg(message))
    }

    /// The exit code of the process.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::from(1),
        }
    }
}

/// The message, with all causes.
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
