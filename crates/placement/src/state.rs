//! A worker's state message, as far as placement needs it.

use inferyard_domain::InstanceId;
use inferyard_proto::worker::v1::worker_state::Phase as WirePhase;
use inferyard_proto::worker::v1::{PrefixChange, WorkerState};
use serde::{Deserialize, Serialize};

/// One state message of a worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The worker's instance; a new one voids all earlier knowledge. `None`: not reported.
    pub instance: Option<InstanceId>,
    /// The message's number in its stream, from 1.
    pub sequence: u64,
    /// What the worker is doing.
    pub phase: Phase,
    /// The model that it serves.
    pub model: String,
    /// Answers that can run together; 0: not reported.
    pub max_running: u32,
    /// Requests that can wait in the worker for a place.
    pub max_queued: u32,
    /// Cells of its KV cache; 0: not reported.
    pub kv_tokens: u64,
    /// The longest sequence in tokens; 0: not reported.
    pub context_length: u32,
    /// Tokens that the chat template adds to a conversation; 0: not reported.
    #[serde(default)]
    pub template_tokens: u32,
    /// Answers in the running batch.
    pub running: u32,
    /// Requests that wait in the worker.
    pub queued: u32,
    /// Prompt tokens of waiting requests, still to be computed.
    pub queued_prefill_tokens: u64,
    /// KV cells that are not available for new work.
    pub kv_busy_tokens: u64,
    /// Prompt tokens per second; 0: not measured yet.
    pub prefill_rate: f32,
    /// Tokens per second and sequence; 0: not measured yet.
    pub decode_rate: f32,
    /// Tokens computed since the worker started, prompts and answers.
    pub worked_tokens: u64,
    /// Changes of its cached prefixes.
    pub prefixes: Prefixes,
}

/// What a worker is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not reported.
    #[default]
    Unknown,
    /// It loads the model; progress, 0 to 1.
    Loading(f32),
    /// It takes requests.
    Ready,
    /// It completes running requests and takes no new ones.
    Draining,
    /// It takes requests, but its engine fails them.
    Unhealthy,
}

/// A change of the prefix blocks that a worker holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Prefixes {
    /// Whether all earlier blocks are forgotten first.
    pub reset: bool,
    /// Blocks that it holds now.
    pub added: Vec<u64>,
    /// Blocks that it no longer holds.
    pub removed: Vec<u64>,
}

// === impl State ===

impl From<WorkerState> for State {
    fn from(state: WorkerState) -> Self {
        let phase = state.phase();
        let capacity = state.capacity.unwrap_or_default();
        Self {
            instance: InstanceId::new(state.instance_id),
            sequence: state.sequence,
            phase: Phase::of(phase, state.load_progress),
            model: state.model,
            max_running: capacity.max_running,
            max_queued: capacity.max_queued,
            kv_tokens: capacity.kv_total_tokens,
            context_length: capacity.context_length,
            template_tokens: capacity.template_tokens,
            running: state.running,
            queued: state.queued,
            queued_prefill_tokens: state.queued_prefill_tokens,
            kv_busy_tokens: state.kv_used_tokens.saturating_sub(state.kv_cached_tokens),
            prefill_rate: state.prefill_tokens_per_second,
            decode_rate: state.decode_tokens_per_second,
            worked_tokens: state.worked_tokens_total,
            prefixes: state.prefixes.map(Prefixes::from).unwrap_or_default(),
        }
    }
}

// === impl Phase ===

impl Phase {
    fn of(phase: WirePhase, progress: f32) -> Self {
        match phase {
            WirePhase::Unspecified => Self::Unknown,
            WirePhase::Loading => Self::Loading(progress),
            WirePhase::Ready => Self::Ready,
            WirePhase::Draining => Self::Draining,
            WirePhase::Unhealthy => Self::Unhealthy,
        }
    }
}

// === impl Prefixes ===

impl From<PrefixChange> for Prefixes {
    fn from(change: PrefixChange) -> Self {
        Self {
            reset: change.reset,
            added: change.added,
            removed: change.removed,
        }
    }
}
