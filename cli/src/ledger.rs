//! `inferyard ledger`: usage events from Redis into PostgreSQL or SQLite.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::Context;
use inferyard_keys::{KeyHash, KeyStore};
use inferyard_ledger::{Config, Ledger, Listen, Source};
use serde::{Deserialize, Serialize};
use tokio::runtime;

use crate::failure::Failure;
use crate::{duration, logs, redis_ca, shutdown};

const EXAMPLES: &str = "\
Examples:
  inferyard ledger --redis redis://127.0.0.1 --store postgres://ledger@127.0.0.1/ledger

  # With OpenAI's usage API for the holder of a key:
  inferyard ledger --redis redis://127.0.0.1 --store sqlite:ledger.sqlite \\
      --listen 127.0.0.1:8090 \\
      --admin-key-hash $(printf %s \"$INFERYARD_ADMIN_KEY\" | sha256sum | cut -d' ' -f1)

Exit codes: 0 stopped by a signal, 1 failed, 2 wrong command line.";

/// Store usage events, and serve queries about them
///
/// It takes usage events from Redis, where routers put them, and removes them there after they are committed in the
/// store. Any number of ledgers may run on the same Redis and the same PostgreSQL: every event counts once. While Redis
/// or the store is unreachable, it retries without end.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Redis of the routers, a server or a node of a cluster: `redis://HOST` or `rediss://HOST`
    #[arg(
        long,
        value_name = "URL",
        env = "INFERYARD_REDIS",
        hide_env_values = true
    )]
    redis: String,
    #[command(flatten)]
    redis_ca: redis_ca::Args,
    /// Database for usage: `postgres://USER:PASSWORD@HOST/DATABASE` or `sqlite:PATH`
    #[arg(
        long,
        value_name = "URL",
        env = "INFERYARD_STORE",
        hide_env_values = true
    )]
    store: String,
    /// Address of the usage API: `IP:port` (port 0 picks a free one) or `unix:/path` [default: none]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<Listen>,
    /// SHA-256 (64 hexadecimal digits) of a key that may use the usage API
    #[arg(long = "admin-key-hash", value_name = "HEX", value_parser = key_hash)]
    admin_keys: Vec<KeyHash>,
    /// Take over events that another ledger took and did not store within this time
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    claim_after: Duration,
    /// Print the address as a line of JSON
    #[arg(long)]
    json: bool,
    /// Exit when standard input is closed, which is when the parent process exits
    #[arg(long, hide = true)]
    exit_with_parent: bool,
    #[command(flatten)]
    logs: logs::Args,
}

/// The address of a ledger, as it prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Addresses {
    /// `IP:port` or `unix:/path`; `None`: it does not listen.
    pub(crate) address: Option<String>,
}

/// Stores events until a signal comes, and then the remaining ones.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let _logs = logs::init(&args.logs, "ledger")?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(serve(args)).map_err(Failure::Failed)
}

async fn serve(args: Args) -> anyhow::Result<()> {
    let stop = shutdown::requested(args.exit_with_parent)?;
    if args.listen.is_some() && args.admin_keys.is_empty() {
        tracing::warn!(
            "there is no admin key, so every question is refused: give --admin-key-hash"
        );
    }
    // The key store is in the Redis of the routers.
    let address = args.redis_ca.address("--redis", &args.redis)?;
    let key_store = KeyStore::new(address.clone());
    let config = Config {
        store: args.store,
        source: Source::Redis {
            address,
            claim_after: args.claim_after,
        },
        listen: args.listen,
        admin_keys: args.admin_keys,
        key_store: Some(key_store),
        drain_timeout: inferyard_ledger::DRAIN_TIMEOUT,
    };
    let ledger = Ledger::open(config)
        .await
        .context("cannot start the ledger")?;
    let addresses = Addresses {
        address: ledger.address().map(ToString::to_string),
    };
    let mut output = io::stdout();
    if args.json {
        writeln!(output, "{}", serde_json::to_string(&addresses)?)?;
    } else {
        match &addresses.address {
            Some(address) => writeln!(output, "listening on {address}")?,
            None => writeln!(output, "storing usage events")?,
        }
    }
    Ok(ledger.run(stop).await?)
}

fn key_hash(text: &str) -> Result<KeyHash, String> {
    KeyHash::parse(text).ok_or_else(|| "expected 64 lower-case hexadecimal digits".to_owned())
}
