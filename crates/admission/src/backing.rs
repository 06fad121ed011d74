//! Which store a router has, and what routers tell each other through it.

#[cfg(test)]
use std::sync::Arc;

use super::memory::Memory;
use super::peers;
use super::redis::Redis;
use super::store::{Admission, Decision, Lease, Progressed, Settled, Store, StoreError, Used};

/// One of the stores.
pub(super) enum Backing {
    /// It belongs to this router, and cannot be lost.
    Memory(Memory),
    /// All routers share it.
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

    /// Tells that a router lives, and returns the names of all that do, in order.
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

    /// Tells that a router ends.
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

    /// Adds tokens to what all routers have used of a pool on a day, and returns the sum.
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

    /// Puts the whole usage event of a request that the store refuses to charge into the outbox.
    pub(super) async fn publish(&self, account: &str, event: &[u8]) -> Result<(), StoreError> {
        match self {
            // The store in memory has no keys of another type.
            Self::Memory(_) => Ok(()),
            Self::Redis(redis) => Box::pin(redis.publish(account, event)).await,
            #[cfg(test)]
            Self::Flaky(flaky) => flaky.publish().await,
        }
    }

    /// Warns where the store may throw counters away. One that does not say so is believed.
    pub(super) async fn warn_of_eviction(&self) {
        if let Self::Redis(redis) = self
            && let Ok(policy) = peers::eviction(redis.client()).await
            && policy != "noeviction"
        {
            tracing::warn!(
                policy,
                "Redis throws limits and usage away when its memory is full: \
                 set its maxmemory-policy to noeviction"
            );
        }
    }
}

/// Calls of Redis are large, and would be copied with the future of every request.
impl Store for Backing {
    async fn admit(&self, admission: &Admission) -> Result<Decision, StoreError> {
        match self {
            Self::Memory(store) => store.admit(admission).await,
            Self::Redis(store) => Box::pin(store.admit(admission)).await,
            #[cfg(test)]
            Self::Flaky(store) => store.admit(admission).await,
        }
    }

    async fn raise(&self, admission: &Admission) -> Result<Option<Decision>, StoreError> {
        match self {
            Self::Memory(store) => store.raise(admission).await,
            Self::Redis(store) => Box::pin(store.raise(admission)).await,
            #[cfg(test)]
            Self::Flaky(store) => store.raise(admission).await,
        }
    }

    async fn refuse(&self, admission: &Admission) -> Result<Decision, StoreError> {
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
