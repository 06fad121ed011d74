//! A Lease with several candidates and one holder: the operators of a release, or the releases of a namespace.
//!
//! Each write carries the `resourceVersion` that was read, so that two candidates cannot take the Lease at the same
//! time. A candidate measures on its own clock how long the Lease has not changed: clocks of different machines are
//! never compared. If all of that fails, two operators of one release that work at the same time do no harm, because
//! both apply the same objects under one field manager.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Time without a change after which the Lease of operators is free.
const DURATION: Duration = Duration::from_secs(15);
/// Time without a renewal after which a holder stops, well before another operator takes over.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Interval of renewals, and of attempts to acquire the Lease.
const PERIOD: Duration = Duration::from_secs(2);
/// Time limit for reading and writing a Lease.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The identity of a Lease, and its duration.
#[derive(Debug, Clone)]
pub(crate) struct LeaseConfig {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Time without a change after which the Lease is free.
    pub(crate) duration: Duration,
}

/// A process that competes for the Lease.
pub(crate) struct Candidate {
    leases: Api<Lease>,
    config: LeaseConfig,
    identity: String,
    seen: Option<Seen>,
}

/// The version of a Lease, and when it was first seen.
struct Seen {
    version: Option<String>,
    at: Instant,
}

/// The holder of the Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    This,
    Other(String),
}

/// The Lease could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseError {
    /// The API server refused the request or was not reached, or another candidate was faster.
    #[error(transparent)]
    Api(kube::Error),
    /// The API server exceeded the time limit.
    #[error("the API server did not answer within {0:?}")]
    TimedOut(Duration),
}

// === impl LeaseConfig ===

impl LeaseConfig {
    /// The Lease that elects the leader among the operators of a release.
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
    pub(crate) fn new(client: Client, config: LeaseConfig, identity: String) -> Self {
        Self {
            leases: Api::namespaced(client, &config.namespace),
            config,
            identity,
            seen: None,
        }
    }

    /// Waits until this candidate holds the Lease. False: `stop` was cancelled before.
    pub(crate) async fn acquire(&mut self, stop: &CancellationToken) -> bool {
        loop {
            let attempt = tokio::select! {
                attempt = self.attempt() => attempt,
                () = stop.cancelled() => return false,
            };
            match attempt {
                Ok(Holder::This) => return true,
                Ok(Holder::Other(_)) => {}
                // Another candidate was faster, or the API server was not reached. The next attempt decides.
                Err(error) => tracing::debug!(%error, "cannot acquire the Lease"),
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = stop.cancelled() => return false,
            }
        }
    }

    /// Renews the Lease, and returns when it is lost or `stop` is cancelled. The work that the Lease protects must stop
    /// within `DURATION - RENEW_DEADLINE` after that. Otherwise it overlaps with the next holder.
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
                // The holder is unknown. Work goes on until the deadline.
                Ok(Err(error)) => {
                    tracing::warn!(%error, "cannot renew the Lease");
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
            // The time of the write is unknown: the earliest possible one counts.
            renewed = began;
        }
    }

    /// Releases the Lease, so that the next candidate does not have to wait for its expiry.
    pub(crate) async fn release(&mut self) {
        let released = async {
            let name = &self.config.name;
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
        match tokio::time::timeout(PERIOD, released).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot release the Lease"),
            Err(_) => tracing::warn!("cannot release the Lease in time"),
        }
    }

    /// Takes the Lease if it is free, or renews it if this candidate holds it.
    ///
    /// # Errors
    ///
    /// The API server refused a request, was not reached, or did not answer in time.
    pub(crate) async fn attempt(&mut self) -> Result<Holder, LeaseError> {
        let exchange = tokio::time::timeout(TIMEOUT, self.exchange()).await;
        exchange
            .map_err(|_| LeaseError::TimedOut(TIMEOUT))?
            .map_err(LeaseError::Api)
    }

    async fn exchange(&mut self) -> Result<Holder, kube::Error> {
        let Some(mut lease) = self.leases.get_opt(&self.config.name).await? else {
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
        spec.lease_duration_seconds = Some(seconds(self.config.duration));
        spec.renew_time = Some(now);
        // `replace` carries the version that was read, so a concurrent write makes it fail.
        self.leases
            .replace(&self.config.name, &PostParams::default(), &lease)
            .await?;
        Ok(Holder::This)
    }

    /// Whether the Lease has no holder, or its holder has not renewed it for its duration.
    fn is_free(&mut self, lease: &Lease) -> bool {
        if holder(lease).is_none_or(str::is_empty) {
            return true;
        }
        let version = lease.metadata.resource_version.clone();
        let now = Instant::now();
        match &self.seen {
            Some(seen) if seen.version == version => {
                let duration = lease.spec.as_ref().and_then(|s| s.lease_duration_seconds);
                let duration = duration.and_then(|seconds| u64::try_from(seconds).ok());
                let duration = duration.map_or(self.config.duration, Duration::from_secs);
                now - seen.at >= duration
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
                name: Some(self.config.name.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(seconds(self.config.duration)),
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
