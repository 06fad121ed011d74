//! What a router is told about limits, keys and usage.

use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::ArgGroup;
use inferyard_admission::{LimitStore, LimitsConfig, Routers};
use inferyard_catalog::{Endpoint, KeyHash};
use inferyard_keys::KeyStore;
use inferyard_proto::outbox::Entry;
use inferyard_router::Network;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::duration;
use crate::redis_ca;
use crate::router::key_hash;

/// How long a decision may take before Redis counts as lost.
const DECISION_TIMEOUT: Duration = Duration::from_millis(250);

/// A shorter secret could be guessed.
const SHORTEST_SECRET: usize = 32;

/// Where limits are counted, keys are looked up and usage is kept.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Limits, keys and usage")]
#[command(group(ArgGroup::new("books").args(["redis", "sqlite", "postgres"]).multiple(true)))]
pub(crate) struct Args {
    /// Count limits in this Redis, with all routers that share it [default: in memory, for this router alone]
    #[arg(
        long,
        env = "INFERYARD_REDIS",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(crate) redis: Option<String>,
    #[command(flatten)]
    pub(crate) redis_ca: redis_ca::Args,
    /// Where the use of requests waits while Redis cannot be reached. With --sqlite or --postgres: where
    /// it stays if the database does not take it before the router ends. Keep the folder over restarts;
    /// each router needs its own [default: memory; beside the file of --sqlite]
    #[arg(long, value_name = "FOLDER", requires = "books")]
    pub(crate) spool: Option<PathBuf>,
    /// A key store in Redis, beside the keys of the manifests; `none`: no other keys
    /// [default: that of --redis]
    #[arg(
        long,
        env = "INFERYARD_KEY_STORE",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(crate) key_store: Option<String>,
    /// A request of a router that died gives back what it holds after this time
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    pub(crate) lease_time: Duration,
    /// At least so many routers share the limits while Redis cannot be reached, when each enforces its
    /// share; more, if more were last seen [default: as many as were last seen]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) routers: Option<u32>,
    /// The largest number of routers. A router that starts while Redis cannot be reached does not know how many there
    /// are, and enforces the limits divided by this number [default: that of --routers]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_routers: Option<u32>,
    /// Keep the usage of requests in this SQLite file: the ledger runs in this process
    #[arg(long, value_name = "FILE", conflicts_with = "redis")]
    pub(crate) sqlite: Option<PathBuf>,
    /// The same in a PostgreSQL database
    #[arg(
        long,
        env = "INFERYARD_POSTGRES",
        value_name = "URL",
        hide_env_values = true,
        conflicts_with_all = ["redis", "sqlite"]
    )]
    pub(crate) postgres: Option<String>,
    /// Usage events that may wait for the database of --sqlite or --postgres. At this number requests are refused
    /// until the database takes them. An event takes about 500 bytes of memory
    #[arg(long, value_name = "COUNT", default_value = "65536")]
    pub(crate) max_unstored_events: NonZeroUsize,
    /// Who answers /v1/organization/*: a ledger at `host:port` or `unix:/path`; with --sqlite or
    /// --postgres, where it is to listen
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ledger: Option<Endpoint>,
    /// The SHA-256 (64 hexadecimal digits) of a key that may ask why a request went where it did, and,
    /// with --sqlite or --postgres, read usage and make keys
    #[arg(long = "admin-key-hash", value_name = "HEX", value_parser = key_hash)]
    pub(crate) admin_key_hashes: Vec<KeyHash>,
    /// A file with a secret of at least 32 bytes, the same for all routers, that signs the cookies of
    /// callers without a key [default: a new secret at every start]
    #[arg(long, value_name = "FILE")]
    pub(crate) cookie_secret_file: Option<PathBuf>,
    /// A proxy whose X-Forwarded-For is believed, as in `10.0.0.0/8` or `192.0.2.7`
    #[arg(long = "trusted-proxy", value_name = "CIDR")]
    pub(crate) trusted_proxies: Vec<Network>,
}

// === impl Args ===

impl Args {
    /// The database of the ledger that this process hosts.
    pub(super) fn store(&self) -> Option<String> {
        let sqlite = self.sqlite.as_ref();
        let sqlite = sqlite.map(|path| format!("sqlite:{}", path.display()));
        sqlite.or_else(|| self.postgres.clone())
    }

    /// The file in which usage events stay that this database did not take before the end.
    pub(super) fn leftover(&self) -> Option<PathBuf> {
        if let Some(folder) = &self.spool {
            return Some(folder.join("unstored"));
        }
        let mut path = self.sqlite.clone()?.into_os_string();
        path.push(".unstored");
        Some(path.into())
    }

    /// Where limits are counted. `outbox` takes the usage events where that is in memory.
    pub(super) fn limits(
        &self,
        outbox: Option<mpsc::Sender<Entry>>,
    ) -> anyhow::Result<LimitsConfig> {
        let store = match &self.redis {
            Some(url) => LimitStore::Redis {
                address: self.redis_ca.address("--redis", url)?,
                spool: self.spool.clone(),
                timeout: DECISION_TIMEOUT,
            },
            None => LimitStore::Memory { outbox },
        };
        Ok(LimitsConfig {
            store,
            lease_time: self.lease_time,
            routers: Routers {
                least: self.routers,
                most: self.max_routers,
            },
        })
    }

    /// The Redis in which keys are looked up.
    pub(super) fn key_store(&self) -> anyhow::Result<Option<KeyStore>> {
        let (flag, url) = match (self.key_store.as_deref(), self.redis.as_deref()) {
            (Some("none"), _) | (None, None) => return Ok(None),
            (Some(url), _) => ("--key-store", url),
            (None, Some(url)) => ("--redis", url),
        };
        let address = self.redis_ca.address(flag, url)?;
        Ok(Some(KeyStore::new(address)))
    }

    /// What signs cookies, where the command line says so.
    pub(super) fn cookie_secret(&self) -> anyhow::Result<Option<[u8; 32]>> {
        let Some(path) = &self.cookie_secret_file else {
            return Ok(None);
        };
        let text = fs::read(path)
            .with_context(|| format!("cannot read the cookie secret {}", path.display()))?;
        anyhow::ensure!(
            text.len() >= SHORTEST_SECRET,
            "the cookie secret {} has {} bytes; it needs {SHORTEST_SECRET} random ones at least",
            path.display(),
            text.len()
        );
        Ok(Some(Sha256::digest(text).into()))
    }
}
