//! Which of several operators works: the one that holds the Lease.
//!
//! Every write carries the `resourceVersion` that was read, so that two cannot take the Lease at once.
//! Whether a holder is alive is judged by how long its Lease has not changed on the clock of this
//! process: clocks of different machines are never compared. And where all of that fails, two that work at
//! the same time do no harm: both apply the same objects under one field manager.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The name of the Lease.
const NAME: &str = "inferyard-operator";
/// A Lease that did not change for so long is free.
const DURATION: Duration = Duration::from_secs(15);
/// A holder that could not renew for so long stops, well before another takes over.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often it is renewed, or tried for.
const PERIOD: Duration = Duration::from_secs(2);

/// One who wants to hold the Lease.
pub(crate) struct Candidate {
    leases: Api<Lease>,
    identity: String,
    seen: Option<Seen>,
}

/// A Lease as it was first seen.
struct Seen {
    version: Option<String>,
    at: Instant,
}

/// The Lease could not be read or written, or was written by another.
type Failed = kube::Error;

// === impl Candidate ===

impl Candidate {
    pub(crate) fn new(client: Client, namespace: &str, identity: String) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            identity,
            seen: None,
        }
    }

    /// Waits until this one holds the Lease. False: asked to stop before.
    pub(crate) async fn acquire(&mut self, stop: &CancellationToken) -> bool {
        loop {
            match self.attempt().await {
                Ok(true) => return true,
                Ok(false) => {}
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
            let held = match tokio::time::timeout_at(deadline, self.attempt()).await {
                Ok(Ok(held)) => held,
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
            if !held {
                return;
            }
            // The Lease may have been written when the request began.
            renewed = began;
        }
    }

    /// Gives the Lease back, so that the next one need not wait.
    pub(crate) async fn release(&mut self) {
        let given_back = async {
            let lease = self.leases.get(NAME).await?;
            if holder(&lease) == Some(self.identity.as_str()) {
                let mut lease = lease;
                lease.spec.get_or_insert_default().holder_identity = Some(String::new());
                self.leases
                    .replace(NAME, &PostParams::default(), &lease)
                    .await?;
            }
            Ok::<_, Failed>(())
        };
        match tokio::time::timeout(PERIOD, given_back).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the lease was not given back"),
            Err(_) => tracing::warn!("the lease was not given back in time"),
        }
    }

    /// Takes or renews the Lease, if it is free or its own.
    async fn attempt(&mut self) -> Result<bool, Failed> {
        let Some(mut lease) = self.leases.get_opt(NAME).await? else {
            self.leases
                .create(&PostParams::default(), &self.lease())
                .await?;
            return Ok(true);
        };
        let own = holder(&lease) == Some(self.identity.as_str());
        if !own && !self.is_free(&lease) {
            return Ok(false);
        }
        let now = MicroTime(Timestamp::now());
        let spec = lease.spec.get_or_insert_default();
        if !own {
            spec.holder_identity = Some(self.identity.clone());
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
        }
        spec.lease_duration_seconds = Some(seconds(DURATION));
        spec.renew_time = Some(now);
        // `replace` carries the version that was read: a conflict is a failure.
        self.leases
            .replace(NAME, &PostParams::default(), &lease)
            .await?;
        Ok(true)
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
                let promised = promised.map_or(DURATION, Duration::from_secs);
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
                name: Some(NAME.to_owned()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(seconds(DURATION)),
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
mod tests;
