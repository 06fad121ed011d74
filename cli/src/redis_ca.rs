//! The certificate authority for Redis over TLS.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use inferyard_redis_link::Address;

/// The certificate authority for `rediss://`.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Args {
    /// PEM file with the certificates of the authority of Redis, for `rediss://` [default: the system's]
    #[arg(long, env = "INFERYARD_REDIS_CA", value_name = "FILE")]
    pub(crate) redis_ca: Option<PathBuf>,
}

// === impl Args ===

impl Args {
    /// Parses the URL of a Redis; errors name the `flag` that it is from.
    pub(crate) fn address(&self, flag: &str, url: &str) -> anyhow::Result<Address> {
        let Some(path) = &self.redis_ca else {
            return Address::new(url).with_context(|| flag.to_owned());
        };
        let authorities = fs::read(path)
            .with_context(|| format!("--redis-ca: cannot read {}", path.display()))?;
        Address::trusting(url, &authorities)
            .with_context(|| format!("{flag} with --redis-ca {}", path.display()))
    }
}
