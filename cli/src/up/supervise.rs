//! Keeps one child running: starts it again when it dies, ever more slowly, and ends it when asked.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::child::{End, Life};
use super::event::Event;
use super::part::Part;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// A life of this length was a healthy one.
const HEALTHY: Duration = Duration::from_secs(30);

/// How a child ends.
#[derive(Clone)]
pub(super) struct Ending {
    /// It is asked to end.
    pub(super) stop: CancellationToken,
    /// It ends at once.
    pub(super) kill: CancellationToken,
    /// How long it may take once asked.
    pub(super) grace: Duration,
}

/// Keeps a child running until it is to end. A child that ends before it has ever worked is not
/// started again: its settings are wrong, and its last words say how.
pub(super) async fn supervise(
    part: Arc<Part>,
    prefix: String,
    ending: Ending,
    events: mpsc::Sender<Event>,
) {
    let mut delay = FIRST_DELAY;
    loop {
        let started = Instant::now();
        let end = live(&part, prefix.clone(), &ending, &events).await;
        part.set_pid(0);
        if ending.stop.is_cancelled() {
            return;
        }
        let how = end
            .as_ref()
            .map_or_else(String::clone, |end| described(end.status));
        if !part.is_proven() {
            let words = end.map_or_else(|_| Vec::new(), |end| end.last_words);
            let message = format!("the {} {how}{}", part.name, quoted(&words));
            events.send(Event::Failed(message)).await.ok();
            return;
        }
        if started.elapsed() >= HEALTHY {
            delay = FIRST_DELAY;
        }
        let words = end.map_or_else(|_| String::new(), |end| quoted(&end.last_words));
        tracing::warn!(
            "the {} {how}; starting it again in {} ms{words}",
            part.name,
            delay.as_millis()
        );
        tokio::select! {
            () = sleep(delay) => {}
            () = ending.stop.cancelled() => return,
        }
        delay = LONGEST_DELAY.min(2 * delay);
    }
}

/// One life, to its end.
async fn live(
    part: &Arc<Part>,
    prefix: String,
    ending: &Ending,
    events: &mpsc::Sender<Event>,
) -> Result<End, String> {
    let (listening, sender) = (part.clone(), events.clone());
    let on_line = move |line: &[u8]| {
        if let Some(event) = listening.said(line) {
            // Only what the first life says is news, and the channel has room for it.
            sender.try_send(event).ok();
        }
    };
    let mut life = Life::start(part, prefix, on_line)
        .map_err(|error| format!("cannot be started: {error}"))?;
    let end = tokio::select! {
        end = life.end() => end,
        () = ending.stop.cancelled() => stop(&mut life, part, ending).await,
    };
    end.map_err(|error| format!("cannot be awaited: {error}"))
}

/// Asks, waits, and in the end does not ask.
async fn stop(life: &mut Life, part: &Part, ending: &Ending) -> std::io::Result<End> {
    life.terminate();
    tokio::select! {
        end = timeout(ending.grace, life.end()) => {
            if let Ok(end) = end {
                return end;
            }
            tracing::warn!("the {} takes too long to end and is killed", part.name);
        }
        () = ending.kill.cancelled() => {}
    }
    life.kill();
    life.end().await
}

fn described(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Last words as the end of a sentence.
fn quoted(words: &[String]) -> String {
    if words.is_empty() {
        return String::new();
    }
    let lines: Vec<_> = words.iter().map(|line| format!("\n    {line}")).collect();
    format!("; its last words:{}", lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_described_with_code_or_signal_and_last_words() {
        assert_eq!(
            described(ExitStatus::from_raw(2 << 8)),
            "ended with exit code 2"
        );
        assert_eq!(described(ExitStatus::from_raw(9)), "was killed by signal 9");
        assert_eq!(quoted(&[]), "");
        let words = ["one".to_owned(), "two".to_owned()];
        assert_eq!(quoted(&words), "; its last words:\n    one\n    two");
    }
}
