//! `inferyard-bench limits`: the cost of a limit decision in Redis, compared with an empty script, and the
//! latency that limits add to an answer.
//!
//! The scripts are the router's own files. Their first comments describe their arguments.

mod calls;
mod instant;
mod latency;
mod redis;
mod table;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use self::calls::{Call, Calls};
use self::latency::{Bed, Latency};

pub(crate) use self::latency::LIMITED;
pub(crate) use self::redis::Redis;

/// Options of `inferyard-bench limits`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Number of rounds.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Number of concurrent requests.
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Seconds under full load.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// The core of Redis and of the routers.
    #[arg(long, default_value_t = 1)]
    redis_core: usize,
}

/// All results.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) redis: String,
    pub(crate) in_flight: usize,
    pub(crate) rows: Vec<Row>,
    /// Requests per second that one core of Redis admits and settles.
    pub(crate) requests_per_second: Vec<f64>,
    pub(crate) latency: Vec<Latency>,
}

/// One script; times per round, in microseconds of server time per call.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) call: &'static str,
    /// Number of round trips to Redis.
    pub(crate) round_trips: u32,
    pub(crate) server: Vec<f64>,
    /// An empty script with the same keys and arguments.
    pub(crate) empty: Vec<f64>,
}

/// Batches per round: enough that the microseconds of a call are not lost in rounding.
const BATCHES: usize = 30;

/// Measures everything; returns the report and its tables.
pub(crate) async fn measure(binary: &Path, arguments: &Arguments) -> Result<(Report, String)> {
    let mut redis = Redis::start(arguments.redis_core).await?;
    let calls = Calls::load(&mut redis)?;
    let mut rows = Call::ALL.map(|call| Row {
        call: call.name(),
        round_trips: 1,
        server: Vec::new(),
        empty: Vec::new(),
    });
    round(&mut redis, &calls, arguments.in_flight)?;
    for number in 1..=arguments.rounds {
        eprintln!("round {number} of {}", arguments.rounds);
        let times = round(&mut redis, &calls, arguments.in_flight)?;
        for (row, (server, empty)) in rows.iter_mut().zip(times) {
            row.server.push(server);
            row.empty.push(empty);
        }
    }
    let mut requests_per_second = Vec::new();
    for _ in 0..3 {
        let time = Duration::from_secs(arguments.seconds);
        requests_per_second.push(load(&mut redis, &calls, arguments.in_flight, time)?);
    }
    let latency = latency(binary, arguments).await?;
    let report = Report {
        redis: redis.version()?,
        in_flight: arguments.in_flight,
        rows: rows.into(),
        requests_per_second,
        latency,
    };
    redis.end().await?;
    let table = table::markdown(&report);
    Ok((report, table))
}

/// Latency with one request at a time, and with many.
async fn latency(binary: &Path, arguments: &Arguments) -> Result<Vec<Latency>> {
    let bed = Bed::start(binary, arguments.redis_core).await?;
    let mut all = [1, 16].map(|in_flight| Latency {
        in_flight,
        ..Latency::default()
    });
    for number in 1..=arguments.rounds {
        eprintln!("latency, round {number} of {}", arguments.rounds);
        for latency in &mut all {
            bed.round(latency).await?;
        }
    }
    bed.end().await?;
    Ok(all.into())
}

/// Runs every script and its empty counterpart alternately, so that a slowdown of the machine affects both.
/// Requests are admitted, report progress and end, as in normal operation.
fn round(redis: &mut Redis, calls: &Calls, in_flight: usize) -> Result<[(f64, f64); 4]> {
    let mut times = [(0.0, 0.0); Call::ALL.len()];
    for _ in 0..BATCHES {
        let ids = calls::ids(in_flight)?;
        for (time, call) in times.iter_mut().zip(Call::ALL) {
            for (sum, is_empty) in [(&mut time.1, true), (&mut time.0, false)] {
                let batch = calls.batch(call, is_empty, &ids);
                redis.reset()?;
                redis.send_all(&batch, ids.len())?;
                *sum += redis.microseconds_per_script()?;
            }
        }
        redis.trim(calls::OUTBOX)?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a constant")]
    let batches = BATCHES as f64;
    Ok(times.map(|(server, empty)| (server / batches, empty / batches)))
}

/// Requests per second that are admitted and settled, with `in_flight` of them pipelined on one connection.
fn load(redis: &mut Redis, calls: &Calls, in_flight: usize, time: Duration) -> Result<f64> {
    let mut batches = Vec::new();
    for _ in 0..200 {
        let ids = calls::ids(in_flight)?;
        let admit = calls.batch(Call::Admit, false, &ids);
        batches.push((admit, calls.batch(Call::Settle, false, &ids)));
    }
    let start = Instant::now();
    let mut requests = 0_u32;
    // The ids repeat, so the records of settled ones are deleted in between.
    while start.elapsed() < time {
        for (admit, settle) in &batches {
            redis.send_all(admit, in_flight)?;
            redis.send_all(settle, in_flight)?;
            requests += u32::try_from(in_flight).context("fewer requests should be in flight")?;
        }
        redis.trim(calls::OUTBOX)?;
        redis.trim(calls::SETTLED)?;
    }
    Ok(f64::from(requests) / start.elapsed().as_secs_f64())
}
