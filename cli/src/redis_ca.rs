//! Whose word is believed for Redis over TLS.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use inferyard_redis_link::Address;

/// The authority behind `rediss://`.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Args {
    /// Certificates (PEM) of the authority that signed that of Redis, for `rediss://` [default: those
    /// that this machine trusts]
    #[arg(long, env = "INFERYARD_REDIS_CA", value_name = "FILE")]
    pub(crate) redis_ca: Option<PathBuf>,
}

// === impl Args ===

impl Args {
    /// The address of a Redis, which `flag` says.
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
