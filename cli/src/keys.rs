//! `inferyard keys`: make, list, rotate and revoke keys, in manifests and in a key store.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use inferyard_keys::{KeyFields, KeyLimits, KeyStore, nanodollars};

use crate::admin;
use crate::calendar::{DAY, first_second, now, parse_day, parse_moment};
use crate::duration;
use crate::failure::Failure;
use crate::redis_ca;

mod api;
mod document;
mod issued;
mod manifests;
mod print;
mod store;

use api::Api;
use store::Store;

const EXAMPLES: &str = "\
Examples:
  # The manifest of a new key; the key itself is shown once, on standard error:
  inferyard keys create --plan team --name alice >> keys.yaml

  # The same into the file, and the key on standard output:
  inferyard keys create --plan team --name alice -f keys.yaml --write

  # Into the key store of a running service (INFERYARD_REDIS may hold the address):
  inferyard keys create --plan team --account acme --name ci --expires 90d --redis redis://HOST

  # The same over HTTP, with an admin key (INFERYARD_ADMIN_KEY may hold it):
  inferyard keys create --plan team --account acme --name ci --url https://HOST \
      --admin-key-file admin-key

  inferyard keys list --redis redis://HOST --account acme
  inferyard keys rotate alice -f keys.yaml --write --overlap 24h
  inferyard keys revoke iy-A…9xyz --redis redis://HOST

Exit codes: 0 done, 1 failed, 2 wrong command line or manifest.";

/// Create, list, rotate and revoke API keys
///
/// A key is in a manifest (-f) or in the key store of a service, reached over HTTP (--url) or in its Redis (--redis).
/// Both hold only its SHA-256: the key itself is printed once, when it is created or rotated.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    Create(Create),
    List(List),
    Rotate(Rotate),
    Revoke(Revoke),
}

/// Create a key
///
/// Without --url and --redis it prints the key's manifest, to be applied or written to a file.
#[derive(clap::Args, Debug)]
struct Create {
    #[command(flatten)]
    place: ManifestPath,
    /// Append the manifest to this file
    #[arg(long, requires = "files")]
    write: bool,
    /// Plan of the key
    #[arg(long)]
    plan: String,
    /// Name of the key [default: in a manifest, `key-` and eight random digits]
    #[arg(long)]
    name: Option<String>,
    /// Account that pays [default: in a manifest, the name of the key]
    #[arg(long)]
    account: Option<String>,
    /// Expiry: after a time such as 90d, at the end of a day such as 2027-01-31, or at a moment such as
    /// 2027-01-31T12:00:00Z [default: never]
    #[arg(long, value_name = "WHEN", value_parser = end)]
    expires: Option<u64>,
    #[command(flatten)]
    output: Printed,
    #[command(flatten)]
    limits: Limits,
}

/// List keys, oldest first
#[derive(clap::Args, Debug)]
struct List {
    #[command(flatten)]
    place: ManifestPath,
    /// Only keys of this account
    #[arg(long)]
    account: Option<String>,
    /// Most keys that are listed
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: usize,
    /// Only keys that follow the key of this id, in a key store
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    #[command(flatten)]
    output: Printed,
}

/// Give a key a new text; the old one stays valid for a while
#[derive(clap::Args, Debug)]
struct Rotate {
    /// Its name, id, redacted form or SHA-256
    key: String,
    #[command(flatten)]
    place: ManifestPath,
    /// Change the file, instead of printing the changed document
    #[arg(long, requires = "files")]
    write: bool,
    /// How long the old text stays valid; 0: not at all
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration::parse)]
    overlap: Duration,
    #[command(flatten)]
    output: Printed,
}

/// Revoke a key at once
#[derive(clap::Args, Debug)]
struct Revoke {
    /// Its name, id, redacted form or SHA-256
    key: String,
    #[command(flatten)]
    place: ManifestPath,
    /// Change the file, instead of printing the changed document
    #[arg(long, requires = "files")]
    write: bool,
    #[command(flatten)]
    output: Printed,
}

/// Where keys are. Manifests and --url take precedence over Redis, whose address may be from the environment.
#[derive(clap::Args, Debug)]
struct ManifestPath {
    /// Keys in manifests: files or folders
    #[arg(
        short = 'f',
        long = "file",
        value_name = "FILE",
        conflicts_with = "url"
    )]
    files: Vec<PathBuf>,
    #[command(flatten)]
    service: admin::Args,
    /// Redis of the key store: `redis://HOST`, `rediss://HOST` for TLS, also a node of a cluster
    #[arg(
        long,
        value_name = "URL",
        env = "INFERYARD_REDIS",
        hide_env_values = true
    )]
    redis: Option<String>,
    #[command(flatten)]
    redis_ca: redis_ca::Args,
}

#[derive(clap::Args, Debug)]
struct Printed {
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Limits of this key alone, in addition to those of its plan.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Limits of this key alone, below those of its plan")]
struct Limits {
    /// Requests per minute
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    requests_per_minute: Option<u64>,
    /// Requests per day
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    requests_per_day: Option<u64>,
    /// Requests in total
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    requests_total: Option<u64>,
    /// Tokens per minute, of prompts and answers
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    tokens_per_minute: Option<u64>,
    /// Tokens per day
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    tokens_per_day: Option<u64>,
    /// Concurrent requests
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    concurrent_requests: Option<u64>,
    /// US dollars per calendar month, as in 25.00
    #[arg(long, value_name = "DOLLARS", value_parser = money)]
    budget_per_month: Option<u64>,
}

/// Runs the action on the place that holds the key.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let place = match &args.action {
        Action::Create(Create { place, .. })
        | Action::List(List { place, .. })
        | Action::Rotate(Rotate { place, .. })
        | Action::Revoke(Revoke { place, .. }) => place,
    };
    if let Some(service) = place.service.service()? {
        return store::run(&Store::Http(Api::new(service)), &args.action);
    }
    match &place.redis {
        Some(url) if place.files.is_empty() => {
            let address = place.redis_ca.address("--redis", url);
            let address = address.map_err(|error| Failure::usage(format!("{error:#}")))?;
            store::run(&Store::Redis(KeyStore::new(address)), &args.action)
        }
        _ => manifests::run(args.action),
    }
}

// === impl Create ===

impl Create {
    fn fields(&self, name: String, account: String) -> KeyFields {
        let limits = &self.limits;
        KeyFields {
            name,
            account,
            plan: self.plan.clone(),
            expires: self.expires,
            limits: KeyLimits {
                requests_per_minute: limits.requests_per_minute,
                requests_per_day: limits.requests_per_day,
                requests_total: limits.requests_total,
                tokens_per_minute: limits.tokens_per_minute,
                tokens_per_day: limits.tokens_per_day,
                concurrent_requests: limits.concurrent_requests,
                budget_nanodollars: limits.budget_per_month,
            },
        }
    }
}

/// Unix seconds of now, unsigned as keys have them.
fn seconds() -> u64 {
    now().try_into().unwrap_or(0)
}

/// Parses an expiry: a time from now, the end of a day, or a moment; in Unix seconds.
fn end(text: &str) -> Result<u64, String> {
    let expected = || {
        "expected a time such as 90d, a day such as 2027-01-31, or a moment such as \
         2027-01-31T12:00:00Z"
            .to_owned()
    };
    if let Ok(time) = duration::parse(text) {
        return Ok(seconds() + time.as_secs());
    }
    if let Ok(day) = parse_day(text) {
        return (first_second(day) + DAY).try_into().map_err(|_| expected());
    }
    parse_moment(text).ok_or_else(expected)
}

fn money(text: &str) -> Result<u64, String> {
    let amount = nanodollars(text).filter(|amount| *amount > 0);
    amount.ok_or_else(|| "expected dollars above 0, as in 25.00".to_owned())
}
