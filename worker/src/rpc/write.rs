//! Events and states become wire messages.

use inferyard_engine::event::{
    Delta, Event, Failure, FailureKind, FinishReason, TokenLogprob, TokenProbability, Usage,
};
use inferyard_engine::state::{Capacity, Phase, PrefixNews, Snapshot, State};
use inferyard_proto::worker::v1 as wire;

use wire::generate_event::Event as WireEvent;
use wire::worker_state::Phase as WirePhase;

/// One event.
pub(super) fn event(event: Event) -> wire::GenerateEvent {
    let event = match event {
        Event::Admitted {
            prompt_tokens,
            cached_tokens,
        } => WireEvent::Admitted(wire::Admitted {
            prompt_tokens,
            cached_tokens,
        }),
        Event::Delta(delta) => WireEvent::Delta(self::delta(delta)),
        Event::ChoiceFinished { choice, reason } => {
            WireEvent::ChoiceFinished(wire::ChoiceFinished {
                choice,
                reason: finish_reason(reason).into(),
            })
        }
        Event::Finished(usage) => WireEvent::Finished(wire::Finished {
            usage: Some(self::usage(usage)),
        }),
        Event::Failed(failure) => WireEvent::Failed(failed(failure)),
    };
    wire::GenerateEvent { event: Some(event) }
}

/// One message of a `Watch` stream.
pub(super) fn state(
    state: &State,
    sequence: u64,
    snapshot: &Snapshot,
    prefixes: PrefixNews,
) -> wire::WorkerState {
    let load = &snapshot.load;
    let waiting = snapshot.queued + load.preempted;
    wire::WorkerState {
        instance_id: state.instance_id(),
        sequence,
        phase: phase(snapshot.phase).into(),
        load_progress: snapshot.load_progress,
        model: state.model().to_owned(),
        capacity: Some(capacity(snapshot.capacity)),
        running: u32::try_from(load.running).unwrap_or(u32::MAX),
        queued: u32::try_from(waiting).unwrap_or(u32::MAX),
        queued_prefill_tokens: snapshot.queued_tokens + load.prefill_tokens,
        kv_used_tokens: load.kv_used,
        kv_cached_tokens: load.kv_cached,
        prefill_tokens_per_second: load.prefill_rate,
        decode_tokens_per_second: load.decode_rate,
        adapters: Vec::new(),
        prefixes: Some(wire::PrefixChange {
            reset: prefixes.reset,
            added: prefixes.added,
            removed: prefixes.removed,
        }),
        prompt_tokens_total: snapshot.totals.prompt,
        cached_tokens_total: snapshot.totals.cached,
        completion_tokens_total: snapshot.totals.completion,
        open_requests: u32::try_from(load.open).unwrap_or(u32::MAX),
        dropped_prompt_tokens_total: snapshot.totals.dropped_prompt,
        dropped_completion_tokens_total: snapshot.totals.dropped_completion,
        worked_tokens_total: load.worked,
        note: snapshot.note.clone(),
        fetch: None,
        worked_tokens_last_minute: snapshot.worked_last_minute,
    }
}

fn delta(delta: Delta) -> wire::Delta {
    wire::Delta {
        choice: delta.choice,
        content: delta.content,
        reasoning: delta.reasoning,
        tool_calls: delta
            .tool_calls
            .into_iter()
            .map(|call| wire::ToolCallDelta {
                index: call.index,
                id: call.id,
                name: call.name,
                arguments: call.arguments,
            })
            .collect(),
        logprobs: delta.logprobs.into_iter().map(logprob).collect(),
        token_count: u32::try_from(delta.token_ids.len())
            .unwrap_or(u32::MAX)
            .saturating_add(delta.tokens_without_ids),
        token_ids: delta.token_ids,
    }
}

fn logprob(logprob: TokenLogprob) -> wire::TokenLogprob {
    wire::TokenLogprob {
        token: Some(probability(logprob.token)),
        top: logprob.top.into_iter().map(probability).collect(),
    }
}

fn probability(token: TokenProbability) -> wire::TokenProbability {
    wire::TokenProbability {
        text: String::from_utf8_lossy(&token.bytes).into_owned(),
        bytes: token.bytes.into(),
        logprob: token.logprob,
    }
}

fn failed(failure: Failure) -> wire::Failed {
    wire::Failed {
        kind: kind(failure.kind).into(),
        message: failure.message,
        param: failure.param.unwrap_or_default().into_owned(),
        usage: Some(usage(failure.usage)),
        prompt_tokens: failure.prompt_tokens,
    }
}

fn usage(usage: Usage) -> wire::Usage {
    wire::Usage {
        prompt_tokens: usage.prompt_tokens,
        cached_tokens: usage.cached_tokens,
        completion_tokens: usage.completion_tokens,
        reasoning_tokens: usage.reasoning_tokens,
    }
}

fn finish_reason(reason: FinishReason) -> wire::FinishReason {
    match reason {
        FinishReason::Stop => wire::FinishReason::Stop,
        FinishReason::Length => wire::FinishReason::Length,
        FinishReason::ToolCalls => wire::FinishReason::ToolCalls,
        FinishReason::ContentFilter => wire::FinishReason::ContentFilter,
    }
}

fn kind(kind: FailureKind) -> wire::failed::Kind {
    use wire::failed::Kind;
    match kind {
        FailureKind::InvalidRequest => Kind::InvalidRequest,
        FailureKind::ContextLengthExceeded => Kind::ContextLengthExceeded,
        FailureKind::Overloaded => Kind::Overloaded,
        FailureKind::Loading => Kind::Loading,
        FailureKind::Draining => Kind::Draining,
        FailureKind::DeadlineExceeded => Kind::DeadlineExceeded,
        FailureKind::SlowReader => Kind::SlowReader,
        FailureKind::Internal => Kind::Internal,
        FailureKind::UnknownModel => Kind::UnknownModel,
        FailureKind::Cancelled => Kind::Cancelled,
        FailureKind::PromptTooExpensive => Kind::PromptTooExpensive,
        FailureKind::EngineCrashed => Kind::EngineCrashed,
    }
}

fn phase(phase: Phase) -> WirePhase {
    match phase {
        Phase::Loading => WirePhase::Loading,
        Phase::Ready => WirePhase::Ready,
        Phase::Unhealthy => WirePhase::Unhealthy,
        Phase::Draining => WirePhase::Draining,
    }
}

fn capacity(capacity: Capacity) -> wire::Capacity {
    wire::Capacity {
        max_running: capacity.max_running,
        max_queued: capacity.max_queued,
        kv_total_tokens: capacity.kv_total_tokens,
        context_length: capacity.context_length,
        template_tokens: capacity.template_tokens,
    }
}
