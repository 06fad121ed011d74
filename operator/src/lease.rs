//! A Lease that several want and one holds: of the operators of a release, and of the releases of a namespace.
//!
//! Every write carries the `resourceVersion` that was read, so that two cannot take the Lease at once.
//! Whether a holder is alive is judged by how long its Lease has not changed on the clock of this
//! process: clocks of different machines are never compared. And where all of that fails, two operators of one
//! release that work at the same time do no harm: both apply the same objects under one field manager.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A Lease of operators that did not change for so long is free.
const DURATION: Duration = Duration::from_secs(15);
/// A holder that could not renew for so long stops, well before another takes over.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often it is renewed, or tried for.
const PERIOD: Duration = Duration::from_secs(2);
/// An API server that takes longer to read and write a Lease is asked anew.
const ANSWER: Duration = Duration::from_secs(5);

/// Which Lease it is.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// It is free when it did not change for so long.
    pub(crate) duration: Duration,
}

/// One who wants to hold the Lease.
pub(crate) struct Candidate {
    leases: Api<Lease>,
    slot: Slot,
    identity: String,
    seen: Option<Seen>,
}

/// A Lease as it was first seen.
struct Seen {
    version: Option<String>,
    at: Instant,
}

/// Who holds the Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    This,
    Other(String),
}

/// The Lease could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseError {
    /// The API server refused it, was not reached, or another one was faster.
    #[error(transparent)]
    Api(kube::Error),
    /// The API server took too long.
    #[error("the API server did not answer within {0:?}")]
    Silent(Duration),
}

// === impl Slot ===

impl Slot {
    /// The Lease for which the operators of a release compete.
    pub(crate) fn of_operators(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            duration: DURATION,
        }
    }
}

// === impl Candidate ===

impl Candidate {
    pub(crate) fn new(client: Client, slot: Slot, identity: String) -> Self {
        Self {
            leases: Api::namespaced(client, &slot.namespace),
            slot,
            identity,
            seen: None,
        }
    }

    /// Waits until this one holds the Lease. False: asked to stop before.
    pub(crate) async fn acquire(&mut self, stop: &CancellationToken) -> bool {
        loop {
            let attempt = tokio::select! {
                attempt = self.attempt() => attempt,
                () = stop.cancelled() => return false,
            };
            match attempt {
                Ok(Holder::This) => return true,
                Ok(Holder::Other(_)) => {}
                // Others are faster, or the API server is away: the next try will tell.
                Err(error) => tracing::debug!(%error, "the lease was not acquired"),
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = stop.cancelled() => return false,
            }
        }
    }

    /// Keeps the Lease, and returns when it is lost or `stop` is cancelled. Whoever works on the strength
    /// of the Lease has stopped within `DURATION - RENEW_DEADLINE`, or overlaps with the next.
    pub(crate) async fn keep(&mut self, stop: &CancellationToken) {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = stop.cancelled() => return,
            }
            let deadline = renewed + RENEW_DEADLINE;
            let began = Instant::now();
            let holder = match tokio::time::timeout_at(deadline, self.attempt()).await {
                Ok(Ok(holder)) => holder,
                // Unknown, until the deadline.
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the lease was not renewed");
                    if Instant::now() >= deadline {
                        return;
                    }
                    continue;
                }
                Err(_) => return,
            };
            if holder != Holder::This {
                return;
            }
            // The Lease may have been written when the request began.
            renewed = began;
        }
    }

    /// Gives the Lease back, so that the next one need not wait.
    pub(crate) async fn release(&mut self) {
        let given_back = async {
            let name = &self.slot.name;
            let lease = self.leases.get(name).await?;
            if holder(&lease) == Some(self.identity.as_str()) {
                let mut lease = lease;
                lease.spec.get_or_insert_default().holder_identity = Some(String::new());
                self.leases
                    .replace(name, &PostParams::default(), &lease)
                    .await?;
            }
            Ok::<_, kube::Error>(())
        };
        match tokio::time::timeout(PERIOD, given_back).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the lease was not given back"),
            Err(_) => tracing::warn!("the lease was not given back in time"),
        }
    }

    /// Takes or renews the Lease, if it is free or its own.
    pub(crate) async fn attempt(&mut self) -> Result<Holder, LeaseError> {
        let exchange = tokio::time::timeout(ANSWER, self.exchange()).await;
        exchange
            .map_err(|_| LeaseError::Silent(ANSWER))?
            .map_err(LeaseError::Api)
    }

    async fn exchange(&mut self) -> Result<Holder, kube::Error> {
        let Some(mut lease) = self.leases.get_opt(&self.slot.name).await? else {
            self.leases
                .create(&PostParams::default(), &self.lease())
                .await?;
            return Ok(Holder::This);
        };
        let own = holder(&lease) == Some(self.identity.as_str());
        if !own && !self.is_free(&lease) {
            let other = holder(&lease).unwrap_or_default();
            return Ok(Holder::Other(other.to_owned()));
        }
        let now = MicroTime(Timestamp::now());
        let spec = lease.spec.get_or_insert_default();
        if !own {
            spec.holder_identity = Some(self.identity.clone());
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
        }
        spec.lease_duration_seconds = Some(seconds(self.slot.duration));
        spec.renew_time = Some(now);
        // `replace` carries the version that was read: a conflict is a failure.
        self.leases
            .replace(&self.slot.name, &PostParams::default(), &lease)
            .await?;
        Ok(Holder::This)
    }

    /// Whether nobody holds it, or its holder has not renewed it for as long as it said.
    fn is_free(&mut self, lease: &Lease) -> bool {
        if holder(lease).is_none_or(str::is_empty) {
            return true;
        }
        let version = lease.metadata.resource_version.clone();
        let now = Instant::now();
        match &self.seen {
            Some(seen) if seen.version == version => {
                let promised = lease.spec.as_ref().and_then(|s| s.lease_duration_seconds);
                let promised = promised.and_then(|seconds| u64::try_from(seconds).ok());
                let promised = promised.map_or(self.slot.duration, Duration::from_secs);
                now - seen.at >= promised
            }
            _ => {
                self.seen = Some(Seen { version, at: now });
                false
            }
        }
    }

    fn lease(&self) -> Lease {
        let now = MicroTime(Timestamp::now());
        Lease {
            metadata: ObjectMeta {
                name: Some(self.slot.name.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(seconds(self.slot.duration)),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                lease_transitions: Some(0),
                ..LeaseSpec::default()
            }),
        }
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

#[cfg(test)]
pub(crate) mod tests;
