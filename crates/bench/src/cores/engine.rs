//! The engines to measure: a worker, called over gRPC, and llama.cpp itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail};
use inferyard_proto::worker::v1::generate_event::Event;
use inferyard_proto::worker::v1::generate_request::Prompt;
use inferyard_proto::worker::v1::text_prompt::Content;
use inferyard_proto::worker::v1::{GenerateRequest, Sampling, TextPrompt};
use tokio::task::JoinSet;

use super::condition::Ground;
use super::ggml;
use super::stretch::Stretch;
use crate::grpc::Grpc;
use crate::process::Process;
use crate::system::listening;

/// Name of the model.
const MODEL: &str = "gemma";
/// Tokens per answer.
const MAX_TOKENS: u32 = 200;
/// Cells of the KV cache, enough for all streams.
const KV_TOKENS: &str = "8192";

/// An engine to measure.
pub(super) enum Engine {
    /// Our worker, with this `GOMP_SPINCOUNT` or its own default.
    Worker {
        binary: PathBuf,
        gguf: PathBuf,
        spin_count: Option<u64>,
    },
    /// llama.cpp, as `node-llama-cpp` ships it.
    LlamaCpp { folder: PathBuf, gguf: PathBuf },
}

/// A running engine.
pub(super) enum Running<'e> {
    Worker { process: Box<Process>, client: Grpc },
    // Started again for each number of streams.
    LlamaCpp { folder: &'e Path, gguf: &'e Path },
}

// === impl Engine ===

impl Engine {
    pub(super) fn worker(binary: &Path, gguf: &Path, spin_count: Option<u64>) -> Self {
        Self::Worker {
            binary: binary.to_owned(),
            gguf: gguf.to_owned(),
            spin_count,
        }
    }

    pub(super) fn llama_cpp(folder: &Path, gguf: &Path) -> Self {
        Self::LlamaCpp {
            folder: folder.to_owned(),
            gguf: gguf.to_owned(),
        }
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Worker {
                spin_count: None, ..
            } => "Inferyard".to_owned(),
            Self::Worker {
                spin_count: Some(count),
                ..
            } => format!("Inferyard, GOMP_SPINCOUNT={count}"),
            Self::LlamaCpp { .. } => "llama.cpp".to_owned(),
        }
    }

    /// Starts the engine in a condition.
    pub(super) async fn start(&self, ground: &Ground) -> Result<Running<'_>> {
        let (binary, gguf, spin_count) = match self {
            Self::LlamaCpp { folder, gguf } => return Ok(Running::LlamaCpp { folder, gguf }),
            Self::Worker {
                binary,
                gguf,
                spin_count,
            } => (binary, gguf, spin_count),
        };
        let mut command = ground.command(binary)?;
        command.args(["worker", "--model", MODEL, "--listen", "127.0.0.1:0"]);
        command.args(["--kv-tokens", KV_TOKENS, "--context-length", "512"]);
        command.arg("--gguf").arg(gguf);
        command
            .env_remove("GOMP_SPINCOUNT")
            .env_remove("OMP_WAIT_POLICY");
        if let Some(count) = spin_count {
            command.env("GOMP_SPINCOUNT", count.to_string());
        }
        let mut process = Process::start(command, None)?;
        let address = listening(&mut process).await?;
        let mut client = Grpc::connect(&address).await?;
        client.ready().await?;
        let process = Box::new(process);
        Ok(Running::Worker { process, client })
    }
}

// === impl Running ===

impl Running<'_> {
    /// Tokens per second in total, with this number of streams.
    pub(super) async fn speed(
        &mut self,
        ground: &Ground,
        streams: usize,
        stretch: Stretch,
    ) -> Result<f64> {
        match self {
            Self::Worker { client, .. } => speed_of_worker(client, streams, stretch).await,
            Self::LlamaCpp { folder, gguf } => {
                ggml::speed(ground, folder, gguf, streams, stretch).await
            }
        }
    }

    pub(super) async fn end(self) -> Result<()> {
        match self {
            Self::Worker { process, client } => {
                drop(client);
                process.end().await
            }
            Self::LlamaCpp { .. } => Ok(()),
        }
    }
}

async fn speed_of_worker(client: &Grpc, streams: usize, stretch: Stretch) -> Result<f64> {
    let tokens = Arc::new(AtomicU64::new(0));
    let mut running = JoinSet::new();
    for stream in 0..streams {
        let (client, tokens) = (client.clone(), Arc::clone(&tokens));
        running.spawn(async move {
            for number in 0.. {
                answer(&client, stream, number, &tokens).await?;
            }
            anyhow::Ok(())
        });
    }
    tokio::select! {
        // Dropping the set cancels the answers that still run.
        speed = stretch.speed(&tokens) => Ok(speed),
        Some(ended) = running.join_next() => match ended? {
            Err(error) => Err(error),
            Ok(()) => bail!("a stream ended"),
        },
    }
}

async fn answer(client: &Grpc, stream: usize, number: usize, tokens: &AtomicU64) -> Result<()> {
    let prompt = TextPrompt {
        content: Some(Content::Text(format!(
            "Story {stream} {number}: Once upon a time there was"
        ))),
        echo: false,
    };
    let request = GenerateRequest {
        model: MODEL.to_owned(),
        prompt: Some(Prompt::Text(prompt)),
        max_tokens: Some(MAX_TOKENS),
        sampling: Some(Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        }),
        ..GenerateRequest::default()
    };
    let mut events = client.generate(request).await?;
    while let Some(event) = events.message().await? {
        match event.event {
            Some(Event::Delta(delta)) => {
                tokens.fetch_add(u64::from(delta.token_count), Ordering::Relaxed);
            }
            Some(Event::Failed(failed)) => bail!("the worker failed: {}", failed.message),
            _ => {}
        }
    }
    Ok(())
}
