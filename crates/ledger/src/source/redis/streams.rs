//! What a consumer does with the streams of the outbox.

use std::sync::Arc;
use std::time::Duration;

use inferyard_proto::outbox::{BUCKETS, GROUP, stream};
use inferyard_redis_link::{Live, concerns_keys};
use redis::{Cmd, Pipeline, RedisError, RedisResult, Value, cmd, pipe};
use tokio::task::JoinSet;

use super::reply::{self, Delivered};

/// Most entries of one stream in one reply.
const COUNT: usize = 256;
/// How long a read waits for the first entry, in milliseconds.
const BLOCK_MS: u64 = 500;
/// A consumer without entries is forgotten after an hour of silence, in milliseconds.
const GONE_MS: u64 = 3_600_000;

/// The streams of the outbox, on a connection; clones share it.
#[derive(Clone)]
pub(super) struct Streams {
    live: Arc<Live>,
    /// Those that can be read.
    buckets: Arc<[u16]>,
}

/// Streams whose key is none, and what Redis says of it.
pub(super) type Damaged = Vec<(String, RedisError)>;

// === impl Streams ===

impl Streams {
    /// The streams, with the consumer group of each, which are made where there are none. A key of another
    /// type must not keep the entries of all others from being read.
    pub(super) async fn open(live: Arc<Live>) -> RedisResult<(Self, Damaged)> {
        let all = Self {
            live,
            buckets: (0..BUCKETS).collect(),
        };
        let create = |bucket| {
            let mut command = cmd("XGROUP");
            command.arg("CREATE").arg(stream(bucket)).arg(GROUP);
            command.arg("0").arg("MKSTREAM");
            command
        };
        let mut buckets = Vec::new();
        let mut damaged = Damaged::new();
        for (bucket, created) in all.everywhere(create).await {
            match created {
                Ok(_) => buckets.push(bucket),
                Err(error) if error.code() == Some("BUSYGROUP") => buckets.push(bucket),
                Err(error) if concerns_keys(&error) => damaged.push((stream(bucket), error)),
                Err(error) => return Err(error),
            }
        }
        if buckets.is_empty()
            && let Some((_, error)) = damaged.pop()
        {
            return Err(error);
        }
        buckets.sort_unstable();
        let buckets = buckets.into();
        Ok((Self { buckets, ..all }, damaged))
    }

    /// The connection.
    pub(super) fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Entries that were delivered to this consumer and not acknowledged.
    pub(super) async fn read_own(&self, consumer: &str) -> RedisResult<Vec<Delivered>> {
        self.read(consumer, "0", false).await
    }

    /// Entries that were never delivered.
    pub(super) async fn read_new(
        &self,
        consumer: &str,
        waits: bool,
    ) -> RedisResult<Vec<Delivered>> {
        self.read(consumer, ">", waits).await
    }

    async fn read(&self, consumer: &str, from: &str, waits: bool) -> RedisResult<Vec<Delivered>> {
        let command = |buckets: &[u16], waits: bool| {
            let mut command = cmd("XREADGROUP");
            command.arg("GROUP").arg(GROUP).arg(consumer);
            command.arg("COUNT").arg(COUNT);
            if waits {
                command.arg("BLOCK").arg(BLOCK_MS);
            }
            command.arg("STREAMS");
            for &bucket in buckets {
                command.arg(stream(bucket));
            }
            for _ in buckets {
                command.arg(from);
            }
            command
        };
        if !self.must_be_polled() {
            let read = self.clone().ask(command(&self.buckets, waits)).await?;
            return reply::read(read);
        }
        let each = |bucket| command(&[bucket], false);
        let mut entries = Vec::new();
        for (_, read) in self.everywhere(each).await {
            entries.extend(reply::read(read?)?);
        }
        Ok(entries)
    }

    /// Takes over what other consumers did not acknowledge for so long.
    pub(super) async fn claim(
        &self,
        consumer: &str,
        after: Duration,
    ) -> RedisResult<Vec<Delivered>> {
        let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        let claim = |bucket| {
            let mut command = cmd("XAUTOCLAIM");
            command.arg(stream(bucket)).arg(GROUP).arg(consumer);
            command.arg(after).arg("0").arg("COUNT").arg(COUNT);
            command
        };
        let mut entries = Vec::new();
        for (bucket, claimed) in self.everywhere(claim).await {
            entries.extend(reply::claimed(bucket, claimed?)?);
        }
        Ok(entries)
    }

    /// Acknowledges and deletes entries, both or neither.
    pub(super) async fn acknowledge(&self, receipt: Vec<(u16, Vec<String>)>) -> RedisResult<()> {
        let mut tasks = JoinSet::new();
        for (bucket, ids) in receipt {
            let name = stream(bucket);
            let mut commands = pipe();
            commands.atomic();
            commands.cmd("XACK").arg(&name).arg(GROUP).arg(&ids);
            commands.cmd("XDEL").arg(&name).arg(&ids);
            tasks.spawn(self.clone().tell(commands));
        }
        while let Some(done) = tasks.join_next().await {
            done.map_err(|error| ended(&error))??;
        }
        Ok(())
    }

    /// Forgets consumers that have nothing pending and were silent for long.
    pub(super) async fn forget_gone(&self, consumer: &str) -> RedisResult<()> {
        let list = |bucket| {
            let mut command = cmd("XINFO");
            command.arg("CONSUMERS").arg(stream(bucket)).arg(GROUP);
            command
        };
        for (bucket, consumers) in self.everywhere(list).await {
            for (name, pending, idle_ms) in reply::consumers(consumers?)? {
                if pending == 0 && idle_ms > GONE_MS && name != consumer {
                    self.clone().ask(delete_consumer(bucket, &name)).await?;
                }
            }
        }
        Ok(())
    }

    /// Forgets this consumer where it has nothing pending.
    pub(super) async fn leave(&self, consumer: &str) -> RedisResult<()> {
        if !self.read_own(consumer).await?.is_empty() {
            return Ok(());
        }
        let delete = |bucket| delete_consumer(bucket, consumer);
        for (_, deleted) in self.everywhere(delete).await {
            deleted?;
        }
        Ok(())
    }

    /// No command waits for entries on all nodes of a cluster.
    pub(super) fn must_be_polled(&self) -> bool {
        self.live.is_cluster()
    }

    async fn ask(self, command: Cmd) -> RedisResult<Value> {
        command.query_async(&mut self.live.connection()).await
    }

    async fn tell(self, commands: Pipeline) -> RedisResult<()> {
        commands.exec_async(&mut self.live.connection()).await
    }

    /// A command for each stream, all in flight together, whichever node has the stream.
    async fn everywhere(&self, command: impl Fn(u16) -> Cmd) -> Vec<(u16, RedisResult<Value>)> {
        let mut tasks = JoinSet::new();
        for &bucket in &*self.buckets {
            let asked = self.clone().ask(command(bucket));
            tasks.spawn(async move { (bucket, asked.await) });
        }
        tasks.join_all().await
    }
}

fn delete_consumer(bucket: u16, name: &str) -> Cmd {
    let mut command = cmd("XGROUP");
    command.arg("DELCONSUMER").arg(stream(bucket));
    command.arg(GROUP).arg(name);
    command
}

fn ended(error: &tokio::task::JoinError) -> redis::RedisError {
    (
        redis::ErrorKind::Client,
        "a command did not end",
        error.to_string(),
    )
        .into()
}
