//! The engine alone: it runs in a process of its own and is called without gRPC, HTTP or a router.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use inferyard_engine::EngineLimits;
use inferyard_engine_embedded as embedded;
use inferyard_proto::worker::v1::worker_server;
use inferyard_worker::{Address, Config, Listen, Worker};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::grpc::{self, Grpc};
use crate::load::{Measurement, drive};
use crate::process::{self, Process};
use crate::system::{KV_TOKENS, MAX_RUNNING};
use crate::way::{Answer, Way};

/// The process of the engine, from the benchmark's side.
pub(crate) struct Alone {
    process: Process,
    _model: tempfile::TempDir,
}

/// One measurement, sent to the process.
#[derive(Serialize, Deserialize)]
struct Task {
    streams: usize,
    length: Duration,
}

/// The worker's service, called as a function.
#[derive(Clone)]
struct Direct<S>(S);

// === impl Alone ===

impl Alone {
    /// Starts the engine on this core, and waits until the model is loaded.
    pub(crate) async fn start(core: usize) -> Result<Self> {
        let model = tempfile::tempdir()?;
        let gguf = model.path().join("demo.gguf");
        std::fs::write(&gguf, inferyard_demo_model::GGUF)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("engine").arg(&gguf);
        let mut process = Process::start(command, Some(core))?;
        process.line().await?;
        Ok(Self {
            process,
            _model: model,
        })
    }

    /// Drives this number of streams within the engine's process.
    pub(crate) async fn measure(
        &mut self,
        streams: usize,
        length: Duration,
    ) -> Result<Measurement> {
        let mut task = serde_json::to_vec(&Task { streams, length })?;
        task.push(b'\n');
        self.process.input.write_all(&task).await?;
        Ok(serde_json::from_str(&self.process.line().await?)?)
    }
}

impl<S: worker_server::Worker + Clone> Way for Direct<S> {
    async fn answer(&mut self, number: usize) -> Result<Answer> {
        let request = tonic::Request::new(grpc::request(number));
        let events = self.0.generate(request).await?.into_inner();
        grpc::read(Box::pin(events)).await
    }
}

/// The main function of the engine's process: loads the model, prints `ready`, and performs the measurements
/// that it reads from standard input.
pub(crate) async fn serve(gguf: PathBuf) -> Result<()> {
    let listen = Listen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let engine = embedded::Config {
        limits: EngineLimits::new(MAX_RUNNING),
        kv_tokens: Some(KV_TOKENS),
        threads: Some(1),
        ..embedded::Config::new(gguf)
    };
    let config = Config::new(listen, inferyard_demo_model::NAME);
    let worker = Worker::bind(config).await?;
    let way = Direct(worker.service());
    let Address::Tcp(address) = worker.address().clone() else {
        anyhow::bail!("a worker on TCP should have a TCP address")
    };
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(worker.run(engine, shutdown.clone()));
    Grpc::connect(&address.to_string()).await?.ready().await?;

    let mut output = tokio::io::stdout();
    output.write_all(b"ready\n").await?;
    output.flush().await?;
    let mut tasks = BufReader::new(tokio::io::stdin()).lines();
    while let Some(task) = tasks.next_line().await? {
        let task: Task = serde_json::from_str(&task)?;
        let before = process::cpu(std::process::id())?;
        let mut measurement = drive(vec![way.clone(); task.streams], task.length).await?;
        let used = process::cpu(std::process::id())?.saturating_sub(before);
        measurement.engine_us_per_token = measurement.us_per_token(used);
        let mut line = serde_json::to_vec(&measurement)?;
        line.push(b'\n');
        output.write_all(&line).await?;
        output.flush().await?;
    }
    shutdown.cancel();
    running.await?.context("the engine did not end cleanly")
}
