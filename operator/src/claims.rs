//! Which release looks after a namespace: the one whose name is in the Lease of that namespace.
//!
//! Two releases that look after one namespace undo each other's work for ever: each applies its own image. So the
//! first one that writes the Lease has the namespace, with the models, plans and keys in it, and the operators
//! of others leave them alone. A release keeps it over restarts, upgrades, and a new installation under the same
//! name. One that is gone renews the Lease no more, and then another one takes the namespace over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::Client;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

use crate::lease::{Candidate, Holder, LeaseError, Slot};

/// The name of the Lease in each namespace.
const NAME: &str = "inferyard-owner";
/// How long a release may leave its Lease unrenewed before it loses the namespace.
const DURATION: Duration = Duration::from_mins(2);
/// How long before that it stops, so that it never works beside the next one.
const MARGIN: Duration = Duration::from_secs(20);
/// How often a Lease is renewed.
const RENEW: Duration = Duration::from_secs(30);
/// How often another one's Lease is looked at.
const LOOK: Duration = Duration::from_secs(10);
/// How soon a request that failed is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// Leases that are written at the same time.
const CONCURRENCY: usize = 8;
/// Decisions that a listener may lag behind; beyond that it looks at everything.
const ROOM: usize = 1024;

/// Which release a namespace belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not known yet, or not any more.
    Undecided,
    /// That of the own release.
    Ours,
    /// That of this release.
    Theirs(String),
}

/// What is known of namespaces.
#[derive(Debug)]
pub(crate) struct Claims {
    known: Mutex<BTreeMap<String, Known>>,
    asked: mpsc::UnboundedSender<String>,
    decided: broadcast::Sender<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    Asked,
    /// Until the Lease might be another one's; None: the Lease may not be written, and nothing tells whose it is.
    Ours(Option<Instant>),
    Theirs(String),
}

/// Keeps the Leases of all namespaces that were asked for.
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
    /// The last request failed.
    failing: bool,
}

/// The claims of a release, called `namespace/name`, and the task that keeps them.
pub(crate) fn of(client: &Client, release: &str) -> (Arc<Claims>, Keeper) {
    let (asked, requests) = mpsc::unbounded_channel();
    let claims = Arc::new(Claims {
        known: Mutex::default(),
        asked,
        decided: broadcast::channel(ROOM).0,
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
    /// Whose this namespace is. The first question for one begins to find out.
    pub(crate) fn standing(&self, namespace: &str) -> Standing {
        let mut known = self.lock();
        match known.get(namespace) {
            None => {
                known.insert(namespace.to_owned(), Known::Asked);
                // Without a keeper nothing is decided any more: the operator ends.
                self.asked.send(namespace.to_owned()).ok();
                Standing::Undecided
            }
            Some(Known::Ours(Some(until))) if *until <= Instant::now() => Standing::Undecided,
            Some(Known::Asked) => Standing::Undecided,
            Some(Known::Ours(_)) => Standing::Ours,
            Some(Known::Theirs(release)) => Standing::Theirs(release.clone()),
        }
    }

    /// Whether the own release looks after this namespace.
    pub(crate) fn is_ours(&self, namespace: &str) -> bool {
        self.standing(namespace) == Standing::Ours
    }

    /// Namespaces whose standing has changed; None: it may be any.
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
        let before = self.standing(namespace);
        // Without the right to the Lease nothing was taken over.
        let holds = matches!(now, Known::Ours(Some(_)));
        self.lock().insert(namespace.to_owned(), now);
        let after = self.standing(namespace);
        if after == before {
            return;
        }
        match (&before, &after) {
            (_, Standing::Theirs(release)) => tracing::warn!(
                namespace,
                release,
                "another release looks after this namespace: its models, plans and keys are left alone"
            ),
            (Standing::Theirs(release), Standing::Ours) if holds => tracing::info!(
                namespace,
                release,
                "takes over the namespace from a release that renews its Lease no more"
            ),
            _ => tracing::debug!(namespace, "looks after the namespace"),
        }
        // Nobody listens before the controllers have started; they look at everything then.
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
    /// Decides what is asked and renews what is held, until it is dropped.
    pub(crate) async fn keep(mut self) {
        loop {
            let due = self.namespaces.values().map(|entry| entry.due).min();
            let due = due.unwrap_or_else(|| Instant::now() + RENEW);
            let mut asked = Vec::new();
            tokio::select! {
                // It never closes: the claims hold the other end.
                _ = self.asked.recv_many(&mut asked, ROOM) => {}
                () = tokio::time::sleep_until(due) => {}
            }
            for namespace in asked {
                let slot = Slot {
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
            self.look().await;
        }
    }

    /// Reads and writes the Leases whose time has come.
    async fn look(&mut self) {
        let now = Instant::now();
        let due = self.namespaces.extract_if(.., |_, entry| entry.due <= now);
        let looks = due.map(|(namespace, mut entry)| async move {
            let began = Instant::now();
            let holder = entry.candidate.attempt().await;
            (namespace, entry, began, holder)
        });
        let looks: Vec<_> = looks.collect();
        let mut looks = stream::iter(looks).buffer_unordered(CONCURRENCY);
        while let Some((namespace, mut entry, began, holder)) = looks.next().await {
            if let Some(again) = self.take(&namespace, &mut entry.failing, began, holder) {
                entry.due = Instant::now() + again;
                self.namespaces.insert(namespace, entry);
            }
        }
    }

    /// Notes whose a namespace is, and says when to look again; None: there is no such namespace.
    fn take(
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
                Some(LOOK)
            }
            Err(LeaseError::Api(kube::Error::Api(status)))
                if status.is_not_found() || is_terminating(&status) =>
            {
                self.claims.forget(namespace);
                None
            }
            Err(LeaseError::Api(kube::Error::Api(status))) if status.is_forbidden() => {
                // An operator that could not write Leases here before goes on as it did.
                if !self.claims.is_ours(namespace) {
                    tracing::warn!(
                        namespace,
                        "may not write the Lease {NAME}, so another release that looks after this namespace \
                         would not be noticed: allow create of leases, and get and update of this one"
                    );
                }
                self.claims.decide(namespace, Known::Ours(None));
                Some(RENEW)
            }
            // Another one was faster.
            Err(LeaseError::Api(kube::Error::Api(status))) if status.code == 409 => Some(RETRY),
            Err(error) => {
                if !was_failing {
                    // Nothing is done there as long as it is not known whose the namespace is.
                    tracing::warn!(namespace, %error, "the Lease {NAME} of the namespace was not written; it is tried again");
                }
                *failing = true;
                Some(RETRY)
            }
        }
    }
}

/// Nothing can be made in a namespace that is being deleted.
fn is_terminating(status: &kube::core::Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .map(|cause| cause.reason.as_str())
        .any(|reason| reason == "NamespaceTerminating")
}

#[cfg(test)]
mod tests;
