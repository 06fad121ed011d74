//! A store with access for tests: its clock can be shifted, and its levels and outbox can be read.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use inferyard_proto::outbox::{self, Entry};
use redis::Commands as _;
use redis::streams::StreamRangeReply;
use tokio::sync::{Mutex, mpsc};

use crate::clock::micros;
use crate::levels::Levels;
use crate::memory::Memory;
use crate::redis::Redis;
use crate::store::{
    Admission, AdmissionDecision, Lease, Progressed, Settled, Store, StoreError, Used,
};

pub(super) trait Subject: Store {
    /// Shifts its clock forward.
    fn shift(&self, by: Duration);
    /// Shifts its clock back.
    fn shift_back(&self, by: Duration);
    fn month(&self) -> (u64, u64);
    fn levels(&self, account: &str, scope: &str) -> Levels;
    /// Takes all entries from the outboxes.
    async fn entries(&self) -> Vec<Entry>;

    async fn ask(&self, request: &Admission) -> AdmissionDecision {
        let request = Admission {
            month: self.month(),
            ..request.clone()
        };
        self.admit(&request).await.unwrap()
    }

    async fn ask_again(&self, request: &Admission) -> Option<AdmissionDecision> {
        let request = Admission {
            month: self.month(),
            ..request.clone()
        };
        self.raise(&request).await.unwrap()
    }

    async fn refuses(&self, request: &Admission) -> AdmissionDecision {
        let request = Admission {
            month: self.month(),
            ..request.clone()
        };
        self.refuse(&request).await.unwrap()
    }

    async fn is_let_in(&self, request: &Admission) -> bool {
        self.ask(request).await.admitted
    }

    async fn sweep_all(&self) -> usize {
        let mut ended = 0;
        loop {
            match self.sweep().await.unwrap() {
                0 => return ended,
                more => ended += more,
            }
        }
    }
}

pub(super) struct InMemory {
    store: Memory,
    entries: Mutex<mpsc::Receiver<Entry>>,
}

pub(super) struct InRedis {
    store: Redis,
    url: String,
}

pub(super) fn memory() -> InMemory {
    let (outbox, entries) = mpsc::channel(10_000);
    InMemory {
        store: Memory::new(Some(outbox)),
        entries: Mutex::new(entries),
    }
}

/// A database of its own on the one server of this process.
fn database() -> String {
    static SERVER: OnceLock<inferyard_test_servers::Redis> = OnceLock::new();
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = || inferyard_test_servers::Redis::until_exit(&["--databases", "4096"]);
    let database = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}/{database}", SERVER.get_or_init(start).url())
}

pub(super) fn redis() -> InRedis {
    redis_at(database())
}

pub(super) fn redis_at(url: String) -> InRedis {
    InRedis {
        store: Redis::new(url.parse().unwrap(), Duration::from_secs(20)),
        url,
    }
}

// === impl InRedis ===

impl InRedis {
    pub(super) fn another(&self) -> Self {
        redis_at(self.url.clone())
    }

    pub(super) fn plain(&self) -> redis::Connection {
        let client = redis::Client::open(self.url.as_str()).unwrap();
        client.get_connection().unwrap()
    }
}

/// Forwards the calls to the store.
macro_rules! pass_on {
    ($subject:ty) => {
        impl Store for $subject {
            async fn admit(&self, admission: &Admission) -> Result<AdmissionDecision, StoreError> {
                self.store.admit(admission).await
            }
            async fn raise(
                &self,
                admission: &Admission,
            ) -> Result<Option<AdmissionDecision>, StoreError> {
                self.store.raise(admission).await
            }
            async fn refuse(&self, admission: &Admission) -> Result<AdmissionDecision, StoreError> {
                self.store.refuse(admission).await
            }
            async fn progress(&self, lease: &Lease, used: &Used) -> Result<Progressed, StoreError> {
                self.store.progress(lease, used).await
            }
            async fn settle(&self, lease: &Lease, used: &Used) -> Result<Settled, StoreError> {
                self.store.settle(lease, used).await
            }
            async fn charge(&self, lease: &Lease, used: &Used) -> Result<Settled, StoreError> {
                self.store.charge(lease, used).await
            }
            async fn sweep(&self) -> Result<usize, StoreError> {
                self.store.sweep().await
            }
        }
    };
}
pass_on!(InMemory);
pass_on!(InRedis);

impl Subject for InMemory {
    fn shift(&self, by: Duration) {
        self.store.shift(micros(by));
    }

    fn shift_back(&self, by: Duration) {
        self.store.shift(micros(by).wrapping_neg());
    }

    fn month(&self) -> (u64, u64) {
        self.store.this_month()
    }

    fn levels(&self, account: &str, scope: &str) -> Levels {
        self.store.levels(account, scope)
    }

    async fn entries(&self) -> Vec<Entry> {
        let mut receiver = self.entries.lock().await;
        let mut entries = Vec::new();
        while let Ok(entry) = receiver.try_recv() {
            entries.push(entry);
        }
        entries
    }
}

impl Subject for InRedis {
    fn shift(&self, by: Duration) {
        self.store.shift(micros(by));
    }

    fn shift_back(&self, by: Duration) {
        self.store.shift(micros(by).wrapping_neg());
    }

    fn month(&self) -> (u64, u64) {
        self.store.this_month()
    }

    fn levels(&self, account: &str, scope: &str) -> Levels {
        let tag = outbox::tag(outbox::bucket(account));
        let key = format!("{tag}:a:{account}");
        let state: Option<Vec<u8>> = self.plain().hget(key, scope).unwrap();
        state.map_or_else(Levels::default, |state| Levels::decode(&state).unwrap())
    }

    async fn entries(&self) -> Vec<Entry> {
        let mut connection = self.plain();
        let mut entries = Vec::new();
        for bucket in 0..outbox::BUCKETS {
            let stream = outbox::stream(bucket);
            let range: StreamRangeReply = connection.xrange_all(&stream).unwrap();
            let _: usize = connection.del(&stream).unwrap();
            entries.extend(range.ids.into_iter().map(|id| Entry {
                event: id.get::<Vec<u8>>(outbox::EVENT).unwrap().into(),
                part: id.get(outbox::PART).unwrap_or(0),
                billed: id.get::<Vec<u8>>(outbox::BILLED).unwrap_or_default().into(),
            }));
        }
        entries
    }
}
