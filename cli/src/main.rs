//! `inferyard`: one binary, a role per subcommand.

mod duration;
mod failure;
mod dial;
mod redis_ca;
mod http;
mod admin;
mod shutdown;
mod logs;
mod scratch;
mod builtin;
mod up;
mod router;
mod worker;
mod fetch;
mod watch;
mod ledger;
mod calendar;
mod usage;
mod audit;
mod explain;
mod replay;
mod keys;
mod operator;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Failure;

/// Bodies and answers of all sizes come and go: glibc's allocator would ask the kernel for each large one
/// anew, and keep what a burst has left in pieces.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ABOUT: &str = "OpenAI-compatible inference with plans, from a laptop to a cluster";

const EXAMPLES: &str = "\
Examples:
  inferyard up -f examples/quickstart.yaml    Serve a model on this machine, now
  inferyard up --help                         The same, with all settings
  inferyard watch 127.0.0.1:50051             What a worker is doing
  inferyard keys create --plan team           A key for somebody, as a manifest

The same manifests go to a cluster with `kubectl apply -f`.

Environment:
  RUST_LOG                       What is logged, as --log (default: info)
  OTEL_EXPORTER_OTLP_ENDPOINT    Where traces go, as --otlp-endpoint (default: nowhere)

Exit codes:
  0  all went well
  1  it failed while running, or could not start
  2  the command line or a manifest is wrong";

/// The command line.
#[derive(Parser)]
#[command(name = "inferyard", version, about = ABOUT, after_help = EXAMPLES)]
#[command(disable_help_subcommand = true, max_term_width = 100)]
struct CommandLine {
    #[command(subcommand)]
    role: Role,
}

/// What this process is.
#[derive(Subcommand)]
enum Role {
    Up(up::Args),
    Router(Box<router::Args>),
    Worker(worker::Args),
    Fetch(Box<fetch::Args>),
    Watch(watch::Args),
    Ledger(ledger::Args),
    Usage(usage::Args),
    Audit(audit::Args),
    Explain(explain::Args),
    Replay(replay::Args),
    Keys(Box<keys::Args>),
    Operator(operator::Args),
    /// Started by a worker, which tries the schemas of requests in it
    #[command(hide = true)]
    CompileSchemas,
}

fn main() -> ExitCode {
    let done = match CommandLine::parse().role {
        Role::Up(args) => up::run(&args),
        Role::Router(args) => router::run(*args),
        Role::Worker(args) => worker::run(&args),
        Role::Fetch(args) => fetch::run(*args),
        Role::Watch(args) => watch::run(&args),
        Role::Ledger(args) => ledger::run(args),
        Role::Usage(args) => usage::run(&args),
        Role::Audit(args) => audit::run(&args),
        Role::Explain(args) => explain::run(&args),
        Role::Replay(args) => replay::run(&args),
        Role::Keys(args) => keys::run(*args),
        Role::Operator(args) => operator::run(args),
        Role::CompileSchemas => inferyard_chat::grammar::compile_schemas()
            .map_err(|error| Failure::Failed(error.into())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit_code()
        }
    }
}
