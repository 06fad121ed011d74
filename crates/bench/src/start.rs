//! The time from the start of `inferyard up` to the first token, and the memory after it.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::http::{Api, Http};
use crate::process::{Memory, Process, children, memory};
use crate::system::QUICKSTART;
use crate::way::Way;

/// The start of a whole system.
#[derive(Debug, Serialize)]
pub(crate) struct Start {
    /// From the start of `up` until it reports that it is ready.
    pub(crate) ready_ms: f64,
    /// From the start of `up` until the first token of a request sent at `ready_ms`.
    pub(crate) first_token_ms: f64,
    /// Memory of each process after that request, by its role.
    pub(crate) memory: Vec<(String, Memory)>,
}

/// The line that `up` prints when it is ready.
#[derive(Deserialize)]
struct Ready {
    base_url: String,
    api_key: String,
    models: Vec<String>,
}

/// Starts `up` on the quickstart, sends one request, and stops it.
pub(crate) async fn measure(binary: &Path) -> Result<Start> {
    let state = tempfile::tempdir()?;
    let mut command = Command::new(binary);
    command.args([
        "up",
        "-f",
        QUICKSTART,
        "--listen",
        "127.0.0.1:0",
        "--output",
        "json",
    ]);
    command.arg("--state").arg(state.path());
    let begin = Instant::now();
    let milliseconds = |until: Instant| until.duration_since(begin).as_secs_f64() * 1e3;
    let mut up = Process::start(command, None)?;
    let ready: Ready = serde_json::from_str(&up.line().await?)?;
    let ready_ms = milliseconds(Instant::now());

    let address = ready
        .base_url
        .strip_prefix("http://")
        .context("`up` should serve HTTP")?;
    let address = address.trim_end_matches("/v1").to_owned();
    let model = ready
        .models
        .into_iter()
        .next()
        .context("`up` should serve a model")?;
    let api = Api {
        address,
        key: ready.api_key,
        model,
    };
    let first_token = Http::connect(&api).await?.answer(0).await?.first_token;

    let mut held = vec![("up".to_owned(), up.memory()?)];
    for (id, line) in children(up.id())? {
        let role = line.split(' ').nth(1).unwrap_or_default().to_owned();
        held.push((role, memory(id)?));
    }
    up.end().await?;
    Ok(Start {
        ready_ms,
        first_token_ms: milliseconds(first_token),
        memory: held,
    })
}
