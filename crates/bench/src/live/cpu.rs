//! Processor use during a run.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::peers::contestant::Contestant;
use crate::peers::engines::Engines;
use crate::process;
use crate::traces::outcome::share;

/// Processor time of each kind of process, divided by wall time: 1 is a whole core.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Cpu {
    pub(crate) routers: f64,
    pub(crate) workers: f64,
    pub(crate) load: f64,
    /// Idle share of the machine; other processes count as use.
    pub(crate) idle: f64,
}

/// Counters of the kernel at one moment.
pub(super) struct Meter {
    at: Instant,
    routers: Duration,
    workers: Duration,
    load: Duration,
    ticks: Ticks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    idle: u64,
    all: u64,
}

// === impl Meter ===

impl Meter {
    pub(super) fn read(engines: &Engines, routers: &[Contestant]) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            routers: routers
                .iter()
                .map(Contestant::cpu)
                .sum::<Result<Duration>>()?,
            workers: engines.cpu()?,
            load: process::cpu(std::process::id())?,
            ticks: Ticks::read(&std::fs::read_to_string("/proc/stat")?)?,
        })
    }

    /// The use between two readings.
    pub(super) fn since(&self, before: &Self) -> Cpu {
        let wall = self.at.saturating_duration_since(before.at).as_secs_f64();
        let cores = |now: Duration, before| now.saturating_sub(before).as_secs_f64() / wall;
        let idle = self.ticks.idle.saturating_sub(before.ticks.idle);
        let all = self.ticks.all.saturating_sub(before.ticks.all);
        Cpu {
            routers: cores(self.routers, before.routers),
            workers: cores(self.workers, before.workers),
            load: cores(self.load, before.load),
            idle: share(idle, all),
        }
    }
}

// === impl Ticks ===

impl Ticks {
    /// Parses the first line: user, nice, system, idle, iowait, irq, softirq, steal. Guest time is part of
    /// user.
    fn read(stat: &str) -> Result<Self> {
        let fields = stat.lines().next().unwrap_or_default().split_whitespace();
        let fields: Vec<u64> = fields
            .skip(1)
            .take(8)
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let idle = fields.get(3..5).context("no idle time in /proc/stat")?;
        Ok(Self {
            idle: idle.iter().sum(),
            all: fields.iter().sum(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_is_waiting_too() {
        let ticks = Ticks::read("cpu  1 2 3 40 5 6 7 8 1 1\ncpu0 1 2\n").unwrap();
        assert_eq!(ticks, Ticks { idle: 45, all: 72 });
        assert!(Ticks::read("cpu 1 2\n").is_err());
    }
}
