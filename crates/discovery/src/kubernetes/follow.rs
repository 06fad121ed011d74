//! One kind of object in one namespace: listed, watched, and listed again from time to time, so that what
//! a watch lost on its way heals by itself.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use inferyard_crds::{APPLICATION_LABEL, WORKER_APPLICATION};
use kube::api::{ListParams, VersionMatch, WatchParams};
use kube::core::{DynamicObject, Status, WatchEvent};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::lists::List;
use super::metrics::Metrics;
use super::object::{Id, Kind, Object};

/// How long everything may take. What is wrong heals within the sum of the longest times.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Everything is listed again so often, at the earliest and at the latest: not all routers at once.
    relist: (Duration, Duration),
    /// An API server that takes longer to begin an answer, or to give a list, is taken for gone.
    answer: Duration,
    /// Pauses after errors: the first one, doubled after each up to the longest.
    pauses: (Duration, Duration),
    /// A server that ends every watch at once is not asked in a loop without pause.
    between_watches: Duration,
}

/// What was seen.
#[derive(Debug)]
pub(super) enum Change {
    /// All there is.
    Listed {
        list: List,
        objects: Vec<Object>,
    },
    /// The API server does not give it: the right is missing, or there is no such kind.
    Refused {
        list: List,
        why: String,
    },
    Put(Kind, Object),
    Gone(Kind, Id),
}

/// One list to follow.
pub(super) struct Source {
    api: Api<DynamicObject>,
    kind: Kind,
    scope: Option<Arc<str>>,
    pace: Pace,
    metrics: Metrics,
    /// The newest version that was seen: a server that lags behind it is waited for. None: nothing was seen yet, or
    /// the server does not know it any more.
    version: Option<String>,
    /// It was listed once.
    listed: bool,
}

/// Why following broke.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error("the API server did not answer within {0:?}")]
    Silent(Duration),
    #[error("cannot list them")]
    List(#[source] kube::Error),
    #[error("cannot watch them")]
    Watch(#[source] kube::Error),
    #[error("the watch broke")]
    Broken(#[source] kube::Error),
    #[error("the watch ended")]
    Ended(#[source] Box<Status>),
    /// Nobody takes changes any more.
    #[error("discovery has ended")]
    Unheard,
}

// === impl Pace ===

impl Pace {
    pub(super) const USUAL: Self = Self {
        relist: (Duration::from_secs(30), Duration::from_secs(45)),
        answer: Duration::from_secs(10),
        pauses: (Duration::from_millis(100), Duration::from_secs(5)),
        between_watches: Duration::from_millis(500),
    };

    /// A hundred times as fast.
    #[cfg(test)]
    pub(super) const QUICK: Self = Self {
        relist: (Duration::from_millis(300), Duration::from_millis(450)),
        answer: Duration::from_millis(100),
        pauses: (Duration::from_millis(1), Duration::from_millis(50)),
        between_watches: Duration::from_millis(5),
    };
}

// === impl FollowError ===

impl FollowError {
    /// What the API server says, if it will not give the list. (A token that it does not take, and its own
    /// troubles, pass.)
    fn refusal(&self) -> Option<String> {
        match self {
            Self::List(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {
                let said = &status.message;
                Some(format!(
                    "{said} (there is no such right, or the namespace does not exist)"
                ))
            }
            _ => None,
        }
    }
}

// === impl Source ===

impl Source {
    pub(super) fn new(
        client: &Client,
        kind: Kind,
        scope: Option<Arc<str>>,
        pace: Pace,
        metrics: Metrics,
    ) -> Self {
        let (client, resource) = (client.clone(), kind.resource());
        let api = match &scope {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        Self {
            api,
            kind,
            scope,
            pace,
            metrics,
            version: None,
            listed: false,
        }
    }

    /// Tells every change, over errors and restarts of the API server, until nobody listens.
    pub(super) async fn follow(mut self, changes: mpsc::Sender<Change>) {
        let (first, longest) = self.pace.pauses;
        let mut pause = first;
        let mut failing = false;
        loop {
            match self.pass(&changes).await {
                Ok(()) => {
                    if failing {
                        tracing::info!(kind = self.kind.plural(), "following again");
                    }
                    (pause, failing) = (first, false);
                }
                Err(FollowError::Unheard) => return,
                Err(error) => {
                    self.failed(&error, &mut failing);
                    if let Some(why) = error.refusal() {
                        let list = (self.kind, self.scope.clone());
                        if tell(&changes, Change::Refused { list, why }).await.is_err() {
                            return;
                        }
                    }
                    sleep(between(pause / 2, pause)).await;
                    pause = (pause * 2).min(longest);
                }
            }
        }
    }

    /// The first of a row of errors is worth a line; the others are counted.
    fn failed(&mut self, error: &FollowError, failing: &mut bool) {
        self.metrics.failed(self.kind);
        if let FollowError::List(kube::Error::Api(_)) | FollowError::Ended(_) = error {
            // It does not know this version; another one may have been put in its place.
            self.version = None;
        }
        let kind = self.kind.plural();
        let namespace = self.scope.as_deref().unwrap_or("*");
        let cause = causes(error);
        if *failing {
            tracing::debug!(kind, namespace, %error, cause, "still cannot follow the cluster");
        } else if self.listed {
            tracing::warn!(kind, namespace, %error, cause, "cannot follow the cluster; what was known stays");
        } else {
            tracing::warn!(kind, namespace, %error, cause, "cannot read the cluster yet");
        }
        *failing = true;
    }

    /// Lists, and watches until it is time to list again.
    async fn pass(&mut self, changes: &mpsc::Sender<Change>) -> Result<(), FollowError> {
        let mut version = self.list(changes).await?;
        self.listed = true;
        let end = Instant::now() + between(self.pace.relist.0, self.pace.relist.1);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let params = self.watch_params(left);
            let watch = timeout(self.pace.answer, self.api.watch(&params, &version)).await;
            let events = watch
                .map_err(|_| FollowError::Silent(self.pace.answer))?
                .map_err(FollowError::Watch)?;
            let events = std::pin::pin!(events);
            let watching = self.watch(events, &mut version, changes);
            match timeout_at(end, watching).await {
                Ok(ended) => ended?,
                Err(_) => return Ok(()),
            }
            sleep(self.pace.between_watches.min(left)).await;
        }
    }

    /// Tells all there is, and gives its version.
    async fn list(&mut self, changes: &mpsc::Sender<Change>) -> Result<String, FollowError> {
        let params = self.list_params();
        let list = timeout(self.pace.answer, self.api.list(&params)).await;
        let list = list
            .map_err(|_| FollowError::Silent(self.pace.answer))?
            .map_err(FollowError::List)?;
        self.metrics.listed(self.kind);
        let version = list.metadata.resource_version.unwrap_or_default();
        self.version = Some(version.clone());
        let objects = list.items.into_iter();
        let change = Change::Listed {
            list: (self.kind, self.scope.clone()),
            objects: objects
                .map(|object| Object::cut(self.kind, object))
                .collect(),
        };
        tell(changes, change).await?;
        Ok(version)
    }

    /// Tells what a watch says, until the server ends it.
    async fn watch(
        &mut self,
        mut events: impl Stream<Item = kube::Result<WatchEvent<DynamicObject>>> + Unpin,
        version: &mut String,
        changes: &mpsc::Sender<Change>,
    ) -> Result<(), FollowError> {
        while let Some(event) = events.next().await {
            let event = event.map_err(FollowError::Broken)?;
            self.metrics.synced(self.kind);
            let (object, gone) = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
                WatchEvent::Deleted(object) => (object, true),
                WatchEvent::Bookmark(bookmark) => {
                    self.saw(version, bookmark.metadata.resource_version);
                    continue;
                }
                WatchEvent::Error(status) => return Err(FollowError::Ended(status)),
            };
            if let Some(newer) = object.metadata.resource_version.clone() {
                self.saw(version, newer);
            }
            let object = Object::cut(self.kind, object);
            let change = if gone {
                Change::Gone(self.kind, object.id())
            } else {
                Change::Put(self.kind, object)
            };
            tell(changes, change).await?;
        }
        Ok(())
    }

    fn saw(&mut self, version: &mut String, newer: String) {
        self.version = Some(newer.clone());
        *version = newer;
    }

    /// From the server's own cache, which costs it little; at least as new as all that was seen, so that a server
    /// that lags behind brings no revoked key back to life. Where nothing was seen, or what was seen is no measure
    /// any more, the list is that of the store itself: a cache might be as old as it likes.
    fn list_params(&self) -> ListParams {
        let params = match self.version.as_deref() {
            Some(version) => ListParams::default()
                .at(version)
                .matching(VersionMatch::NotOlderThan),
            None => ListParams::default(),
        };
        match self.kind {
            Kind::Workers => params.labels(&format!("{APPLICATION_LABEL}={WORKER_APPLICATION}")),
            _ => params,
        }
    }

    fn watch_params(&self, time: Duration) -> WatchParams {
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX).max(1);
        let params = WatchParams::default().timeout(seconds);
        match self.kind {
            Kind::Workers => params.labels(&format!("{APPLICATION_LABEL}={WORKER_APPLICATION}")),
            _ => params,
        }
    }
}

async fn tell(changes: &mpsc::Sender<Change>, change: Change) -> Result<(), FollowError> {
    let told = changes.send(change).await;
    told.map_err(|_| FollowError::Unheard)
}

/// Why, down to what the system said; what an error repeats of its cause is said once.
fn causes(error: &FollowError) -> String {
    let mut text = String::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let own = cause.to_string();
        if !text.contains(&own) {
            let separator = if text.is_empty() { "" } else { ": " };
            text = format!("{text}{separator}{own}");
        }
        next = cause.source();
    }
    text
}

/// A random time, so that routers do not ask in step.
fn between(least: Duration, most: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    least
        + most
            .saturating_sub(least)
            .mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_heals_within_a_minute() {
        let Pace {
            relist,
            answer,
            pauses,
            ..
        } = Pace::USUAL;
        assert!(relist.1 + answer + pauses.1 <= Duration::from_mins(1));
    }
}
