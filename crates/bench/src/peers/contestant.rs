//! A router under test: ours or another one, started on a core of its own with the same engines.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::client::Client;
use super::engines::{Engines, MODEL};
use super::work::Work;
use crate::limits::{LIMITED, Redis};
use crate::process::{self, Memory, Process};
use crate::system::{hash, listening, random_key};

/// Maximum time that a router may take to start.
const PATIENCE: Duration = Duration::from_secs(90);

/// The routers that can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    /// HAProxy that forwards each token immediately: the reference of all comparisons.
    Haproxy,
    /// HAProxy with default settings: it buffers tokens.
    HaproxyDelay,
    /// nginx.
    Nginx,
    /// Ours, with eight limits in memory.
    Inferyard,
    /// Another build of ours, named with `--before`, with eight limits in memory.
    InferyardBefore,
    /// Ours, with eight limits in Redis.
    InferyardRedis,
    /// SMG, round robin.
    SmgRoundRobin,
    /// SMG, by cached prefix.
    SmgCacheAware,
    /// vllm-router, round robin.
    VllmRoundRobin,
    /// vllm-router, by cached prefix.
    VllmCacheAware,
    /// `LiteLLM`'s proxy.
    Litellm,
}

/// A running router.
pub(crate) struct Contestant {
    process: Process,
    /// `host:port`.
    pub(crate) address: String,
    pub(crate) key: String,
    redis: Option<Redis>,
    _folder: TempDir,
}

// === impl Peer ===

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "HAProxy, no-delay",
            Self::HaproxyDelay => "HAProxy",
            Self::Nginx => "nginx",
            Self::Inferyard => "Inferyard, limits in memory",
            Self::InferyardBefore => "Inferyard before, limits in memory",
            Self::InferyardRedis => "Inferyard, limits in Redis",
            Self::SmgRoundRobin => "SMG round robin",
            Self::SmgCacheAware => "SMG cache-aware",
            Self::VllmRoundRobin => "vllm-router round robin",
            Self::VllmCacheAware => "vllm-router cache-aware",
            Self::Litellm => "LiteLLM",
        }
    }

    /// Starts the router, and waits until it answers.
    pub(crate) async fn start(self, place: &Place<'_>) -> Result<Contestant> {
        let folder = tempfile::tempdir()?;
        let started = match self {
            Self::Inferyard => limited(place, folder, None).await,
            Self::InferyardBefore => {
                let binary = place.before;
                let binary = binary.context("the other build must be named with --before")?;
                limited(&Place { binary, ..*place }, folder, None).await
            }
            Self::InferyardRedis => {
                let redis = Redis::start(place.load_core).await?;
                limited(place, folder, Some(redis)).await
            }
            peer => theirs(peer, place, folder),
        };
        let contestant = started.with_context(|| format!("starting {}", self.name()))?;
        contestant
            .answers()
            .await
            .with_context(|| format!("waiting for {}", self.name()))?;
        Ok(contestant)
    }
}

/// What a router is started with: binary, engines and core.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) binary: &'a Path,
    /// Another build, for comparison.
    pub(crate) before: Option<&'a Path>,
    /// The folder of the peers' Python packages.
    pub(crate) venv: &'a Path,
    pub(crate) engines: &'a Engines,
    /// The core of routers; `None`: the kernel chooses.
    pub(crate) router_core: Option<usize>,
    pub(crate) load_core: usize,
}

/// Our router with eight limits.
async fn limited(place: &Place<'_>, folder: TempDir, redis: Option<Redis>) -> Result<Contestant> {
    let key = random_key()?;
    let resources = LIMITED.replace("HASH", &hash(&key));
    let contestant = ours(place, folder, &resources, redis).await?;
    Ok(Contestant { key, ..contestant })
}

/// Our router with these plans and keys.
pub(crate) async fn ours(
    place: &Place<'_>,
    folder: TempDir,
    resources: &str,
    redis: Option<Redis>,
) -> Result<Contestant> {
    let manifest = folder.path().join("manifest.yaml");
    let model = format!(
        "apiVersion: inferyard.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {{name: {MODEL}}}\n\
         spec: {{model: {{source: {{builtin: {{name: demo}}}}}}}}\n"
    );
    std::fs::write(&manifest, model + resources)?;
    let mut command = Command::new(place.binary);
    command
        .args(["router", "--listen", "127.0.0.1:0", "-f"])
        .arg(&manifest);
    for address in &place.engines.grpc {
        command.args(["--worker", &format!("{MODEL}={address}")]);
    }
    if let Some(redis) = &redis {
        command.args(["--redis", &redis.url(), "--key-store", "none"]);
    }
    let mut process = Process::start(command, place.router_core)?;
    Ok(Contestant {
        address: listening(&mut process).await?,
        process,
        key: String::new(),
        redis,
        _folder: folder,
    })
}

fn theirs(peer: Peer, place: &Place<'_>, folder: TempDir) -> Result<Contestant> {
    let port = free_port()?;
    let urls: Vec<String> = place
        .engines
        .http
        .iter()
        .map(|at| format!("http://{at}"))
        .collect();
    let python = |program: &str| place.venv.join("bin").join(program);
    let command = match peer {
        Peer::Haproxy => haproxy(port, place, folder.path(), "option http-no-delay")?,
        Peer::HaproxyDelay => haproxy(port, place, folder.path(), "")?,
        Peer::Nginx => nginx(port, place, folder.path())?,
        Peer::SmgRoundRobin | Peer::SmgCacheAware => {
            let mut command = Command::new(python("smg"));
            command.args(["launch", "--log-level", "warn", "--policy"]);
            command.arg(policy(peer));
            gateway(command, port, &urls)?
        }
        Peer::VllmRoundRobin | Peer::VllmCacheAware => {
            let mut command = Command::new(python("vllm-router"));
            command.args(["--log-level", "warning", "--policy", policy(peer)]);
            gateway(command, port, &urls)?
        }
        Peer::Litellm => litellm(python("litellm"), port, &urls, folder.path())?,
        Peer::Inferyard | Peer::InferyardBefore | Peer::InferyardRedis => {
            bail!("that is ours")
        }
    };
    Ok(Contestant {
        process: Process::start_unheard(command, place.router_core)?,
        address: format!("127.0.0.1:{port}"),
        key: "none".to_owned(),
        redis: None,
        _folder: folder,
    })
}

fn policy(peer: Peer) -> &'static str {
    match peer {
        Peer::SmgCacheAware | Peer::VllmCacheAware => "cache_aware",
        _ => "round_robin",
    }
}

/// SMG and vllm-router have a common origin and the same flags.
fn gateway(mut command: Command, port: u16, urls: &[String]) -> Result<Command> {
    command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
    command.args(["--prometheus-port", &free_port()?.to_string()]);
    command.arg("--worker-urls").args(urls);
    Ok(command)
}

fn haproxy(port: u16, place: &Place<'_>, folder: &Path, option: &str) -> Result<Command> {
    let servers = (0..).zip(&place.engines.http);
    let servers: Vec<String> = servers
        .map(|(number, at)| format!("  server s{number} {at}"))
        .collect();
    let servers = servers.join("\n");
    let config = format!(
        "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 5s\n  \
         timeout client 600s\n  timeout server 600s\n  option http-keep-alive\n  http-reuse always\n  \
         {option}\nlisten all\n  bind 127.0.0.1:{port}\n  balance roundrobin\n{servers}\n"
    );
    let path = written(folder, "haproxy.cfg", &config)?;
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(path);
    Ok(command)
}

fn nginx(port: u16, place: &Place<'_>, folder: &Path) -> Result<Command> {
    let servers = place.engines.http.iter().map(|at| format!("server {at};"));
    let servers: String = servers.collect();
    let folder_name = folder.display();
    let config = format!(
        "worker_processes 1; daemon off; master_process off; pid {folder_name}/pid; error_log stderr;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; client_max_body_size 16m; client_body_buffer_size 1m;\n\
         client_body_temp_path {folder_name}/body; proxy_temp_path {folder_name}/proxy;\n\
         fastcgi_temp_path {folder_name}/f; uwsgi_temp_path {folder_name}/u; scgi_temp_path {folder_name}/s;\n\
         keepalive_requests 1000000000; tcp_nodelay on;\n\
         upstream all {{ {servers} keepalive 128; keepalive_requests 1000000000; }}\n\
         server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://all; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_buffering off; }} }} }}\n"
    );
    let path = written(folder, "nginx.conf", &config)?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(path).arg("-p").arg(folder);
    Ok(command)
}

fn litellm(program: PathBuf, port: u16, urls: &[String], folder: &Path) -> Result<Command> {
    let models = urls.iter().map(|url| {
        format!(
            "  - model_name: {MODEL}\n    litellm_params: {{model: openai/{MODEL}, api_base: {url}/v1, api_key: none}}\n"
        )
    });
    let config = format!("model_list:\n{}", models.collect::<String>());
    let path = written(folder, "litellm.yaml", &config)?;
    let mut command = Command::new(program);
    command.arg("--config").arg(path);
    command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
    command.args(["--num_workers", "1", "--telemetry", "False"]);
    Ok(command)
}

fn written(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    std::fs::File::create(&path)?.write_all(text.as_bytes())?;
    Ok(path)
}

/// A port that was free a moment ago, for programs that cannot choose one themselves.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

// === impl Contestant ===

impl Contestant {
    /// Waits until a short request is answered.
    async fn answers(&self) -> Result<()> {
        let request = Work::Short.request(&self.address, &self.key);
        let begun = Instant::now();
        loop {
            let answered = async {
                let mut client = Client::connect(&self.address).await?;
                client.ask(&request).await
            };
            match tokio::time::timeout(Duration::from_secs(10), answered).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) if begun.elapsed() > PATIENCE => return Err(error),
                Err(_) if begun.elapsed() > PATIENCE => bail!("it does not answer"),
                Ok(Err(_)) | Err(_) => sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// CPU time so far, including child processes.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut cpu = self.process.cpu()?;
        for (child, _) in process::children(self.process.id())? {
            cpu += process::cpu(child)?;
        }
        Ok(cpu)
    }

    /// Peak memory, including child processes, in MiB.
    pub(crate) fn peak_mib(&self) -> Result<f64> {
        self.mib(|memory| memory.peak)
    }

    /// Current memory, including child processes, in MiB.
    pub(crate) fn resident_mib(&self) -> Result<f64> {
        self.mib(|memory| memory.resident)
    }

    /// Current memory without pages of files such as the binary, in MiB.
    pub(crate) fn own_mib(&self) -> Result<f64> {
        self.mib(|memory| memory.own)
    }

    #[expect(clippy::cast_precision_loss, reason = "a few megabytes")]
    fn mib(&self, kib: impl Fn(Memory) -> u64) -> Result<f64> {
        let mut sum = kib(self.process.memory()?);
        for (child, _) in process::children(self.process.id())? {
            sum += kib(process::memory(child)?);
        }
        Ok(sum as f64 / 1024.0)
    }

    pub(crate) async fn end(self) -> Result<()> {
        self.process.end().await?;
        match self.redis {
            Some(redis) => redis.end().await,
            None => Ok(()),
        }
    }
}
