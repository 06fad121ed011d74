//! Compiles the schemas of a request in a process of their own first, which the kernel ends when they take too much.
//!
//! What a schema costs cannot be read from it: a few hundred bytes can take minutes and gigabytes, and a
//! thread that compiles cannot be stopped. Schemas that the process got through are compiled again in the
//! worker, where they take about as long.

mod child;

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::Semaphore;

use super::checked::Checked;
use super::schema::{Form, Schema};

pub use child::compile_schemas;

/// The subcommand of the program.
const SUBCOMMAND: &str = "compile-schemas";

/// Where schemas are compiled first.
pub struct Sandbox {
    // None: there is none, and all schemas pass.
    program: Option<PathBuf>,
    // The engine's threads need the processor as well.
    turns: Semaphore,
    passed: Checked,
}

/// Why schemas are not compiled in the worker.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Compiling this one takes too much; the path is where it stands in the request.
    #[error("'{path}' cannot be enforced: compiling it takes too long, or too much memory.")]
    TooMuch {
        /// Where the schema stands in the request.
        path: String,
    },
    /// The process could not be started, or did not do its work: no request's fault.
    #[error("schemas cannot be compiled: {0}")]
    Broken(#[from] io::Error),
}

/// A schema as it goes to the process.
#[derive(Serialize, Deserialize)]
struct Draft {
    text: String,
    strict: bool,
    arguments: bool,
}

// === impl Draft ===

impl Draft {
    /// None: what is not UTF-8 is refused before anything is compiled.
    fn new(form: Form, schema: &Schema) -> Option<Self> {
        Some(Self {
            text: std::str::from_utf8(&schema.text).ok()?.to_owned(),
            strict: schema.strict,
            arguments: form == Form::Object,
        })
    }
}

// === impl Sandbox ===

impl Sandbox {
    /// `program`: `inferyard`. None: schemas are compiled in this process only, without a bound.
    #[must_use]
    pub fn new(program: Option<PathBuf>) -> Self {
        Self {
            program,
            turns: Semaphore::new((num_cpus::get() / 2).max(1)),
            passed: Checked::default(),
        }
    }

    /// Compiles the schemas, unless they are known to compile within the limits. Dropping the future ends
    /// the process.
    ///
    /// Schemas that are refused for another reason pass: that reason is found again.
    ///
    /// # Errors
    ///
    /// [`SandboxError::TooMuch`]; anything else is not the schemas' fault.
    pub async fn admit(&self, schemas: &[(Form, Schema)]) -> Result<(), SandboxError> {
        let drafts = schemas.iter();
        let drafts = drafts.map(|(form, schema)| Draft::new(*form, schema));
        let (Some(program), Some(drafts)) = (&self.program, drafts.collect::<Option<Vec<_>>>())
        else {
            return Ok(());
        };
        let drafts = serde_json::to_vec(&drafts).map_err(io::Error::from)?;
        if schemas.is_empty() || self.passed.contains(&drafts) {
            return Ok(());
        }
        let _turn = self.turns.acquire().await.map_err(io::Error::other)?;
        let mut command = Command::new(program);
        command.arg0("inferyard").arg(SUBCOMMAND);
        let (status, compiled) = run(command, &drafts).await?;
        if status.success() {
            self.passed.insert(&drafts);
            return Ok(());
        }
        // A signal: a limit of the kernel, or the stack. Of the exit codes, a panic's.
        match schemas.get(compiled) {
            Some((_, schema)) if matches!(status.code(), None | Some(101)) => {
                tracing::info!(%status, "a schema takes too much to compile");
                Err(SandboxError::TooMuch {
                    path: schema.path.clone(),
                })
            }
            _ => Err(io::Error::other(format!("{SUBCOMMAND}: {status}")).into()),
        }
    }
}

/// How the process ended, and how many schemas it had compiled by then.
async fn run(mut command: Command, drafts: &[u8]) -> io::Result<(ExitStatus, usize)> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // What it says may quote a schema.
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        match input.write_all(drafts).await {
            // It was ended before it had read all: how, says its status.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            written => written?,
        }
    }
    let mut compiled = Vec::new();
    if let Some(mut output) = child.stdout.take() {
        output.read_to_end(&mut compiled).await?;
    }
    Ok((child.wait().await?, compiled.len()))
}

#[cfg(test)]
mod tests;
