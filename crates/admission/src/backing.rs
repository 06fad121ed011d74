//! The store of a router, and what routers exchange through it.

#[cfg(test)]
use std::sync::Arc;

use super::memory::Memory;
use super::peers;
use super::redis::Redis;
use super::store::{
    Admission, AdmissionDecision, Lease, Progressed, Settled, Store, StoreError, Used,
};

/// One of the stores.
pub(super) enum Backing {
    /// Belongs to this router; always reachable.
    Memory(Memory),
    /// Shared by all routers.
    Redis(Box<Redis>),
    /// A memory that fails on demand.
    #[cfg(test)]
    Flaky(Arc<super::tests::Flaky>),
}

// === impl Backing ===

impl Backing {
    /// Whether other routers may use it too.
    pub(super) fn is_shared(&self) -> bool {
        !matches!(self, Self::Memory(_))
    }

    /// Usage events that wait in this process for the ledger.
    pub(super) fn waiting(&self) -> usize {
        match self {
            Self::Memory(memory) => memory.waiting(),
            Self::Redis(_) => 0,
            #[cfg(test)]
            Self::Flaky(_) => 0,
        }
    }

    /// Whether the number of waiting events has reached the bound at which no request is admitted.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Memory(memory) => memory.is_full(),
            Self::Redis(_) => false,
            #[cfg(test)]
            Self::Flaky(_) => false,
        }
    }

    /// Reports that a router is alive, and returns the names of all live routers, sorted.
    pub(super) async fn beat(&self, router: &str) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Memory(_) => Ok(vec![router.to_owned()]),
            Self::Redis(redis) => {
                let beat = Box::pin(peers::beat(redis.client(), router)).await;
                beat.map_err(|error| redis.failed(peers::ROUTERS, &error))
            }
            #[cfg(test)]
            Self::Flaky(flaky) => flaky.beat(router).await,
        }
    }

    /// Removes a router that shuts down.
    pub(super) async fn leave(&self, router: &str) -> Result<(), StoreError> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Redis(redis) => {
                let leave = Box::pin(peers::leave(redis.client(), router)).await;
                leave.map_err(|error| redis.failed(peers::ROUTERS, &error))
            }
            #[cfg(test)]
            Self::Flaky(_) => Ok(()),
        }
    }

    /// Adds tokens to a pool on a day, and returns the sum over all routers.
    pub(super) async fn pool(&self, name: &str, day: u64, tokens: u64) -> Result<u64, StoreError> {
        match self {
            Self::Memory(_) => Ok(tokens),
            Self::Redis(redis) => {
                let add = Box::pin(peers::add(redis.client(), name, day, tokens)).await;
                add.map_err(|error| redis.failed(&peers::pool(name, day), &error))
            }
            #[cfg(test)]
            Self::Flaky(_) => Ok(tokens),
        }
    }

    /// Writes the complete usage event of a request to the outbox, after the store refused to charge it.
    pub(super) async fn publish(&self, account: &str, event: &[u8]) -> Result<(), StoreError> {
        match self {
            // The store in memory never refuses an account.
            Self::Memory(_) => Ok(()),
            Self::Redis(redis) => Box::pin(redis.publish(account, event)).await,
            #[cfg(test)]
            Self::Flaky(flaky) => flaky.publish().await,
        }
    }

    /// Warns if Redis may evict counters. If it does not report its policy, there is no warning.
    pub(super) async fn warn_of_eviction(&self) {
        if let Self::Redis(redis) = self
            && let Ok(policy) = peers::eviction(redis.client()).await
            && policy != "noeviction"
        {
            tracing::warn!(
                policy,
                "Redis evicts limits and usage when its memory is full: \
                 set its maxmemory-policy to noeviction"
            );
        }
    }
}

/// Calls of Redis are boxed, because their large futures would otherwise enlarge the future of every request.
impl Store for Backing {
    async fn admit(&self, admission: &Admission) -> Result<AdmissionDecision, StoreError> {
        match self {
            Self::Memory(store) => store.admit(admission).await,
            Self::Redis(store) => Box::pin(store.admit(admission)).await,
            #[cfg(test)]
            Self::Flaky(store) => store.admit(admission).await,
        }
    }

    async fn raise(&self, admission: &Admission) -> Result<Option<AdmissionDecision>, StoreError> {
        match self {
            Self::Memory(store) => store.raise(admission).await,
            Self::Redis(store) => Box::pin(store.raise(admission)).await,
            #[cfg(test)]
            Self::Flaky(store) => store.raise(admission).await,
        }
    }

    async fn refuse(&self, admission: &Admission) -> Result<AdmissionDecision, StoreError> {
        match self {
            Self::Memory(store) => store.refuse(admission).await,
            Self::Redis(store) => Box::pin(store.refuse(admission)).await,
            #[cfg(test)]
            Self::Flaky(store) => store.refuse(admission).await,
        }
    }

    async fn progress(&self, lease: &Lease, used: &Used) -> Result<Progressed, StoreError> {
        match self {
            Self::Memory(store) => store.progress(lease, used).await,
            Self::Redis(store) => Box::pin(store.progress(lease, used)).await,
            #[cfg(test)]
            Self::Flaky(store) => store.progress(lease, used).await,
        }
    }

    async fn settle(&self, lease: &Lease, used: &Used) -> Result<Settled, StoreError> {
        match self {
            Self::Memory(store) => store.settle(lease, used).await,
            Self::Redis(store) => Box::pin(store.settle(lease, used)).await,
            #[cfg(test)]
            Self::Flaky(store) => store.settle(lease, used).await,
        }
    }

    async fn charge(&self, lease: &Lease, used: &Used) -> Result<Settled, StoreError> {
        match self {
            Self::Memory(store) => store.charge(lease, used).await,
            Self::Redis(store) => Box::pin(store.charge(lease, used)).await,
            #[cfg(test)]
            Self::Flaky(store) => store.charge(lease, used).await,
        }
    }

    async fn sweep(&self) -> Result<usize, StoreError> {
        match self {
            Self::Memory(store) => store.sweep().await,
            Self::Redis(store) => Box::pin(store.sweep()).await,
            #[cfg(test)]
            Self::Flaky(store) => store.sweep().await,
        }
    }
}
