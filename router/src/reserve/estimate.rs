//! How many tokens a prompt has, before its worker has counted it.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use inferyard_placement::Work;
use inferyard_proto::worker::v1::GenerateRequest;
use inferyard_proto::worker::v1::generate_request::Prompt;
use inferyard_proto::worker::v1::text_prompt::Content;

use lru::LruCache;

/// Before anything is known of an account's prompts: four bytes of text.
const FIRST: f32 = 0.25;
/// A prompt of this many bytes moves the average half way, one of a tenth of it by a hundredth. The weight is the
/// square of the length, as in a least-squares line through the origin: short prompts, which are mostly frame, do
/// not change the estimate for long ones.
const WEIGHT: f32 = 16_384.0;
/// Tokens per byte that text can have. A count beyond is broken and is ignored.
const SANE: std::ops::RangeInclusive<f32> = 0.01..=2.0;
/// Bytes of text that a token id stands for, about.
const ID_BYTES: u64 = 4;
/// Bound on the pairs of account and model whose ratio is kept, about 200 bytes each. An evicted pair starts
/// from `FIRST` again.
const MOST_RATIOS: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();

/// What was learnt of the prompts of each account and model, so that no account's prompts change what is
/// assumed of another's.
#[derive(Debug)]
pub(crate) struct Estimates {
    ratios: Mutex<LruCache<Prompter, Arc<Ratio>>>,
}

/// An account and a model.
type Prompter = (Arc<str>, Arc<str>);

/// Tokens per byte of an account's prompts to a model: a moving average.
#[derive(Debug)]
pub(crate) struct Ratio(AtomicU32);

/// What is known of a prompt that no worker has counted yet.
#[derive(Debug, Clone)]
pub(crate) struct Estimate {
    /// Bytes of all fields that reach the prompt, as they were sent; a token id counts as the text that it
    /// stands for.
    pub(crate) bytes: u64,
    /// About how many tokens these are, with what the chat template adds.
    pub(crate) tokens: u64,
    /// The prompt is one of token ids, so that `tokens` is exact.
    pub(crate) is_exact: bool,
    /// What the chat template adds; 0 where nothing is rendered, or no worker tells.
    template: u64,
    ratio: Arc<Ratio>,
}

// === impl Estimates ===

impl Estimates {
    /// Measures the prompt of a request. `template` is what the chat template adds to a conversation, in
    /// tokens.
    pub(crate) fn of(
        &self,
        request: &GenerateRequest,
        account: &Arc<str>,
        model: &Arc<str>,
        template: u64,
    ) -> Estimate {
        let ratio = self.ratio(account, model);
        let bytes = |bytes: usize| bytes as u64;
        let (bytes, template, exact) = match &request.prompt {
            Some(Prompt::Chat(chat)) => {
                let fields = [
                    &chat.tools_json,
                    &chat.messages_json,
                    &chat.template_kwargs_json,
                ];
                let all = fields.into_iter().map(|field| bytes(field.len()));
                (all.sum(), template, None)
            }
            Some(Prompt::Text(text)) => match &text.content {
                Some(Content::Text(text)) => (bytes(text.len()), 0, None),
                Some(Content::Tokens(tokens)) => {
                    let tokens = bytes(tokens.ids.len());
                    (tokens * ID_BYTES, 0, Some(tokens))
                }
                None => (0, 0, None),
            },
            None => (0, 0, None),
        };
        Estimate {
            bytes,
            tokens: exact.unwrap_or_else(|| ratio.tokens(bytes).saturating_add(template)),
            is_exact: exact.is_some(),
            template,
            ratio,
        }
    }

    fn ratio(&self, account: &Arc<str>, model: &Arc<str>) -> Arc<Ratio> {
        let key = (Arc::clone(account), Arc::clone(model));
        let mut ratios = self.ratios.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ratio) = ratios.get(&key) {
            return Arc::clone(ratio);
        }
        let ratio = Arc::new(Ratio::default());
        ratios.put(key, Arc::clone(&ratio));
        ratio
    }
}

impl Default for Estimates {
    fn default() -> Self {
        Self {
            ratios: Mutex::new(LruCache::new(MOST_RATIOS)),
        }
    }
}

// === impl Estimate ===

impl Estimate {
    /// What the request asks of a worker.
    pub(crate) fn work(&self, request: &GenerateRequest) -> Work {
        Work {
            prompt_bytes: self.bytes,
            prompt_tokens: self.tokens,
            blocks: request.prefix_blocks.as_slice().into(),
            sequences: request.choices.max(1),
        }
    }

    /// The most tokens that the prompt can have: no token has less than a byte of what was sent, and what the
    /// template adds to a message is less than the frame of its JSON.
    pub(crate) fn most(&self, template: u64) -> u64 {
        if self.is_exact {
            self.tokens
        } else {
            self.bytes.saturating_add(template)
        }
    }

    /// The worker has counted the prompt.
    pub(crate) fn counted(&self, tokens: u64) {
        if !self.is_exact {
            let tokens = tokens.saturating_sub(self.template);
            self.ratio.learn(self.bytes, tokens);
        }
    }
}

// === impl Ratio ===

impl Ratio {
    /// Estimated tokens of `bytes` bytes, rounded up.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate of a body's size"
    )]
    fn tokens(&self, bytes: u64) -> u64 {
        (bytes as f32 * self.get()).ceil() as u64
    }

    /// Learns that `bytes` bytes had `tokens` tokens. Of two concurrent calls one may be lost.
    #[expect(clippy::cast_precision_loss, reason = "an estimate of a body's size")]
    fn learn(&self, bytes: u64, tokens: u64) {
        let (bytes, tokens) = (bytes as f32, tokens as f32);
        let ratio = tokens / bytes;
        // Not a number where there are no bytes, and then not contained either.
        if !SANE.contains(&ratio) {
            return;
        }
        let weight = bytes * bytes / (bytes * bytes + WEIGHT * WEIGHT);
        let old = self.get();
        let new = old + (ratio - old) * weight;
        self.0.store(new.to_bits(), Ordering::Relaxed);
    }

    fn get(&self) -> f32 {
        f32::from_bits(self.0.load(Ordering::Relaxed))
    }
}

impl Default for Ratio {
    fn default() -> Self {
        Self(AtomicU32::new(FIRST.to_bits()))
    }
}

#[cfg(test)]
mod tests;
