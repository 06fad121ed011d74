//! One simulated worker: the engine's timing model, and the state that it reports.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use inferyard_engine::rates::Rates;
use inferyard_engine_simulated::{Block, Gpu, Job, Report, Settings};
use inferyard_placement::Moment;
use inferyard_proto::worker::v1::worker_state::Phase;
use inferyard_proto::worker::v1::{Capacity, PrefixChange, WorkerState};

use super::policy::MODEL;
use super::trace::{BLOCK_TOKENS, Request};

/// A worker.
pub(crate) struct Machine {
    gpu: Gpu,
    settings: Settings,
    report: Report,
    /// Length of the running step.
    step: Option<Duration>,
    rates: Rates,
    open: HashMap<u64, Counts>,
    sequence: u64,
    changes: PrefixChange,
    worked: u64,
    /// Requests that got their first token in the last step.
    pub(crate) begun: Vec<u64>,
    /// Requests that ended in the last step.
    pub(crate) finished: Vec<End>,
    /// A state message is scheduled.
    pub(crate) speaks: bool,
    /// When the last state message was sent.
    pub(crate) spoke: Moment,
}

/// The usage of a request.
pub(crate) struct End {
    pub(crate) id: u64,
    pub(crate) prompt: u64,
    pub(crate) cached: u64,
    pub(crate) produced: u64,
}

#[derive(Default)]
struct Counts {
    prompt: u64,
    cached: u64,
    produced: u64,
}

// === impl Machine ===

impl Machine {
    pub(crate) fn new(settings: Settings) -> Result<Self> {
        Ok(Self {
            gpu: Gpu::new(settings)?,
            settings,
            report: Report::default(),
            step: None,
            rates: Rates::default(),
            open: HashMap::new(),
            sequence: 0,
            changes: PrefixChange {
                reset: true,
                ..PrefixChange::default()
            },
            worked: 0,
            begun: Vec::new(),
            finished: Vec::new(),
            speaks: false,
            spoke: Duration::ZERO,
        })
    }

    pub(crate) fn submit(&mut self, id: u64, request: &Request) -> Result<()> {
        let block = |hash: &u64| Block {
            hash: *hash,
            tokens: BLOCK_TOKENS,
        };
        self.gpu.submit(Job {
            id,
            priority: 0,
            blocks: request.blocks.iter().map(block).collect(),
            prompt_tokens: request.prompt_tokens,
            answer_tokens: request.answer_tokens,
        })?;
        let counts = Counts {
            prompt: request.prompt_tokens.into(),
            ..Counts::default()
        };
        self.open.insert(id, counts);
        Ok(())
    }

    /// Begins a step, unless one is running or there is no work; returns its length.
    pub(crate) fn begin(&mut self) -> Option<Duration> {
        if self.step.is_some() {
            return None;
        }
        let length = self.gpu.begin_step()?;
        self.step = Some(length);
        Some(length)
    }

    /// Ends the step; `begun` and `finished` then list the affected requests.
    pub(crate) fn end(&mut self) {
        let prompts = self.gpu.step_prefill_tokens() as usize;
        let took = self.step.take().unwrap_or_default();
        self.rates.stepped(prompts, self.gpu.step_decodes(), took);
        self.gpu.end_step(&mut self.report);
        self.begun.clear();
        self.finished.clear();
        for (id, cached) in self.report.admitted.drain(..) {
            if let Some(counts) = self.open.get_mut(&id) {
                counts.cached = cached.into();
            }
        }
        for id in self.report.produced.drain(..) {
            if let Some(counts) = self.open.get_mut(&id) {
                if counts.produced == 0 {
                    self.begun.push(id);
                    self.worked += counts.prompt - counts.cached;
                }
                counts.produced += 1;
                self.worked += 1;
            }
        }
        for id in self.report.finished.drain(..) {
            if let Some(counts) = self.open.remove(&id) {
                self.finished.push(End {
                    id,
                    prompt: counts.prompt,
                    cached: counts.cached,
                    produced: counts.produced,
                });
            }
        }
        self.changes.added.append(&mut self.report.added);
        self.changes.removed.append(&mut self.report.removed);
    }

    /// The state message, with the prefixes that changed since the last one.
    pub(crate) fn state(&mut self) -> WorkerState {
        self.sequence += 1;
        let running = u32::try_from(self.gpu.running()).unwrap_or(u32::MAX);
        let mut changes = std::mem::take(&mut self.changes);
        last_word(&mut changes);
        WorkerState {
            instance_id: 1,
            sequence: self.sequence,
            phase: Phase::Ready.into(),
            load_progress: 1.0,
            model: MODEL.to_owned(),
            capacity: Some(Capacity {
                max_running: u32::try_from(self.settings.max_running).unwrap_or(u32::MAX),
                max_queued: 1024,
                kv_total_tokens: self.settings.kv_tokens,
                context_length: 1 << 20,
                template_tokens: 0,
            }),
            running,
            queued: u32::try_from(self.gpu.queued()).unwrap_or(u32::MAX),
            queued_prefill_tokens: self.gpu.queued_prefill_tokens(),
            kv_used_tokens: self.gpu.kv_used(),
            kv_cached_tokens: self.gpu.kv_cached(),
            prefill_tokens_per_second: self.rates.prefill(),
            decode_tokens_per_second: self.rates.decode(),
            prefixes: Some(changes),
            worked_tokens_total: self.worked,
            ..WorkerState::default()
        }
    }
}

/// Cancels out changes of a block that was added and removed, or removed and added, between two messages.
fn last_word(changes: &mut PrefixChange) {
    if changes.added.is_empty() || changes.removed.is_empty() {
        return;
    }
    let mut net: HashMap<u64, i32> = HashMap::new();
    for block in changes.added.drain(..) {
        *net.entry(block).or_default() += 1;
    }
    for block in changes.removed.drain(..) {
        *net.entry(block).or_default() -= 1;
    }
    for (block, net) in net {
        match net {
            1.. => changes.added.push(block),
            ..=-1 => changes.removed.push(block),
            0 => {}
        }
    }
}
