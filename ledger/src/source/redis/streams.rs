//! What a consumer does with the streams of the outbox.

use std::time::Duration;

use inferyard_proto::outbox::{BUCKETS, GROUP, stream};
use inferyard_redis_link::Connection;
use redis::{Cmd, Pipeline, RedisResult, Value, cmd, pipe};
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
pub(super) struct Streams(pub(super) Connection);

// === impl Streams ===

impl Streams {
    /// Makes the consumer group of every stream, and the streams.
    pub(super) async fn create_groups(&self) -> RedisResult<()> {
        let create = |bucket| {
            let mut command = cmd("XGROUP");
            command.arg("CREATE").arg(stream(bucket)).arg(GROUP);
            command.arg("0").arg("MKSTREAM");
            command
        };
        for (_, created) in self.everywhere(0..BUCKETS, create).await {
            match created {
                Err(error) if error.code() == Some("BUSYGROUP") => {}
                created => drop(created?),
            }
        }
        Ok(())
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
        let command = |buckets: std::ops::Range<u16>, waits: bool| {
            let mut command = cmd("XREADGROUP");
            command.arg("GROUP").arg(GROUP).arg(consumer);
            command.arg("COUNT").arg(COUNT);
            if waits {
                command.arg("BLOCK").arg(BLOCK_MS);
            }
            command.arg("STREAMS");
            for bucket in buckets.clone() {
                command.arg(stream(bucket));
            }
            for _ in buckets {
                command.arg(from);
            }
            command
        };
        if !self.must_be_polled() {
            let read = self.clone().ask(command(0..BUCKETS, waits)).await?;
            return reply::read(read);
        }
        let each = |bucket| command(bucket..bucket + 1, false);
        let mut entries = Vec::new();
        for (_, read) in self.everywhere(0..BUCKETS, each).await {
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
        for (bucket, claimed) in self.everywhere(0..BUCKETS, claim).await {
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
        for (bucket, consumers) in self.everywhere(0..BUCKETS, list).await {
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
        for (_, deleted) in self.everywhere(0..BUCKETS, delete).await {
            deleted?;
        }
        Ok(())
    }

    /// No command waits for entries on all nodes of a cluster.
    pub(super) fn must_be_polled(&self) -> bool {
        self.0.is_cluster()
    }

    async fn ask(mut self, command: Cmd) -> RedisResult<Value> {
        command.query_async(&mut self.0).await
    }

    async fn tell(mut self, commands: Pipeline) -> RedisResult<()> {
        commands.exec_async(&mut self.0).await
    }

    /// A command for each stream, all in flight together, whichever node has the stream.
    async fn everywhere(
        &self,
        buckets: impl Iterator<Item = u16>,
        command: impl Fn(u16) -> Cmd,
    ) -> Vec<(u16, RedisResult<Value>)> {
        let mut tasks = JoinSet::new();
        for bucket in buckets {
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
