//! Shutdown signals: SIGINT, SIGTERM, or the exit of the parent process.

use std::io::{self, Read};
use std::process;
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// SIGINT (Ctrl-C) and SIGTERM.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// A token that is cancelled at the first signal or, if requested, when the parent exits. The second signal ends the
/// process at once.
pub(crate) fn requested(exit_with_parent: bool) -> io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut signals = Signals::listen()?;
    let on_signal = token.clone();
    tokio::spawn(async move {
        signals.next().await;
        on_signal.cancel();
        signals.next().await;
        process::exit(1);
    });
    if exit_with_parent {
        let on_end = token.clone();
        thread::Builder::new()
            .name("parent".to_owned())
            .spawn(move || {
                await_end_of_input();
                on_end.cancel();
            })?;
    }
    Ok(token)
}

/// The parent holds the write end of standard input and never writes: end-of-file means that it has exited, however it
/// did. This takes a thread, because a blocking read cannot be cancelled and would keep the runtime from shutting down.
fn await_end_of_input() {
    let mut ignored = [0; 64];
    let mut input = io::stdin().lock();
    loop {
        match input.read(&mut ignored) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

// === impl Signals ===

impl Signals {
    /// Installs the handlers; from now on these signals do not end the process by themselves.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
