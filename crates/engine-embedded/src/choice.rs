//! One answer while it is produced: its sampler, its output stages, and the delta that is not sent yet.

use std::sync::Arc;

use inferyard_chat::grammar::GrammarError;
use inferyard_chat::output::{Output, Progress};
use inferyard_engine::event::{
    Delta, Failure, FailureKind, FinishReason, Piece, TokenLogprob, TokenProbability, Usage,
};

use crate::job::Prepared;
use crate::load::Model;
use crate::sample::{SampleError, Sampler, Scratch, TokenId, log_probabilities};

/// One answer while it is produced.
pub(crate) struct Choice {
    /// Its index among the request's choices.
    pub(crate) index: u32,
    sampler: Sampler,
    output: Output,
    controls: Arc<[TokenId]>,
    top_logprobs: Option<usize>,
    tokens_left: usize,
    // The OpenAI field that asks for the grammar.
    grammar_param: Option<&'static str>,
    pending: Delta,
    // Log probabilities of tokens whose text is still held back.
    pending_logprobs: Vec<TokenLogprob>,
    pieces: Vec<Piece>,
}

/// The result of one more token.
pub(crate) struct Step {
    /// The token.
    pub(crate) token: TokenId,
    /// What is sent to the client now.
    pub(crate) delta: Option<Delta>,
    /// Why it is complete, if it is.
    pub(crate) finished: Option<FinishReason>,
}

// === impl Choice ===

impl Choice {
    /// An answer about to begin.
    pub(crate) fn new(index: u32, prepared: &Prepared) -> Self {
        let grammar = prepared
            .grammar
            .as_ref()
            .map(|grammar| grammar.guide.deep_clone());
        Self {
            index,
            sampler: Sampler::new(
                Arc::clone(&prepared.sampling),
                index,
                grammar,
                &prepared.tokens,
            ),
            output: Output::new(&prepared.format),
            controls: Arc::clone(&prepared.controls),
            top_logprobs: prepared.top_logprobs,
            tokens_left: prepared.max_tokens,
            grammar_param: prepared.grammar.as_ref().map(|grammar| grammar.param),
            pending: Delta {
                choice: index,
                ..Delta::default()
            },
            pending_logprobs: Vec::new(),
            pieces: Vec::new(),
        }
    }

    /// Chooses and reads the next token.
    pub(crate) fn step(
        &mut self,
        model: &Model,
        logits: &[f32],
        scratch: &mut Scratch,
        usage: &mut Usage,
    ) -> Result<Step, SampleError> {
        let token = self.sampler.next(logits, scratch)?;
        self.tokens_left -= 1;
        self.pending.token_ids.push(token);
        usage.completion_tokens += 1;
        usage.reasoning_tokens += u32::from(self.output.in_reasoning());
        let finished = self.read(model, token, logits);
        let delta = match finished {
            Some(_) => Some(self.flush_all()),
            None => (!self.pending.is_silent()).then(|| self.flush()),
        };
        Ok(Step {
            token,
            delta,
            finished,
        })
    }

    /// The failure of the request when no token could be chosen.
    pub(crate) fn failure(&self, error: &SampleError) -> Failure {
        match (error, self.grammar_param) {
            (SampleError::Grammar, Some(param)) => {
                Failure::invalid(param, GrammarError::TooLarge(param).to_string())
            }
            (SampleError::Keys, Some(param)) => {
                Failure::invalid(param, GrammarError::KeysUsedUp(param).to_string())
            }
            _ => Failure::new(FailureKind::Internal, error.to_string()),
        }
    }

    /// Ends the answer before the model does.
    pub(crate) fn cut(&mut self) -> Delta {
        self.finish();
        self.flush_all()
    }

    fn read(&mut self, model: &Model, token: TokenId, logits: &[f32]) -> Option<FinishReason> {
        if model.ends_turn(token) {
            return Some(self.finish_as(FinishReason::Stop));
        }
        if let Some(top) = self.top_logprobs {
            self.pending_logprobs
                .push(logprob(model, token, logits, top));
        }
        let progress = if model.is_control(token) && !self.controls.contains(&token) {
            Progress::Continue
        } else {
            self.output.push(model.bytes(token), &mut self.pieces)
        };
        self.collect();
        if progress == Progress::Stopped {
            // Tokens whose text was not sent belong to the stop text.
            self.pending_logprobs.clear();
            return Some(self.finish_as(FinishReason::Stop));
        }
        if self.sampler.is_complete() {
            return Some(self.finish_as(FinishReason::Stop));
        }
        (self.tokens_left == 0).then(|| {
            self.finish();
            FinishReason::Length
        })
    }

    fn finish_as(&mut self, reason: FinishReason) -> FinishReason {
        self.finish();
        if self.output.called_tools() {
            FinishReason::ToolCalls
        } else {
            reason
        }
    }

    fn finish(&mut self) {
        self.output.finish(&mut self.pieces);
        self.collect();
    }

    fn collect(&mut self) {
        let was_silent = self.pending.is_silent();
        for piece in self.pieces.drain(..) {
            self.pending.add(piece);
        }
        if was_silent && !self.pending.is_silent() {
            self.pending.logprobs.append(&mut self.pending_logprobs);
        }
    }

    fn flush(&mut self) -> Delta {
        let next = Delta {
            choice: self.index,
            ..Delta::default()
        };
        std::mem::replace(&mut self.pending, next)
    }

    fn flush_all(&mut self) -> Delta {
        self.pending.logprobs.append(&mut self.pending_logprobs);
        self.flush()
    }
}

fn logprob(model: &Model, token: TokenId, logits: &[f32], top: usize) -> TokenLogprob {
    let (chosen, likeliest) = log_probabilities(logits, token, top);
    let probability = |token: TokenId, logprob: f32| TokenProbability {
        bytes: model.bytes(token).to_vec(),
        logprob,
    };
    TokenLogprob {
        token: probability(token, chosen),
        top: likeliest
            .into_iter()
            .map(|(token, logprob)| probability(token, logprob))
            .collect(),
    }
}
