//! Estimates the tokens of a prompt before its worker has counted it.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use inferyard_domain::{Account, ModelId};
use inferyard_placement::Work;
use inferyard_proto::worker::v1::GenerateRequest;
use inferyard_proto::worker::v1::generate_request::Prompt;
use inferyard_proto::worker::v1::text_prompt::Content;
use parking_lot::Mutex;

use lru::LruCache;

/// Initial ratio of tokens per byte: four bytes of text per token.
const FIRST: f32 = 0.25;
/// Bytes of a prompt that moves the average half way; a prompt of a tenth of it moves it by a hundredth. The weight
/// is the square of the length, as in a least-squares line through the origin: short prompts, which are mostly
/// template, do not change the estimate for long ones.
const WEIGHT: f32 = 16_384.0;
/// Plausible tokens per byte. A count outside of this range is wrong and ignored.
const SANE: std::ops::RangeInclusive<f32> = 0.01..=2.0;
/// Bytes of text that a token id stands for, on average.
const ID_BYTES: u64 = 4;
/// Bound on the pairs of account and model whose ratio is kept, about 200 bytes each. An evicted pair starts
/// from `FIRST` again.
const MOST_RATIOS: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();

/// Learned ratios of tokens per byte, per account and model, so that one account's prompts do not change the
/// estimates of another's.
#[derive(Debug)]
pub struct Estimates {
    ratios: Mutex<LruCache<Prompter, Arc<Ratio>>>,
}

type Prompter = (Account, ModelId);

/// Tokens per byte of an account's prompts to a model, as a moving average.
#[derive(Debug)]
pub(crate) struct Ratio(AtomicU32);

/// The estimate of a prompt that no worker has counted yet.
#[derive(Debug, Clone)]
pub(crate) struct Estimate {
    /// Bytes of all request fields in the prompt; a token id counts as [`ID_BYTES`].
    pub(crate) bytes: u64,
    /// Estimated tokens, including those of the chat template.
    pub(crate) tokens: u64,
    /// Whether the prompt consists of token ids, so that `tokens` is exact.
    pub(crate) is_exact: bool,
    /// Tokens that the chat template adds; 0: nothing is rendered, or no worker reports it.
    template: u64,
    ratio: Arc<Ratio>,
}

// === impl Estimates ===

impl Estimates {
    /// Estimates the prompt of a request. `template`: tokens that the chat template adds to a conversation.
    pub(crate) fn of(
        &self,
        request: &GenerateRequest,
        account: &Account,
        model: &ModelId,
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

    fn ratio(&self, account: &Account, model: &ModelId) -> Arc<Ratio> {
        let key = (account.clone(), model.clone());
        let mut ratios = self.ratios.lock();
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
    /// The estimated work for a worker.
    pub(crate) fn work(&self, request: &GenerateRequest) -> Work {
        Work {
            prompt_bytes: self.bytes,
            prompt_tokens: self.tokens,
            blocks: request.prefix_blocks.as_slice().into(),
            sequences: request.choices.max(1),
        }
    }

    /// An upper bound of the prompt's tokens: every token stands for at least one byte of the request, and what the
    /// template adds per message is shorter than its JSON syntax.
    pub(crate) fn most(&self, template: u64) -> u64 {
        if self.is_exact {
            self.tokens
        } else {
            self.bytes.saturating_add(template)
        }
    }

    /// Learns from the worker's count.
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

    /// Learns that `bytes` bytes had `tokens` tokens. Of two concurrent updates one may be lost, which an average
    /// tolerates.
    #[expect(clippy::cast_precision_loss, reason = "an estimate of a body's size")]
    fn learn(&self, bytes: u64, tokens: u64) {
        let (bytes, tokens) = (bytes as f32, tokens as f32);
        let ratio = tokens / bytes;
        // For 0 bytes the ratio is NaN or infinite, and not contained.
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
