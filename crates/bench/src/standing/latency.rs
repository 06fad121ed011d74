//! The latency that a router adds at half of its maximum load.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::peers::contestant::Contestant;
use crate::peers::drive;
use crate::peers::engines::Engines;
use crate::peers::work::Work;

/// Number of clients. Each sends one request after the other, at times that do not depend on the answers.
const CLIENTS: u32 = 8;

/// Results in milliseconds: medians of p50 and p99 over all repetitions.
#[derive(Debug, Serialize)]
pub(crate) struct Latency {
    /// Requests per second.
    pub(crate) rate: f64,
    pub(crate) direct_ms: (f64, f64),
    pub(crate) added_ms: (f64, f64),
}

/// p50 and p99 in milliseconds.
type Quantiles = (f64, f64);

/// Measures requests to the engines directly and through the router, alternately.
pub(crate) async fn added(
    router: &Contestant,
    engines: &Engines,
    repetitions: usize,
    length: Duration,
) -> Result<Latency> {
    let full = drive::measure(router, Work::Short, length).await?;
    let rate = full.requests_per_second / 2.0;
    let through = vec![(router.address.clone(), router.key.clone())];
    let direct = engines.http.iter();
    let direct: Vec<_> = direct.map(|at| (at.clone(), "none".to_owned())).collect();
    let mut measured = Vec::new();
    for _ in 0..repetitions {
        let (direct, through) = (direct.clone(), through.clone());
        let once = tokio::task::spawn_blocking(move || {
            let direct = quantiles(&direct, rate, length)?;
            let through = quantiles(&through, rate, length)?;
            anyhow::Ok((direct, through))
        });
        measured.push(once.await??);
    }
    let median = |of: fn(&(Quantiles, Quantiles)) -> f64| {
        let mut values: Vec<f64> = measured.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Ok(Latency {
        rate,
        direct_ms: (median(|m| m.0.0), median(|m| m.0.1)),
        added_ms: (median(|m| m.1.0 - m.0.0), median(|m| m.1.1 - m.0.1)),
    })
}

/// The quantiles of requests at this rate.
fn quantiles(targets: &[(String, String)], rate: f64, length: Duration) -> Result<Quantiles> {
    let each = rate / f64::from(CLIENTS);
    let clients: Vec<_> = (0..CLIENTS)
        .zip(targets.iter().cycle())
        .map(|(number, (address, key))| {
            let request = Work::Short.request(address, key);
            let address = address.clone();
            thread::spawn(move || client(&address, &request, each, length, u64::from(number)))
        })
        .collect();
    let mut all = Vec::new();
    for client in clients {
        all.extend(client.join().ok().context("a client broke")??);
    }
    all.sort_by(f64::total_cmp);
    ensure!(all.len() >= 100, "too few answers: {}", all.len());
    Ok((all[all.len() / 2], all[all.len() * 99 / 100]))
}

/// Milliseconds of each request, from its first byte to the end of its answer.
#[expect(
    clippy::disallowed_methods,
    reason = "the load's own clock, finer than a runtime's"
)]
fn client(
    address: &str,
    request: &[u8],
    rate: f64,
    length: Duration,
    seed: u64,
) -> Result<Vec<f64>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let (begun, mut at) = (Instant::now(), Duration::ZERO);
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut buffer = [0; 16 << 10];
    let mut all = Vec::new();
    while at < length {
        thread::sleep(at.saturating_sub(begun.elapsed()));
        let sent = Instant::now();
        stream.write_all(request)?;
        read(&mut stream, &mut buffer)?;
        all.push(sent.elapsed().as_secs_f64() * 1e3);
        at += Duration::from_secs_f64(pause(&mut random) / rate);
    }
    Ok(all)
}

/// An exponentially distributed pause with mean 1, as between requests of many independent clients.
#[expect(clippy::cast_precision_loss, reason = "any random number does")]
fn pause(random: &mut u64) -> f64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let uniform = (*random >> 11) as f64 / (1_u64 << 53) as f64;
    -(1.0 - uniform).ln()
}

/// Reads a short answer to its end.
fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    let mut there = 0;
    loop {
        let read = stream.read(&mut buffer[there..])?;
        ensure!(read > 0, "the connection was closed in the answer");
        there += read;
        let text = std::str::from_utf8(&buffer[..there])?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        ensure!(head.starts_with("HTTP/1.1 200"), "it answered {head}");
        let whole = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_it = name.eq_ignore_ascii_case("content-length");
            is_it.then(|| value.trim().parse::<usize>().ok())?
        });
        match whole {
            Some(length) if body.len() >= length => return Ok(()),
            None if body.ends_with("0\r\n\r\n") => return Ok(()),
            _ => {}
        }
    }
}
