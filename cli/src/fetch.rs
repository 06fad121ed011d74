//! `inferyard fetch` downloads weights into a folder before an engine reads them.

use std::path::PathBuf;

use anyhow::Context;
use inferyard_fetch::{
    Address, BackoffPolicy, Config, Fetch, Glob, Http, HuggingFace, Plain, Repo, Revision, Sha256,
    Source, Token,
};
use inferyard_worker::Listen;
use tokio::runtime;

use crate::failure::Failure;
use crate::{http, logs, shutdown};

const EXAMPLES: &str = "\
Examples:
  inferyard fetch --to ./weights --hugging-face Qwen/Qwen3-8B-GGUF --include '*Q4_K_M*'
  inferyard fetch --to ./weights --hugging-face Qwen/Qwen3-8B --revision 9c925d64
  inferyard fetch --to ./weights --url https://HOST/model.gguf --sha256 5891b5b5…
  inferyard worker --model qwen3 --gguf ./weights

Environment:
  HF_ENDPOINT    The hub, as --endpoint
  HF_TOKEN       Opens repositories that are not public; sent to the hub's own host only
  HTTP_TOKEN     The same for --url

Exit codes: 0 all files are here and verified, 1 failed or interrupted, 2 wrong command line.";

/// Download weights into a folder, from a Hugging Face hub or a URL
///
/// An interrupted download is resumed, also after a restart; every file is verified; a complete folder is left alone.
/// Network failures are retried without limit, and `inferyard watch` shows the progress and what it waits for.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
#[command(group(clap::ArgGroup::new("source").required(true)))]
pub(crate) struct Args {
    /// Target folder
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    /// Address on which progress is reported: `host:port`, or `unix:/path` [default: none]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<Listen>,
    /// Repository of the hub
    #[arg(long, value_name = "OWNER/REPO", group = "source")]
    hugging_face: Option<Repo>,
    /// Branch, tag or commit; the commit that it first stands for is kept
    #[arg(
        long,
        value_name = "REVISION",
        default_value = "main",
        conflicts_with = "url"
    )]
    revision: Revision,
    /// Pattern of file names: `*` is any text, `?` one character; can be repeated [default: the files that engines
    /// read]
    #[arg(long, value_name = "PATTERN", conflicts_with = "url")]
    include: Vec<Glob>,
    /// URL of the hub
    #[arg(
        long,
        env = "HF_ENDPOINT",
        value_name = "URL",
        default_value = "https://huggingface.co",
        hide_env = true
    )]
    endpoint: Address,
    /// URL of one file
    #[arg(long, value_name = "URL", group = "source")]
    url: Option<Address>,
    /// SHA-256 of that file
    #[arg(long, value_name = "HEX", requires = "url")]
    sha256: Option<Sha256>,
    /// PEM file of certificates that are trusted in addition to the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    #[command(flatten)]
    logs: logs::Args,
}

/// Fetches until all files are complete or a signal comes.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let _logs = logs::init(&args.logs, "fetch")?;
    let client = http::client(args.ca.as_deref()).map_err(|error| Failure::Usage(error.into()))?;
    let listen = args.listen.clone();
    let config = Config {
        http: Http::new(client, http::is_distrust).context("TLS cannot be set up")?,
        backoff: BackoffPolicy::default(),
        to: args.to.clone(),
        source: source(args)?,
    };
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime
        .block_on(fetch(config, listen))
        .map_err(Failure::Failed)
}

async fn fetch(config: Config, listen: Option<Listen>) -> anyhow::Result<()> {
    let stop = shutdown::requested(false)?;
    let to = config.to.clone();
    let fetch = Fetch::bind(config, listen.as_ref()).await?;
    if let Some(address) = fetch.address() {
        tracing::info!("progress is told on {address}");
    }
    let done = fetch.run(stop).await?;
    let commit = done
        .commit
        .map_or_else(String::new, |commit| format!(", commit {commit}"));
    println!(
        "{} files, {} bytes in {}{commit}; {} bytes fetched",
        done.files,
        done.bytes,
        to.display(),
        done.received
    );
    Ok(())
}

fn source(args: Args) -> Result<Source, Failure> {
    if let Some(url) = args.url {
        let token = token("HTTP_TOKEN")?;
        return Ok(Source::Plain(Plain {
            url,
            sha256: args.sha256,
            token,
        }));
    }
    Ok(Source::HuggingFace(HuggingFace {
        endpoint: args.endpoint,
        repo: args.hugging_face.expect("clap should require a source"),
        revision: args.revision,
        include: args.include,
        token: token("HF_TOKEN")?,
    }))
}

/// An empty value counts as absent: that is how an optional Secret arrives.
#[expect(
    clippy::disallowed_methods,
    reason = "a flag of clap's would let the token be written on the command line, which everybody reads"
)]
fn token(variable: &str) -> Result<Option<Token>, Failure> {
    match std::env::var(variable) {
        Ok(text) if !text.trim().is_empty() => {
            let token = text.parse::<Token>();
            token
                .map(Some)
                .map_err(|error| Failure::usage(format!("{variable}: {error}")))
        }
        _ => Ok(None),
    }
}
