//! `inferyard up`: manifests served on this machine. It only supervises: every router and worker is a
//! child that runs the subcommand which a cluster runs.

mod keys;
mod part;
mod fleet;
mod child;
mod supervise;
mod progress;
mod probe;
mod announce;
mod house;

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
use crate::{duration, logs};
use announce::Announcement;
use fleet::Fleet;
use house::House;

const EXAMPLES: &str = "\
Examples:
  inferyard up -f examples/quickstart.yaml
  inferyard up -f models/ -f plans.yaml --listen 0.0.0.0:8080
  inferyard up -f examples/quickstart.yaml --listen 127.0.0.1:0 --output json

Keys:
  If the manifests declare no ApiKey, every start makes a new key and prints it once. Only
  hashes are kept, in the file `keys` of the state folder; the last 8 keys stay valid. Such a
  key is on the plan named `default`, else on the only plan, else without restrictions.

Processes:
  One router, and one worker for each replica, each a process of its own, reached over Unix
  sockets in a private folder. One that dies is started again. None outlives this process.
  Ctrl-C lets running answers finish, first in the router, then in the workers; a second
  Ctrl-C ends all at once.

Environment:
  XDG_STATE_HOME     Where the state folder is (default: ~/.local/state)
  XDG_RUNTIME_DIR    Where the private folder is (default: the temporary folder)

Exit codes: 0 stopped by a signal, 1 failed, 2 wrong command line or manifest.";

/// Serve manifests on this machine: router, workers and all
///
/// It starts a router and the workers that the manifests ask for, shows how they load, and prints the
/// endpoint, a key and a curl line once the first request can be sent.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Manifests: files, folders, or `-` for standard input
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Where the API listens; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where the router's Prometheus metrics are served, as /metrics
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
    /// One line with base_url, api_key, models, metrics_url and workers
    Json,
}

/// Supervises until a signal comes or a part cannot start.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let (files, manifests) = manifests(&args.files)?;
    let _logs = logs::init(&args.logs, "up")?;
    let key = if manifests.keys.is_empty() {
        Some(keys::issue(&args.state_folder()?)?)
    } else {
        None
    };
    let scratch = Scratch::make(args.xdg_runtime_dir.as_deref())?;
    let fleet = Fleet::plan(args, &files, &manifests, key.as_ref(), &scratch)?;
    let announcement = Announcement::new(&manifests, key, args.output);
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(supervise(
        fleet,
        announcement,
        args.drain_timeout,
        args.logs.log_format,
    ))
}

/// Ends with every child ended.
async fn supervise(
    fleet: Fleet,
    announcement: Announcement,
    drain_timeout: Duration,
    format: logs::Format,
) -> Result<(), Failure> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let mut house = House::start(fleet, drain_timeout, format);
    let end = tokio::select! {
        () = signals.next() => Ok(()),
        failure = house.keep(announcement) => Err(failure),
    };
    tracing::info!("stopping: running answers may finish; Ctrl-C ends them");
    tokio::select! {
        () = house.stop() => {}
        () = signals.next() => house.kill().await,
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
