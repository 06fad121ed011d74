//! What a worker is doing, can do, and has done, at one moment.

use crate::event::FailureKind;

/// What the worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Reading the model.
    Loading,
    /// Serving.
    Ready,
    /// Takes requests, but the engine fails them.
    Unhealthy,
    /// Finishing what runs.
    Draining,
}

/// What the worker can do at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Sequences that run together.
    pub max_running: u32,
    /// Requests that wait.
    pub max_queued: u32,
    /// KV cells.
    pub kv_total_tokens: u64,
    /// Tokens of one sequence.
    pub context_length: u32,
    /// Tokens that the chat template adds to a conversation; 0: not known.
    pub template_tokens: u32,
}

/// What the engine is busy with.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Sequences in the running batch.
    pub running: usize,
    /// Requests that were admitted and have not ended, including preempted ones.
    pub open: usize,
    /// Preempted requests, which wait to be scheduled again.
    pub preempted: usize,
    /// Prompt tokens that the running and the preempted ones still need.
    pub prefill_tokens: u64,
    /// KV cells in use.
    pub kv_used: u64,
    /// KV cells that only cached prefixes use.
    pub kv_cached: u64,
    /// Prompt tokens per second.
    pub prefill_rate: f32,
    /// Tokens per second and sequence.
    pub decode_rate: f32,
    /// Tokens computed since the start.
    pub worked: u64,
}

/// How a request ended, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// All choices are complete.
    Finished,
    /// The client disconnected.
    Disconnected,
    /// It failed.
    Failed(FailureKind),
}

/// Tokens of the requests that have ended since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Tokens of prompts.
    pub prompt: u64,
    /// How many of them came from the KV cache.
    pub cached: u64,
    /// Tokens produced.
    pub completion: u64,
    /// Prompt tokens of requests whose reader left.
    pub dropped_prompt: u64,
    /// Produced tokens of requests whose reader left.
    pub dropped_completion: u64,
}

/// A moment of a worker, all but its prefixes.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What it is doing.
    pub phase: Phase,
    /// How far loading is, 0 to 1.
    pub load_progress: f32,
    /// Why it does not serve, or what is special about it, for people; empty: there is nothing to
    /// say.
    pub note: String,
    /// What it can do.
    pub capacity: Capacity,
    /// What it is busy with.
    pub load: Load,
    /// Tokens computed within the last minute.
    pub worked_last_minute: u64,
    /// Requests in the queue.
    pub queued: usize,
    /// Their prompt tokens.
    pub queued_tokens: u64,
    /// What was done since the start.
    pub totals: Totals,
}
