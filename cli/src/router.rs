//! `inferyard router`: the HTTP API in front of workers.

mod connections;
mod hosted;
mod kubernetes;
pub(crate) mod limits;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http::HeaderValue;
use inferyard_catalog::{Catalog, Endpoint, Key, KeyHash};
use inferyard_manifests::Manifests;
use inferyard_router::{BindError, Config, CorsOrigins, Router, TlsFiles};
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::runtime;
use tokio::sync::watch;

use self::hosted::Hosted;
use self::kubernetes::Followed;
use crate::failure::{Failure, manifests};
use crate::{duration, logs, shutdown};

const EXAMPLES: &str = "\
Examples:
  # A worker and a router by hand, on two ports:
  inferyard worker -f examples/quickstart.yaml --model demo --listen 127.0.0.1:50051 &
  inferyard router -f examples/quickstart.yaml --worker demo=127.0.0.1:50051 \\
      --key-hash $(printf %s \"$INFERYARD_API_KEY\" | sha256sum | cut -d' ' -f1)

  # A second worker of the same model:
  inferyard router … --worker demo=127.0.0.1:50051 --worker demo=127.0.0.1:50052

  # What a cluster declares, and its worker pods:
  inferyard router --kubernetes --namespace models --tls-cert tls.crt --tls-key tls.key

  # Routers that share limits and keys, and a ledger behind them:
  inferyard router … --redis redis://127.0.0.1 --spool /var/lib/inferyard/spool \\
      --ledger 127.0.0.1:8090

  # One router that keeps its own books:
  inferyard router … --sqlite ledger.sqlite

Exit codes: 0 stopped by a signal, 1 failed, 2 wrong command line or manifest.";

/// Run a router: the OpenAI API in front of workers
///
/// It serves /v1/chat/completions, /v1/completions, /v1/models, /healthz and /readyz, and prints its
/// address once it listens. The first SIGINT or SIGTERM lets running answers finish; the second ends
/// it at once.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Manifests: files, folders, or `-` for standard input
    #[arg(
        short = 'f',
        long = "file",
        value_name = "FILE",
        required_unless_present = "kubernetes"
    )]
    files: Vec<PathBuf>,
    /// A worker and the model that it serves; the address is `host:port` or `unix:/path`
    #[arg(long = "worker", value_name = "MODEL=ADDRESS", value_parser = served_by)]
    workers: Vec<(String, Endpoint)>,
    /// Address of the API; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Serve HTTPS with this certificate: a PEM file with the chain up to the root. It is reloaded when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of --tls-cert: a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Address for Prometheus metrics (/metrics) and the probes /healthz and /readyz, always without TLS [default:
    /// none]
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
    /// The SHA-256 (64 hexadecimal digits) of a key that no manifest declares. It is on the plan
    /// named `default`, else on the only plan, else without restrictions
    #[arg(long = "key-hash", value_name = "HEX", value_parser = key_hash)]
    key_hashes: Vec<KeyHash>,
    /// Origins of web pages that may call the API, as in `https://example.org` [default: all]
    #[arg(long = "cors-origin", value_name = "ORIGIN")]
    cors_origins: Vec<HeaderValue>,
    /// Largest request body, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 20)]
    body_limit: usize,
    /// Value of `owned_by` in /v1/models
    #[arg(long, value_name = "NAME", default_value = "inferyard")]
    model_owner: String,
    /// Time limit of a request, to the end of its answer
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration::parse)]
    request_timeout: Duration,
    /// After this time without a token a stream starts with its head, and a comment (`: waiting`) follows in the same
    /// interval until the first token; later errors are events of the stream
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse_some)]
    keep_alive: Duration,
    /// How long running answers may take after a shutdown signal
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    drain_timeout: Duration,
    /// Record everything that placement receives and decides in this new file, for `inferyard replay`: no prompt, no
    /// output, and no hash that could be compared with guesses of them
    #[arg(long, value_name = "FILE")]
    record_placements: Option<PathBuf>,
    /// Print the addresses as a line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connections: connections::Args,
    #[command(flatten)]
    kubernetes: kubernetes::Args,
    #[command(flatten)]
    limits: limits::Args,
    /// Exit when standard input is closed, which is when the parent process exits
    #[arg(long, hide = true)]
    exit_with_parent: bool,
    #[command(flatten)]
    logs: logs::Args,
}

/// The addresses of a router, as it prints them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) address: SocketAddr,
    pub(crate) metrics_address: Option<SocketAddr>,
}

/// Serves until a signal comes. All runs on one thread, so that passing on a token wakes no other one.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let _logs = logs::init(&args.logs, "router")?;
    let declared = if args.kubernetes.kubernetes {
        None
    } else {
        let (_, manifests) = manifests(&args.files)?;
        Some(catalog(&manifests, &args)?)
    };
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let served = runtime.block_on(serve(args, declared));
    // Everything that must be on disk is there; a disk that does not respond must not delay the exit.
    runtime.shutdown_background();
    served.map_err(Failure::Failed)
}

/// Without a catalog from manifests the catalog is that of a cluster.
async fn serve(args: Args, declared: Option<Catalog>) -> anyhow::Result<()> {
    let stop = shutdown::requested(args.exit_with_parent)?;
    let hosted = Hosted::start(&args.limits).await?;
    let config = config(&args, hosted.as_ref())?;
    let followed = match declared {
        Some(_) => None,
        None => Some(Followed::start(&args.kubernetes).await?),
    };
    let register = |registry: &mut Registry| {
        if let Some(followed) = &followed {
            followed.metrics.register(registry);
        }
    };
    let bound = Router::bind_with(config, register).await;
    let router = bound.map_err(|error| cannot_start(error, args.listen))?;
    let addresses = Addresses {
        address: router.address(),
        metrics_address: router.metrics_address(),
    };
    let mut output = io::stdout();
    if args.json {
        writeln!(output, "{}", serde_json::to_string(&addresses)?)?;
    } else {
        let scheme = if args.tls_cert.is_some() {
            "https"
        } else {
            "http"
        };
        writeln!(output, "listening on {scheme}://{}/v1", addresses.address)?;
        if let Some(address) = addresses.metrics_address {
            writeln!(output, "metrics on http://{address}/metrics")?;
        }
    }
    // Manifests do not change while a router runs: the sender is kept and not used.
    let (_catalogs, constant) = watch::channel(Arc::new(declared.unwrap_or_default()));
    let catalogs = followed.as_ref().map(|followed| followed.catalogs.clone());
    let served = router.run(catalogs.unwrap_or(constant), stop);
    let Some(mut ledger) = hosted.map(Hosted::into_ended) else {
        return Ok(served.await?);
    };
    let served = tokio::select! {
        served = served => served,
        end = ledger.wait() => {
            end?;
            anyhow::bail!("the ledger has ended before the router");
        }
    };
    // The router has sent all its events: the ledger stores the remaining ones.
    ledger.stop();
    ledger.wait().await?;
    Ok(served?)
}

fn cannot_start(error: BindError, listen: SocketAddr) -> anyhow::Error {
    if !matches!(error, BindError::Listen { .. }) {
        return error.into();
    }
    anyhow::Error::new(error).context(format!(
        "cannot start the router on {listen}; --listen chooses another address, and port 0 a free port"
    ))
}

fn config(args: &Args, hosted: Option<&Hosted>) -> anyhow::Result<Config> {
    let limits = &args.limits;
    let hosting = hosted.map(|ledger| ledger.endpoint.clone());
    let config = Config {
        listen: args.listen,
        tls: tls(args),
        metrics_listen: args.metrics_listen,
        body_limit: args.body_limit,
        model_owner: args.model_owner.clone(),
        request_timeout: args.request_timeout,
        keep_alive: args.keep_alive,
        drain_timeout: args.drain_timeout,
        cors: if args.cors_origins.is_empty() {
            CorsOrigins::Any
        } else {
            CorsOrigins::Listed(args.cors_origins.clone())
        },
        limits: limits.limits(hosted.map(|ledger| ledger.outbox.clone()))?,
        ledger: hosting.or_else(|| limits.ledger.clone()),
        key_store: limits.key_store()?,
        admin_keys: limits.admin_key_hashes.clone(),
        record_placements: args.record_placements.clone(),
        trusted_proxies: limits.trusted_proxies.clone(),
        ..args.connections.config()
    };
    Ok(match limits.cookie_secret()? {
        Some(cookie_secret) => Config {
            cookie_secret,
            ..config
        },
        None => config,
    })
}

fn tls(args: &Args) -> Option<TlsFiles> {
    Some(TlsFiles {
        certificate: args.tls_cert.clone()?,
        key: args.tls_key.clone()?,
    })
}

fn catalog(manifests: &Manifests, args: &Args) -> Result<Catalog, Failure> {
    let mut workers: BTreeMap<Arc<str>, Vec<Endpoint>> = BTreeMap::new();
    for (name, endpoint) in &args.workers {
        let Some(model) = manifests.model(name) else {
            return Err(Failure::usage(format!(
                "--worker {name}={endpoint}: the manifests declare no model named `{name}`"
            )));
        };
        workers
            .entry(model.name.clone())
            .or_default()
            .push(endpoint.clone());
    }
    let plan = manifests.default_plan();
    let keys = args.key_hashes.iter().map(|hash| {
        let key = Key {
            name: Some("command-line".into()),
            account: "command-line".into(),
            plan: plan.clone(),
            expires: None,
            disabled: false,
            limits: None,
        };
        (*hash, Arc::new(key))
    });
    let catalog = manifests.catalog(&workers, keys);
    if catalog.keys.is_empty() {
        tracing::warn!(
            "there is no key, so every request is refused: declare an ApiKey, or give --key-hash"
        );
    }
    Ok(catalog)
}

fn served_by(text: &str) -> Result<(String, Endpoint), String> {
    let (model, address) = text
        .split_once('=')
        .ok_or("expected MODEL=ADDRESS, as in demo=127.0.0.1:50051")?;
    let endpoint = address.parse().map_err(|error| format!("{error}"))?;
    Ok((model.to_owned(), endpoint))
}

pub(crate) fn key_hash(text: &str) -> Result<KeyHash, String> {
    KeyHash::parse(text).ok_or_else(|| "expected 64 lower-case hexadecimal digits".to_owned())
}
