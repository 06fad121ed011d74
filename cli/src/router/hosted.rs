//! The ledger inside a router's process, for routers without Redis.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::thread;

use anyhow::Context;
use inferyard_catalog::Endpoint;
use inferyard_ledger::{Config, Ledger, Listen, Source};
use inferyard_proto::outbox::Entry;
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::limits::Args;
use crate::scratch::Scratch;

/// A ledger on a thread of its own, so that no answer waits while it writes.
pub(super) struct Hosted {
    /// Address of its usage API.
    pub(super) endpoint: Endpoint,
    /// Sends usage events. The ledger ends when all clones of it are dropped.
    pub(super) outbox: mpsc::Sender<Entry>,
    ended: oneshot::Receiver<anyhow::Result<()>>,
    stop: CancellationToken,
    /// The folder of its socket.
    folder: Option<Scratch>,
}

/// The result of a ledger.
pub(super) struct Ended {
    result: oneshot::Receiver<anyhow::Result<()>>,
    stop: CancellationToken,
    _folder: Option<Scratch>,
}

// === impl Hosted ===

impl Hosted {
    /// Starts the ledger, if the command line names a database; returns once it listens.
    pub(super) async fn start(args: &Args) -> anyhow::Result<Option<Self>> {
        let Some(store) = args.store() else {
            return Ok(None);
        };
        if let Some(spool) = &args.spool {
            let mut builder = DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(spool);
            made.with_context(|| format!("cannot make the folder {}", spool.display()))?;
        }
        let (endpoint, folder) = if let Some(endpoint) = &args.ledger {
            (endpoint.clone(), None)
        } else {
            let folder = Scratch::make(None)?;
            let socket = folder.path().join("ledger.sock");
            (Endpoint::Unix(socket), Some(folder))
        };
        // Twice the limit: the second half is for requests that are running when the router begins to refuse new ones.
        let (outbox, entries) = mpsc::channel(2 * args.max_unstored_events.get());
        let config = Config {
            store,
            source: Source::Channel {
                entries,
                leftover: args.leftover(),
            },
            listen: Some(listen(&endpoint)?),
            admin_keys: args.admin_key_hashes.clone(),
            key_store: args.key_store()?,
            drain_timeout: inferyard_ledger::DRAIN_TIMEOUT,
        };
        let stop = CancellationToken::new();
        let ended = spawn(config, stop.clone()).await?;
        Ok(Some(Self {
            endpoint,
            outbox,
            ended,
            stop,
            folder,
        }))
    }

    /// Drops its own sender, so that the ledger ends with the router's.
    pub(super) fn into_ended(self) -> Ended {
        Ended {
            result: self.ended,
            stop: self.stop,
            _folder: self.folder,
        }
    }
}

// === impl Ended ===

impl Ended {
    /// Starts the shutdown; the router must have sent all its events. Events that the database does not take within ten
    /// seconds are written to a file, or lost and counted in the error.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits for the end of the ledger.
    pub(super) async fn wait(&mut self) -> anyhow::Result<()> {
        (&mut self.result)
            .await
            .context("the thread of the ledger has ended")?
    }
}

/// Returns once the ledger is open, or has failed to open.
async fn spawn(
    config: Config,
    stop: CancellationToken,
) -> anyhow::Result<oneshot::Receiver<anyhow::Result<()>>> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the ledger")?;
    let (opened, is_open) = oneshot::channel();
    let (ended, has_ended) = oneshot::channel();
    let life = async move {
        match Ledger::open(config).await {
            Ok(ledger) => {
                // The receiver is gone if the router has failed to start.
                opened.send(Ok(())).ok();
                let end = ledger.run(stop).await;
                ended.send(end.map_err(Into::into)).ok();
            }
            Err(error) => drop(opened.send(Err(error))),
        }
    };
    thread::Builder::new()
        .name("ledger".to_owned())
        .spawn(move || runtime.block_on(life))
        .context("cannot start the ledger")?;
    is_open
        .await
        .context("the thread of the ledger has ended")?
        .context("cannot open the ledger")?;
    Ok(has_ended)
}

fn listen(endpoint: &Endpoint) -> anyhow::Result<Listen> {
    Ok(match endpoint {
        Endpoint::Tcp(address) => Listen::Tcp(
            address
                .parse()
                .with_context(|| format!("--ledger {address}: expected IP:port or unix:/path"))?,
        ),
        Endpoint::Unix(path) => Listen::Unix(PathBuf::from(path)),
    })
}
