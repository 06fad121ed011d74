//! Which release manages a namespace: the one that holds the Lease of that namespace.
//!
//! Two releases that manage one namespace would undo each other's work forever, because each applies its own image. So
//! the first release that writes the Lease owns the namespace with its models, plans and keys, and the operators of
//! other releases leave them alone. A release keeps a namespace over restarts, upgrades, and a new installation under
//! the same name. A release that is gone no longer renews the Lease, and another one takes the namespace over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::Client;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

use crate::lease::{Candidate, Holder, LeaseConfig, LeaseError};

/// The name of the Lease in each namespace.
const NAME: &str = "inferyard-owner";
/// Time without a renewal after which a release loses the namespace.
const DURATION: Duration = Duration::from_mins(2);
/// Time before that at which it stops, so that it never works at the same time as the next one.
const MARGIN: Duration = Duration::from_secs(20);
/// Interval of renewals of an own Lease.
const RENEW: Duration = Duration::from_secs(30);
/// Interval at which the Lease of another release is read.
const POLL: Duration = Duration::from_secs(10);
/// Time until a failed request is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// Number of Leases that are written at the same time.
const CONCURRENCY: usize = 8;
/// Number of decisions that a listener may lag behind. Beyond that it checks all namespaces.
const CAPACITY: usize = 1024;

/// The owner of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// Not decided yet, or the own Lease has expired.
    Undecided,
    /// The own release.
    Ours,
    /// Another release.
    Theirs(String),
}

/// The owners of all namespaces that were asked for.
#[derive(Debug)]
pub(crate) struct Claims {
    known: Mutex<BTreeMap<String, Known>>,
    asked: mpsc::UnboundedSender<String>,
    decided: broadcast::Sender<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    Asked,
    /// Until this time no other release can take the Lease. None: the operator may not write the Lease, so it cannot
    /// know whether another release manages the namespace.
    Ours(Option<Instant>),
    Theirs(String),
}

/// Acquires and renews the Leases of all namespaces that were asked for.
pub(crate) struct Keeper {
    client: Client,
    release: String,
    claims: Arc<Claims>,
    asked: mpsc::UnboundedReceiver<String>,
    namespaces: BTreeMap<String, Entry>,
}

struct Entry {
    candidate: Candidate,
    due: Instant,
    /// Whether the last request failed.
    failing: bool,
}

/// The claims of a release (`namespace/name`), and the keeper that has to run beside them.
pub(crate) fn of(client: &Client, release: &str) -> (Arc<Claims>, Keeper) {
    let (asked, requests) = mpsc::unbounded_channel();
    let claims = Arc::new(Claims {
        known: Mutex::default(),
        asked,
        decided: broadcast::channel(CAPACITY).0,
    });
    let keeper = Keeper {
        client: client.clone(),
        release: release.to_owned(),
        claims: Arc::clone(&claims),
        asked: requests,
        namespaces: BTreeMap::new(),
    };
    (claims, keeper)
}

// === impl Claims ===

impl Claims {
    /// The owner of a namespace. The first call for a namespace starts to find it out.
    pub(crate) fn owner(&self, namespace: &str) -> Ownership {
        let mut known = self.lock();
        match known.get(namespace) {
            None => {
                known.insert(namespace.to_owned(), Known::Asked);
                // The keeper is gone only while the operator shuts down.
                self.asked.send(namespace.to_owned()).ok();
                Ownership::Undecided
            }
            Some(Known::Ours(Some(until))) if *until <= Instant::now() => Ownership::Undecided,
            Some(Known::Asked) => Ownership::Undecided,
            Some(Known::Ours(_)) => Ownership::Ours,
            Some(Known::Theirs(release)) => Ownership::Theirs(release.clone()),
        }
    }

    /// Whether the own release manages this namespace.
    pub(crate) fn is_ours(&self, namespace: &str) -> bool {
        self.owner(namespace) == Ownership::Ours
    }

    /// Namespaces with a new owner. None: the listener has lagged behind, and any namespace may have one.
    pub(crate) fn changes(&self) -> impl Stream<Item = Option<String>> + Send + use<> {
        stream::unfold(self.decided.subscribe(), |mut decided| async {
            match decided.recv().await {
                Ok(namespace) => Some((Some(namespace), decided)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some((None, decided)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        })
    }

    fn decide(&self, namespace: &str, now: Known) {
        let before = self.owner(namespace);
        // Without permission for the Lease nothing was taken over.
        let holds = matches!(now, Known::Ours(Some(_)));
        self.lock().insert(namespace.to_owned(), now);
        let after = self.owner(namespace);
        if after == before {
            return;
        }
        match (&before, &after) {
            (_, Ownership::Theirs(release)) => tracing::warn!(
                namespace,
                release,
                "another release manages this namespace: its models, plans and keys are left alone"
            ),
            (Ownership::Theirs(release), Ownership::Ours) if holds => tracing::info!(
                namespace,
                release,
                "took over the namespace from a release that no longer renews its Lease"
            ),
            _ => tracing::debug!(namespace, "manages the namespace"),
        }
        // An error means that no controller listens yet. Controllers check all namespaces when they start.
        self.decided.send(namespace.to_owned()).ok();
    }

    fn forget(&self, namespace: &str) {
        self.lock().remove(namespace);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Known>> {
        self.known
            .lock()
            .expect("no holder of this lock should panic")
    }
}

// === impl Keeper ===

impl Keeper {
    /// Acquires and renews Leases until it is dropped.
    pub(crate) async fn keep(mut self) {
        loop {
            let due = self.namespaces.values().map(|entry| entry.due).min();
            let due = due.unwrap_or_else(|| Instant::now() + RENEW);
            let mut asked = Vec::new();
            tokio::select! {
                // The channel never closes, because `claims` holds a sender.
                _ = self.asked.recv_many(&mut asked, CAPACITY) => {}
                () = tokio::time::sleep_until(due) => {}
            }
            for namespace in asked {
                let slot = LeaseConfig {
                    namespace: namespace.clone(),
                    name: NAME.to_owned(),
                    duration: DURATION,
                };
                let candidate = Candidate::new(self.client.clone(), slot, self.release.clone());
                let entry = Entry {
                    candidate,
                    due: Instant::now(),
                    failing: false,
                };
                self.namespaces.insert(namespace, entry);
            }
            self.attempt_due().await;
        }
    }

    /// Reads and writes the Leases that are due.
    async fn attempt_due(&mut self) {
        let now = Instant::now();
        let due = self.namespaces.extract_if(.., |_, entry| entry.due <= now);
        let attempts = due.map(|(namespace, mut entry)| async move {
            let began = Instant::now();
            let holder = entry.candidate.attempt().await;
            (namespace, entry, began, holder)
        });
        let attempts: Vec<_> = attempts.collect();
        let mut attempts = stream::iter(attempts).buffer_unordered(CONCURRENCY);
        while let Some((namespace, mut entry, began, holder)) = attempts.next().await {
            if let Some(again) = self.record(&namespace, &mut entry.failing, began, holder) {
                entry.due = Instant::now() + again;
                self.namespaces.insert(namespace, entry);
            }
        }
    }

    /// Records the owner of a namespace, and returns the time until the next attempt. None: the namespace does not
    /// exist.
    fn record(
        &self,
        namespace: &str,
        failing: &mut bool,
        began: Instant,
        holder: Result<Holder, LeaseError>,
    ) -> Option<Duration> {
        let was_failing = std::mem::replace(failing, false);
        match holder {
            Ok(Holder::This) => {
                let until = began + DURATION.checked_sub(MARGIN).unwrap_or_default();
                self.claims.decide(namespace, Known::Ours(Some(until)));
                Some(RENEW)
            }
            Ok(Holder::Other(release)) => {
                self.claims.decide(namespace, Known::Theirs(release));
                Some(POLL)
            }
            Err(LeaseError::Api(kube::Error::Api(status)))
                if status.is_not_found() || is_terminating(&status) =>
            {
                self.claims.forget(namespace);
                None
            }
            Err(LeaseError::Api(kube::Error::Api(status))) if status.is_forbidden() => {
                // Logged once, not at each attempt.
                if !self.claims.is_ours(namespace) {
                    tracing::warn!(
                        namespace,
                        "no permission to write the Lease {NAME}, so another release that manages this namespace \
                         would not be noticed: allow create of leases, and get and update of this one"
                    );
                }
                self.claims.decide(namespace, Known::Ours(None));
                Some(RENEW)
            }
            // Another operator was faster.
            Err(LeaseError::Api(kube::Error::Api(status))) if status.code == 409 => Some(RETRY),
            Err(error) => {
                if !was_failing {
                    // The namespace is not reconciled while its owner is unknown.
                    tracing::warn!(namespace, %error, "cannot write the Lease {NAME} of the namespace; retrying");
                }
                *failing = true;
                Some(RETRY)
            }
        }
    }
}

/// Whether the API server refuses to create objects because the namespace is being deleted.
fn is_terminating(status: &kube::core::Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .map(|cause| cause.reason.as_str())
        .any(|reason| reason == "NamespaceTerminating")
}

#[cfg(test)]
mod tests;
