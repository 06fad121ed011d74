//! The router's settings for limits, keys and usage.

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

/// How long one decision may take before Redis counts as unreachable.
const DECISION_TIMEOUT: Duration = Duration::from_millis(250);

/// A shorter secret could be guessed.
const SHORTEST_SECRET: usize = 32;

/// Where limits are counted, keys are looked up and usage is stored.
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
    /// Folder for usage that cannot be sent while Redis is unreachable. With --sqlite or --postgres: for usage that the
    /// database does not take before the router exits. Keep the folder between restarts; each router needs its own
    /// [default: memory; beside the file of --sqlite]
    #[arg(long, value_name = "FOLDER", requires = "books")]
    pub(crate) spool: Option<PathBuf>,
    /// Key store in Redis, in addition to the keys of the manifests; `none`: no other keys [default: that of --redis]
    #[arg(
        long,
        env = "INFERYARD_KEY_STORE",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(crate) key_store: Option<String>,
    /// After this time, what a request of a dead router holds is given back
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    pub(crate) lease_time: Duration,
    /// Least number of routers that share the limits while Redis is unreachable and each enforces its part; a larger
    /// number that was last seen counts instead [default: the number last seen]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) routers: Option<u32>,
    /// Largest number of routers. A router that starts while Redis is unreachable does not know how many there are, and
    /// enforces the limits divided by this number [default: that of --routers]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_routers: Option<u32>,
    /// Store usage in this SQLite file: the ledger runs in this process
    #[arg(long, value_name = "FILE", conflicts_with = "redis")]
    pub(crate) sqlite: Option<PathBuf>,
    /// Store usage in this PostgreSQL database: the ledger runs in this process
    #[arg(
        long,
        env = "INFERYARD_POSTGRES",
        value_name = "URL",
        hide_env_values = true,
        conflicts_with_all = ["redis", "sqlite"]
    )]
    pub(crate) postgres: Option<String>,
    /// Most usage events that wait for the database of --sqlite or --postgres. At this number requests are refused
    /// until the database takes events. An event takes about 500 bytes of memory
    #[arg(long, value_name = "COUNT", default_value = "65536")]
    pub(crate) max_unstored_events: NonZeroUsize,
    /// Address of the ledger that serves /v1/organization/*: `host:port` or `unix:/path`; with --sqlite or --postgres,
    /// the address that it listens on
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ledger: Option<Endpoint>,
    /// SHA-256 (64 hexadecimal digits) of a key that may explain the placement of requests and, with --sqlite or
    /// --postgres, read usage and manage keys
    #[arg(long = "admin-key-hash", value_name = "HEX", value_parser = key_hash)]
    pub(crate) admin_key_hashes: Vec<KeyHash>,
    /// File with a secret of at least 32 bytes, the same for all routers, that signs the cookies of callers without a
    /// key [default: a new secret at every start]
    #[arg(long, value_name = "FILE")]
    pub(crate) cookie_secret_file: Option<PathBuf>,
    /// A proxy whose X-Forwarded-For is trusted, as in `10.0.0.0/8` or `192.0.2.7`
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

    /// The file for usage events that the database did not take before the exit.
    pub(super) fn leftover(&self) -> Option<PathBuf> {
        if let Some(folder) = &self.spool {
            return Some(folder.join("unstored"));
        }
        let mut path = self.sqlite.clone()?.into_os_string();
        path.push(".unstored");
        Some(path.into())
    }

    /// The store of limits. `outbox` receives the usage events if that is in memory.
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

    /// The Redis of the key store.
    pub(super) fn key_store(&self) -> anyhow::Result<Option<KeyStore>> {
        let (flag, url) = match (self.key_store.as_deref(), self.redis.as_deref()) {
            (Some("none"), _) | (None, None) => return Ok(None),
            (Some(url), _) => ("--key-store", url),
            (None, Some(url)) => ("--redis", url),
        };
        let address = self.redis_ca.address(flag, url)?;
        Ok(Some(KeyStore::new(address)))
    }

    /// The secret that signs cookies, if the command line names one.
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
