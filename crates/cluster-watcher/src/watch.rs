//! One kind of object in one namespace, listed and watched by `kube::runtime`; every ten minutes it is listed again, so
//! that an event that the API server lost is not lost for ever.

use std::error::Error as _;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use inferyard_crds::{APPLICATION_LABEL, WORKER_APPLICATION};
use kube::core::DynamicObject;
use kube::runtime::utils::ResetTimerBackoff;
use kube::runtime::watcher::{self, Event, ExponentialBackoff, ListSemantic, watcher};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use crate::client;
use crate::metrics::Metrics;
use crate::object::{Id, Kind, Object};
use crate::sync::List;

/// When everything is listed again: a random time in this range, so that routers do not list all at once.
const RELIST: (Duration, Duration) = (Duration::from_mins(8), Duration::from_mins(10));
/// After how many seconds the API server ends a watch. One that is silent for five seconds longer is dead:
/// `kube::runtime` drops it and starts the next one.
const WATCH_SECONDS: u32 = 30;
/// The first and the longest pause after an error, doubled after each. Up to the same time is added at random.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(2_500));
/// Without an error for this time, pauses start with the first one again.
const PAUSE_RESET: Duration = Duration::from_mins(1);

/// What a watch reports.
#[derive(Debug)]
pub(crate) enum Change {
    /// A complete list: objects that are not in it do not exist.
    Listed { list: List, objects: Vec<Object> },
    /// The API server refuses the list: the right is missing, or the kind or namespace does not exist.
    Refused { list: List, why: String },
    /// An object was created or changed.
    Upserted(Kind, Object),
    /// An object was deleted.
    Deleted(Kind, Id),
}

/// One list that is kept up to date.
pub(crate) struct ResourceWatch {
    api: Api<DynamicObject>,
    kind: Kind,
    namespace: Option<Arc<str>>,
    metrics: Metrics,
    changes: mpsc::Sender<Change>,
    backoff: ResetTimerBackoff<ExponentialBackoff>,
    /// It was listed at least once.
    listed: bool,
    /// The last attempt failed.
    failing: bool,
}

/// The receiver of the changes is gone.
#[derive(Debug)]
struct Closed;

// === impl ResourceWatch ===

impl ResourceWatch {
    /// Must be called within a tokio runtime.
    pub(crate) fn new(
        client: &Client,
        kind: Kind,
        namespace: Option<Arc<str>>,
        metrics: Metrics,
        changes: mpsc::Sender<Change>,
    ) -> Self {
        let client = client::bounded(client, kind, &metrics);
        let resource = kind.resource();
        let api = match &namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        Self {
            api,
            kind,
            namespace,
            metrics,
            changes,
            backoff: backoff(),
            listed: false,
            failing: false,
        }
    }

    /// Sends every change, over errors and restarts of the API server, until the receiver is gone.
    pub(crate) async fn run(mut self) {
        while self.list_and_watch().await.is_ok() {}
    }

    /// Lists and watches until it is time to list again, or until an error, after which only a new list is sure to be
    /// right: the store may have been put back to what it was before the version that was seen last.
    async fn list_and_watch(&mut self) -> Result<(), Closed> {
        let mut events = pin!(watcher(self.api.clone(), self.config()));
        let mut listed = Vec::new();
        let mut end = Instant::now() + between(RELIST);
        while let Ok(Some(event)) = timeout_at(end, events.next()).await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(object)) => {
                    listed.push(Object::from_resource(self.kind, object));
                }
                Ok(Event::InitDone) => {
                    end = Instant::now() + between(RELIST);
                    self.listed(std::mem::take(&mut listed)).await?;
                }
                Ok(Event::Apply(object)) => {
                    self.metrics.synced(self.kind);
                    let object = Object::from_resource(self.kind, object);
                    self.send(Change::Upserted(self.kind, object)).await?;
                }
                Ok(Event::Delete(object)) => {
                    self.metrics.synced(self.kind);
                    let id = Object::from_resource(self.kind, object).id();
                    self.send(Change::Deleted(self.kind, id)).await?;
                }
                Err(error) => return self.failed(&error).await,
            }
        }
        Ok(())
    }

    fn config(&self) -> watcher::Config {
        // From the store: what an API server has cached may be older than what was seen before, and would bring a
        // revoked key back.
        let config = watcher::Config::default()
            .list_semantic(ListSemantic::MostRecent)
            .timeout(WATCH_SECONDS);
        match self.kind {
            Kind::Workers => config.labels(&format!("{APPLICATION_LABEL}={WORKER_APPLICATION}")),
            Kind::Models | Kind::Plans | Kind::Keys => config,
        }
    }

    async fn listed(&mut self, objects: Vec<Object>) -> Result<(), Closed> {
        self.metrics.listed(self.kind);
        if std::mem::replace(&mut self.failing, false) {
            let namespace = self.namespace.as_deref().unwrap_or("*");
            tracing::info!(kind = self.kind.plural(), namespace, "watching again");
        }
        self.listed = true;
        let list = (self.kind, self.namespace.clone());
        self.send(Change::Listed { list, objects }).await
    }

    /// Logs the error, says if the list is refused, and pauses.
    async fn failed(&mut self, error: &watcher::Error) -> Result<(), Closed> {
        self.metrics.failed(self.kind);
        let kind = self.kind.plural();
        let namespace = self.namespace.as_deref().unwrap_or("*");
        let cause = causes(error);
        // The first error of a series is worth a line; the others are counted.
        if std::mem::replace(&mut self.failing, true) {
            tracing::debug!(kind, namespace, %error, cause, "still cannot watch the cluster");
        } else if self.listed {
            tracing::warn!(kind, namespace, %error, cause, "cannot watch the cluster; the last known state stays in force");
        } else {
            tracing::warn!(kind, namespace, %error, cause, "cannot read the cluster yet");
        }
        if let Some(why) = refusal(error) {
            let list = (self.kind, self.namespace.clone());
            self.send(Change::Refused { list, why }).await?;
        }
        sleep(self.backoff.next().unwrap_or(PAUSE.1)).await;
        Ok(())
    }

    async fn send(&self, change: Change) -> Result<(), Closed> {
        self.changes.send(change).await.map_err(|_| Closed)
    }
}

fn backoff() -> ResetTimerBackoff<ExponentialBackoff> {
    let pauses = backon::ExponentialBuilder::default()
        .with_min_delay(PAUSE.0)
        .with_max_delay(PAUSE.1)
        .with_jitter()
        .without_max_times();
    ResetTimerBackoff::new(pauses.into(), PAUSE_RESET)
}

/// What the API server says, if it refuses the list. (401 and 5xx are not refusals: a token is renewed, and a server
/// recovers.)
fn refusal(error: &watcher::Error) -> Option<String> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
            if matches!(status.code, 403 | 404) =>
        {
            let message = &status.message;
            Some(format!(
                "{message} (there is no such right, or the namespace does not exist)"
            ))
        }
        _ => None,
    }
}

/// The causes of an error down to that of the operating system, without what the error itself or a cause says already.
fn causes(error: &watcher::Error) -> String {
    let shown = error.to_string();
    let mut text = String::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let own = cause.to_string();
        if !text.contains(&own) && !shown.contains(&own) {
            let separator = if text.is_empty() { "" } else { ": " };
            text = format!("{text}{separator}{own}");
        }
        next = cause.source();
    }
    text
}

/// A random time in a range.
fn between((least, most): (Duration, Duration)) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    let share = f64::from(random) / f64::from(u32::MAX);
    least + most.saturating_sub(least).mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_watch_is_replaced_within_a_minute() {
        // `kube::runtime` waits five seconds longer than the API server.
        let noticed = Duration::from_secs(u64::from(WATCH_SECONDS) + 5);
        // The next connection may be dead too.
        assert!(noticed + client::ANSWER + 2 * PAUSE.1 <= Duration::from_mins(1));
    }

    #[test]
    fn relists_are_spread() {
        let times: Vec<_> = (0..100).map(|_| between(RELIST)).collect();
        let (first, last) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        assert!(*first >= RELIST.0 && *last <= RELIST.1 && first < last);
    }
}
