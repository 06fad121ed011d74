//! Keeps one process running: restarts it after an exit, with growing delays, and stops it when asked.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::child::{Child, Exit};
use super::event::Event;
use super::process::ManagedProcess;

/// Delays between an exit and the restart. Without jitter: the processes share nothing that a restart could overload.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// A process that ran for this long was healthy: the delay starts again at [`FIRST_DELAY`].
const HEALTHY: Duration = Duration::from_secs(30);

/// How a process is stopped.
#[derive(Clone)]
pub(super) struct Shutdown {
    /// Sends SIGTERM.
    pub(super) stop: CancellationToken,
    /// Sends SIGKILL, once `stop` is cancelled too.
    pub(super) kill: CancellationToken,
    /// Time between SIGTERM and SIGKILL.
    pub(super) grace: Duration,
}

/// Keeps a process running until its shutdown. A process that exits before it has ever started successfully is not
/// restarted: its settings are wrong, and its last lines of output say how.
pub(super) async fn keep_running(
    process: Arc<ManagedProcess>,
    prefix: String,
    shutdown: Shutdown,
    events: mpsc::Sender<Event>,
) {
    let mut delays = delays();
    loop {
        let started = Instant::now();
        let exit = run_once(&process, prefix.clone(), &shutdown, &events).await;
        process.set_pid(0);
        if shutdown.stop.is_cancelled() {
            return;
        }
        let how = exit
            .as_ref()
            .map_or_else(String::clone, |exit| described(exit.status));
        if !process.has_started_once() {
            let lines = exit.map_or_else(|_| Vec::new(), |exit| exit.last_lines);
            let message = format!("the {} {how}{}", process.name, quoted(&lines));
            events.send(Event::Failed(message)).await.ok();
            return;
        }
        if started.elapsed() >= HEALTHY {
            delays = self::delays();
        }
        let delay = delays.next().unwrap_or(LONGEST_DELAY);
        let lines = exit.map_or_else(|_| String::new(), |exit| quoted(&exit.last_lines));
        tracing::warn!(
            "the {} {how}; restarting it in {} ms{lines}",
            process.name,
            delay.as_millis()
        );
        tokio::select! {
            () = sleep(delay) => {}
            () = shutdown.stop.cancelled() => return,
        }
    }
}

fn delays() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(FIRST_DELAY)
        .with_max_delay(LONGEST_DELAY)
        .without_max_times()
        .build()
}

/// Starts a child process and waits for its exit.
async fn run_once(
    process: &Arc<ManagedProcess>,
    prefix: String,
    shutdown: &Shutdown,
    events: &mpsc::Sender<Event>,
) -> Result<Exit, String> {
    let (reading, sender) = (process.clone(), events.clone());
    let on_line = move |line: &[u8]| {
        if let Some(event) = reading.read_stdout(line) {
            // Only the event of the first child matters, and the channel has room for that one.
            sender.try_send(event).ok();
        }
    };
    let mut child = Child::start(process, prefix, on_line)
        .map_err(|error| format!("cannot be started: {error}"))?;
    let exit = tokio::select! {
        exit = child.exit() => exit,
        () = shutdown.stop.cancelled() => stop(&mut child, process, shutdown).await,
    };
    exit.map_err(|error| format!("cannot be awaited: {error}"))
}

/// SIGTERM; and SIGKILL after the grace period, or when asked.
async fn stop(
    child: &mut Child,
    process: &ManagedProcess,
    shutdown: &Shutdown,
) -> std::io::Result<Exit> {
    child.terminate();
    tokio::select! {
        exit = timeout(shutdown.grace, child.exit()) => {
            if let Ok(exit) = exit {
                return exit;
            }
            tracing::warn!("the {} takes too long to end and is killed", process.name);
        }
        () = shutdown.kill.cancelled() => {}
    }
    child.kill();
    child.exit().await
}

fn described(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The last lines of output, as the end of a sentence.
fn quoted(lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let lines: Vec<_> = lines.iter().map(|line| format!("\n    {line}")).collect();
    format!("; the last lines of its log:{}", lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_described_with_code_or_signal_and_last_lines() {
        assert_eq!(
            described(ExitStatus::from_raw(2 << 8)),
            "ended with exit code 2"
        );
        assert_eq!(described(ExitStatus::from_raw(9)), "was killed by signal 9");
        assert_eq!(quoted(&[]), "");
        let lines = ["one".to_owned(), "two".to_owned()];
        assert_eq!(
            quoted(&lines),
            "; the last lines of its log:\n    one\n    two"
        );
    }
}
