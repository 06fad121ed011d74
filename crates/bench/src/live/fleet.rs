//! The processes of one run: simulated workers, and routers in front of them.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use inferyard_engine_simulated::Settings;

use super::cpu::Meter;
use super::{Live, Row, play};
use crate::grpc::Grpc;
use crate::peers::contestant::{Contestant, Peer, Place};
use crate::peers::engines::Engines;
use crate::traces::outcome::{Outcome, Tally, quantile};
use crate::traces::trace::Request;

/// Extra time after a router's first answer, because it may not have found all workers yet.
const FIND_ALL: Duration = Duration::from_secs(2);

/// A fleet that is started again for each run.
pub(super) struct Fleet<'a> {
    pub(super) binary: &'a Path,
    pub(super) venv: &'a Path,
    pub(super) workers: usize,
    /// How many times faster than the GPU the workers are.
    pub(super) faster: u32,
    pub(super) gpu: Settings,
}

// === impl Fleet ===

impl Fleet<'_> {
    /// Plays a trace over new workers and this number of new routers of one kind. `speed` is the speed of the
    /// trace before everything is accelerated by `faster`.
    pub(super) async fn play(
        &self,
        trace: &[Request],
        peer: Peer,
        routers: usize,
        speed: f64,
    ) -> Result<Row> {
        let engines = Engines::start(self.binary, None, self.workers, &self.flags()).await?;
        let place = Place {
            binary: self.binary,
            before: None,
            venv: self.venv,
            engines: &engines,
            router_core: None,
            load_core: 0,
        };
        let mut contestants = Vec::with_capacity(routers);
        for _ in 0..routers {
            contestants.push(peer.start(&place).await?);
        }
        tokio::time::sleep(FIND_ALL).await;
        let row = self.run(trace, &engines, &contestants, speed).await;
        for contestant in contestants {
            contestant.end().await?;
        }
        engines.end().await?;
        let (outcome, live) = row?;
        Ok(Row::new(name(peer), routers, &outcome, Some(live)))
    }

    async fn run(
        &self,
        trace: &[Request],
        engines: &Engines,
        routers: &[Contestant],
        speed: f64,
    ) -> Result<(Outcome, Live)> {
        let worked_before = worked(engines).await?;
        let before = Meter::read(engines, routers)?;
        let mut answers = play::play(trace, routers, speed * f64::from(self.faster)).await?;
        let cpu = Meter::read(engines, routers)?.since(&before);
        let mut tally = Tally::new(self.workers);
        tally.worked = worked(engines).await?;
        for (worked, before) in tally.worked.iter_mut().zip(worked_before) {
            *worked -= before;
        }
        (tally.prompt, tally.cached) = (answers.prompt, answers.cached);
        tally.first_tokens = answers.first_tokens;
        for time in &mut tally.first_tokens {
            *time *= self.faster;
        }
        answers.late.sort_unstable();
        let late = [0.5, 0.95, 0.99].map(|share| quantile(&answers.late, share).as_secs_f64());
        let live = Live {
            failures: answers.failures.into_iter().collect(),
            late,
            cpu,
        };
        Ok((tally.outcome(), live))
    }

    /// The GPU's settings as flags of a worker.
    fn flags(&self) -> Vec<String> {
        let (gpu, faster) = (&self.gpu, self.faster);
        let us = |time: Duration| format!("{}us", (time / faster).as_micros());
        let prefill = gpu.prefill_tokens_per_second * f64::from(faster);
        let flags = [
            ("--simulated-prefill", format!("{prefill:.0}")),
            ("--simulated-step", us(gpu.step)),
            ("--simulated-step-per-sequence", us(gpu.step_per_sequence)),
            ("--simulated-batch-tokens", gpu.batch_tokens.to_string()),
            ("--kv-tokens", gpu.kv_tokens.to_string()),
            ("--max-running", gpu.max_running.to_string()),
            ("--max-queued", "1024".to_owned()),
        ];
        let flags = flags.into_iter();
        flags
            .flat_map(|(flag, value)| [flag.to_owned(), value])
            .collect()
    }
}

/// Tokens that each worker has computed and produced so far.
async fn worked(engines: &Engines) -> Result<Vec<u64>> {
    let mut all = Vec::with_capacity(engines.grpc.len());
    for address in &engines.grpc {
        all.push(Grpc::connect(address).await?.worked().await?);
    }
    Ok(all)
}

/// Names by the algorithm that selects workers, which is what this benchmark compares.
fn name(peer: Peer) -> &'static str {
    match peer {
        Peer::Inferyard => "Inferyard",
        Peer::Haproxy | Peer::HaproxyDelay => "HAProxy round robin",
        Peer::Nginx => "nginx round robin",
        peer => peer.name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faster_workers_take_less_time_for_everything() {
        let fleet = Fleet {
            binary: Path::new("b"),
            venv: Path::new("v"),
            workers: 1,
            faster: 5,
            gpu: Settings::default(),
        };
        let flags = fleet.flags().join(" ");
        let expected = "--simulated-prefill 100000 --simulated-step 1600us --simulated-step-per-sequence 10us ";
        assert!(flags.starts_with(expected), "{flags}");
    }
}
