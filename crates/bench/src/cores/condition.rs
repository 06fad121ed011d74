//! The load on the cores while an engine is measured, and its CPU quota.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::Serialize;
use tokio::process::Command;

/// Folders of the cpu controller in cgroup version 1 and version 2.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup"];
/// Period of the quota in µs. Half a core is half of each period.
const PERIOD_US: u32 = 100_000;

/// The load on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Condition {
    /// No other load.
    Quiet,
    /// Every core runs another thread that never sleeps.
    Burnt,
    /// The engine's cgroup is limited to half a core.
    Half,
}

/// A condition that lasts until this is dropped.
#[derive(Default)]
pub(super) struct Ground {
    burners: Vec<JoinHandle<()>>,
    over: Arc<AtomicBool>,
    group: Option<PathBuf>,
}

// === impl Condition ===

impl Condition {
    /// The heading of its column.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Burnt => "every core burnt",
            Self::Half => "half a core by cgroup",
        }
    }

    /// Starts the burners, or creates the cgroup.
    pub(super) fn make(self) -> Result<Ground> {
        let mut ground = Ground::default();
        match self {
            Self::Quiet => {}
            Self::Burnt => {
                let cores = std::thread::available_parallelism()?.get();
                let burner = |_| {
                    let over = Arc::clone(&ground.over);
                    std::thread::spawn(move || while !over.load(Ordering::Relaxed) {})
                };
                ground.burners = (0..cores).map(burner).collect();
            }
            Self::Half => ground.group = Some(half_a_core()?),
        }
        Ok(ground)
    }
}

/// Creates a cgroup with a quota of half a core, which requires root.
fn half_a_core() -> Result<PathBuf> {
    let half = PERIOD_US / 2;
    for root in ROOTS.map(Path::new) {
        let group = root.join("inferyard-bench");
        if fs::create_dir_all(&group).is_err() {
            continue;
        }
        let limited = fs::write(group.join("cpu.cfs_period_us"), PERIOD_US.to_string())
            .and_then(|()| fs::write(group.join("cpu.cfs_quota_us"), half.to_string()))
            .or_else(|_| fs::write(group.join("cpu.max"), format!("{half} {PERIOD_US}")));
        match limited {
            Ok(()) => return Ok(group),
            Err(_) => drop(fs::remove_dir(&group)),
        }
    }
    bail!("there is no cpu controller of control groups that this user can write")
}

// === impl Ground ===

impl Ground {
    /// Number of cores that an engine may use, rounded up.
    pub(super) fn cores(&self) -> usize {
        if self.group.is_some() {
            return 1;
        }
        std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
    }

    /// A command that runs in this condition.
    pub(super) fn command(&self, program: &Path) -> Result<Command> {
        let Some(group) = &self.group else {
            return Ok(Command::new(program));
        };
        // The shell joins the cgroup before it executes the program, so that the program sees its quota from
        // the start.
        let mut command = Command::new("sh");
        let procs = group.join("cgroup.procs");
        let procs = procs.to_str().context("the group's path should be UTF-8")?;
        command.args(["-c", r#"echo $$ > "$0" && exec "$@""#, procs]);
        command.arg(program);
        Ok(command)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for burner in self.burners.drain(..) {
            let _ = burner.join();
        }
        if let Some(group) = &self.group {
            let _ = fs::remove_dir(group);
        }
    }
}
