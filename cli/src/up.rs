//! `inferyard up` serves manifests on this machine. It only supervises: every router and worker is a child process
//! that runs the same subcommand as in a cluster.

mod state;
mod bootstrap_keys;
mod redis_check;
mod event;
mod process;
mod fleet;
mod child;
mod restart;
mod progress;
mod probe;
mod startup;
mod announce;
mod supervisor;

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use tokio::runtime;

use crate::failure::{Failure, manifests};
use crate::scratch::Scratch;
use crate::shutdown::Signals;
use crate::{duration, logs, redis_ca};
use announce::Announcement;
use bootstrap_keys::KeyKind;
use fleet::{Fleet, FleetConfig};
use state::State;
use supervisor::Supervisor;

const EXAMPLES: &str = "\
Examples:
  inferyard up -f examples/quickstart.yaml
  inferyard up -f models/ -f plans.yaml --listen 0.0.0.0:8080
  inferyard up -f examples/quickstart.yaml --listen 127.0.0.1:0 --output json
  inferyard up -f models/ -f plans.yaml --routers 4 --redis redis://127.0.0.1:6379 \\
      --postgres postgres://inferyard@127.0.0.1/inferyard

Keys:
  If the manifests declare no ApiKey, every start makes a new key and prints it once. Only
  hashes are kept, in the file `keys` of the state folder; the last 8 keys stay valid. Such a
  key is on the plan named `default`, else on the only plan, else without restrictions. A new
  admin key is made too; it opens /v1/organization: usage, costs, keys.

Limits and usage:
  By itself, the router counts limits in memory and keeps usage in the SQLite file
  `ledger.sqlite` of the state folder. With --redis, any number of routers count limits
  together in Redis, and a ledger moves usage from there into the database.

Processes:
  The routers, with --redis a ledger, and one worker for each replica, each a process of its
  own, reached over Unix sockets in a private folder. One that dies is started again. None
  outlives this process. Ctrl-C lets running answers finish, first in the routers, then in the
  workers; a second Ctrl-C ends all at once.

Environment:
  XDG_STATE_HOME     Where the state folder is (default: ~/.local/state)
  XDG_RUNTIME_DIR    Where the private folder is (default: the temporary folder)

Exit codes: 0 stopped by a signal, 1 failed, 2 wrong command line or manifest.";

/// Serve manifests on this machine: router, workers and all
///
/// It starts a router and the workers that the manifests ask for, shows how they load, and prints the
/// endpoint, keys and a curl line once the first request can be sent.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Manifests: files, folders, or `-` for standard input
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Where the API listens; port 0 picks a free one. Further routers take the ports that follow
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where the router's Prometheus metrics are served, as /metrics; those of further routers on the
    /// ports that follow
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    metrics_listen: SocketAddr,
    /// Folder that is kept between starts
    /// [default: $XDG_STATE_HOME/inferyard or ~/.local/state/inferyard]
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
    /// How the endpoint is printed when all is ready: for people, or as one line of JSON
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    output: Output,
    /// How long running answers may go on once it is asked to stop
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    drain_timeout: Duration,
    /// Count limits in this Redis [default: in the router's memory]
    #[arg(
        long,
        env = "INFERYARD_REDIS",
        value_name = "URL",
        hide_env_values = true
    )]
    redis: Option<String>,
    #[command(flatten)]
    redis_ca: redis_ca::Args,
    /// Keep usage in this PostgreSQL database [default: SQLite in the state folder]
    #[arg(
        long,
        env = "INFERYARD_POSTGRES",
        value_name = "URL",
        hide_env_values = true
    )]
    postgres: Option<String>,
    /// How many routers there are; more than one need --redis
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    routers: u16,
    /// A request of a router that died gives back what it holds after this time
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    lease_time: Duration,
    #[command(flatten)]
    logs: logs::Args,
    #[arg(long, env = "XDG_STATE_HOME", hide = true)]
    xdg_state_home: Option<PathBuf>,
    #[arg(long, env = "XDG_RUNTIME_DIR", hide = true)]
    xdg_runtime_dir: Option<PathBuf>,
}

/// How the endpoint is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// One line with base_urls, api_key, admin_key, models, metrics_urls, store and process ids
    Json,
}

/// Supervises until a signal comes or a process cannot start.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if args.routers > 1 && args.redis.is_none() {
        return Err(Failure::usage(format!(
            "--routers {} needs --redis URL: several routers must count limits in one place, and \
             without Redis each has only its own memory",
            args.routers
        )));
    }
    let (files, manifests) = manifests(&args.files)?;
    let _logs = logs::init(&args.logs, "up")?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    if let Some(url) = &args.redis {
        let address = args.redis_ca.address("--redis", url);
        let address = address.map_err(|error| Failure::usage(format!("{error:#}")))?;
        runtime.block_on(redis_check::ping(&address))?;
    }
    let state = State::open(&args.state_folder()?)?;
    for folder in state.orphans(args.redis.iter().len() * usize::from(args.routers)) {
        tracing::warn!(
            folder = %folder.display(),
            "an earlier start left usage here that Redis has not been told; start with as many \
             --routers and the same --redis once to have it billed"
        );
    }
    let key = manifests
        .keys
        .is_empty()
        .then(|| bootstrap_keys::issue(state.path(), KeyKind::Api))
        .transpose()?;
    let admin_key = bootstrap_keys::issue(state.path(), KeyKind::Admin)?;
    let scratch = Scratch::make(args.xdg_runtime_dir.as_deref())?;
    let config = FleetConfig {
        args,
        manifests: &manifests,
        key: key.as_ref(),
        admin_key: &admin_key,
        state: &state,
        scratch: &scratch,
    };
    let fleet = Fleet::new(&config, &files)?;
    let announcement = Announcement::new(&manifests, key, admin_key, args.output);
    runtime.block_on(supervise(
        fleet,
        announcement,
        args.drain_timeout,
        args.logs.log_format,
    ))
}

/// Runs all processes until a signal comes or one cannot start; returns when all have exited.
async fn supervise(
    fleet: Fleet,
    announcement: Announcement,
    drain_timeout: Duration,
    format: logs::Format,
) -> Result<(), Failure> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let mut supervisor = Supervisor::start(fleet, drain_timeout, format);
    let end = tokio::select! {
        () = signals.next() => Ok(()),
        failure = supervisor.run(announcement) => Err(failure),
    };
    tracing::info!("stopping: running answers may finish; Ctrl-C ends them");
    tokio::select! {
        () = supervisor.stop() => {}
        () = signals.next() => supervisor.kill().await,
    }
    end
}

// === impl Args ===

impl Args {
    fn state_folder(&self) -> Result<PathBuf, Failure> {
        if let Some(folder) = &self.state {
            return Ok(folder.clone());
        }
        // The specification says that a relative path is to be ignored.
        let named = self
            .xdg_state_home
            .clone()
            .filter(|path| path.is_absolute());
        let parent = named.or_else(|| Some(env::home_dir()?.join(".local/state")));
        let parent = parent.ok_or_else(|| {
            Failure::usage("there is no home folder: give a folder with --state".to_owned())
        })?;
        Ok(parent.join("inferyard"))
    }
}
