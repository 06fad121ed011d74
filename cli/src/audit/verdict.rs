//! Decides whether what a worker counted agrees with what was billed for it.

use std::fmt;

use inferyard_proto::worker::v1::WorkerState;
use serde::Serialize;

/// Tokens, or a difference of tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Tokens {
    pub(super) prompt: i64,
    pub(super) cached: i64,
    pub(super) completion: i64,
}

/// Result of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// Counted and billed tokens are the same.
    Equal,
    /// The worker counted more, by no more than it produced for streams that were dropped.
    Dropped,
    /// More was billed than counted, by no more than open requests can have used.
    Open,
    /// Neither dropped nor open requests explain the difference.
    Differs,
    /// The worker does not run any more, so there is nothing to compare with.
    NotRunning,
}

/// Tokens that the worker counted since its start.
pub(super) fn counted(state: &WorkerState) -> Tokens {
    Tokens {
        prompt: signed(state.prompt_tokens_total),
        cached: signed(state.cached_tokens_total),
        completion: signed(state.completion_tokens_total),
    }
}

/// The part of [`counted`] that may not have reached a router. Cached tokens are part of the prompt tokens.
pub(super) fn dropped(state: &WorkerState) -> Tokens {
    Tokens {
        prompt: signed(state.dropped_prompt_tokens_total),
        cached: signed(
            state
                .dropped_prompt_tokens_total
                .min(state.cached_tokens_total),
        ),
        completion: signed(state.dropped_completion_tokens_total),
    }
}

/// Upper bound of the tokens that the open requests have used.
fn open(state: &WorkerState) -> Tokens {
    let context = state
        .capacity
        .map_or(0, |capacity| capacity.context_length)
        .into();
    // A request with n choices runs as n sequences.
    let sequences = i64::from(state.open_requests.max(state.running)) + i64::from(state.queued);
    let most = sequences.saturating_mul(context);
    Tokens {
        prompt: most,
        cached: most,
        completion: most,
    }
}

fn signed(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}

// === impl Verdict ===

impl Verdict {
    pub(super) fn of(state: &WorkerState, billed: Tokens) -> Self {
        let difference = counted(state).less(billed);
        let (dropped, open) = (dropped(state), open(state));
        if difference == Tokens::default() {
            Self::Equal
        } else if difference.within(Tokens::default(), dropped) {
            Self::Dropped
        } else if difference.within(Tokens::default().less(open), dropped) {
            Self::Open
        } else {
            Self::Differs
        }
    }

    /// Another comparison cannot change it.
    pub(super) fn is_final(self) -> bool {
        matches!(self, Self::Equal | Self::NotRunning)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "equal",
            Self::Dropped => "equal but for dropped streams",
            Self::Open => "equal but for open requests",
            Self::Differs => "DIFFERS",
            Self::NotRunning => "not running",
        })
    }
}

// === impl Tokens ===

impl Tokens {
    pub(super) fn less(self, other: Self) -> Self {
        Self {
            prompt: self.prompt - other.prompt,
            cached: self.cached - other.cached,
            completion: self.completion - other.completion,
        }
    }

    fn within(self, low: Self, high: Self) -> bool {
        (low.prompt..=high.prompt).contains(&self.prompt)
            && (low.cached..=high.cached).contains(&self.cached)
            && (low.completion..=high.completion).contains(&self.completion)
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} input ({} cached), {} output",
            self.prompt, self.cached, self.completion
        )
    }
}

#[cfg(test)]
mod tests {
    use inferyard_proto::worker::v1::Capacity;

    use super::*;

    const fn tokens(prompt: i64, cached: i64, completion: i64) -> Tokens {
        Tokens {
            prompt,
            cached,
            completion,
        }
    }

    #[test]
    fn only_dropped_and_open_requests_explain_a_difference() {
        let idle = WorkerState {
            prompt_tokens_total: 100,
            cached_tokens_total: 40,
            completion_tokens_total: 50,
            dropped_prompt_tokens_total: 20,
            dropped_completion_tokens_total: 10,
            capacity: Some(Capacity {
                context_length: 64,
                ..Capacity::default()
            }),
            ..WorkerState::default()
        };
        let busy = WorkerState {
            open_requests: 1,
            ..idle.clone()
        };
        let table = [
            (&idle, tokens(100, 40, 50), Verdict::Equal),
            (&idle, tokens(100, 40, 45), Verdict::Dropped),
            (&idle, tokens(80, 20, 40), Verdict::Dropped),
            (&idle, tokens(100, 40, 39), Verdict::Differs),
            (&idle, tokens(79, 40, 50), Verdict::Differs),
            (&idle, tokens(100, 40, 51), Verdict::Differs),
            (&busy, tokens(110, 40, 51), Verdict::Open),
            (&busy, tokens(100, 40, 39), Verdict::Differs),
            (&busy, tokens(165, 40, 50), Verdict::Differs),
        ];
        for (state, billed, expected) in table {
            assert_eq!(Verdict::of(state, billed), expected, "{billed:?}");
        }
    }
}
