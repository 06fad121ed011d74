//! Logits become one token: biases and penalties, the grammar, then the draw.
//!
//! The order is the one of vLLM and Transformers: bias, penalties, grammar, temperature, top_k,
//! top_p, min_p. One answer owns one sampler; a step's scratch space is shared by all.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use inferyard_chat::grammar::{Guide, GuideError};
use inferyard_engine::request::Sampling;

/// A token's number in the vocabulary.
pub(crate) type TokenId = u32;

/// Chooses the tokens of one answer.
pub(crate) struct Sampler {
    sampling: Arc<Sampling>,
    random: Random,
    grammar: Option<Guide>,
    // How often each token came in the answer.
    produced: HashMap<TokenId, u32>,
    // Tokens that a repetition penalty applies to: of the prompt and the answer.
    repeated: HashSet<TokenId>,
}

/// Space for one draw, used again for the next.
#[derive(Default)]
pub(crate) struct Scratch {
    logits: Vec<f32>,
    candidates: Vec<(f32, TokenId)>,
}

/// Why no token could be chosen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SampleError {
    /// The grammar's matcher gave up; its own words may quote the answer, and are not passed on.
    #[error("the grammar of the requested format cannot go on")]
    Grammar,
    /// Every token that the grammar allows leads to a key that its object already has.
    #[error("only keys that the object already has are possible")]
    Keys,
    /// All tokens are excluded, or the logits are not numbers.
    #[error("no token is possible")]
    NoToken,
}

/// SplitMix64: tiny, and the same on every machine.
struct Random(u64);

// === impl Sampler ===

impl Sampler {
    /// A sampler for the answer with this index; `prompt` is what a repetition penalty looks at.
    pub(crate) fn new(
        sampling: Arc<Sampling>,
        choice: u32,
        grammar: Option<Guide>,
        prompt: &[i32],
    ) -> Self {
        let seed = match sampling.seed {
            Some(seed) => seed.cast_unsigned().wrapping_add(u64::from(choice)),
            None => random_seed(),
        };
        let repeated = if is_none(sampling.repetition_penalty, 1.0) {
            HashSet::new()
        } else {
            prompt.iter().map(|token| token.cast_unsigned()).collect()
        };
        let produced = HashMap::new();
        Self {
            sampling,
            random: Random(seed),
            grammar,
            produced,
            repeated,
        }
    }

    /// Chooses the next token.
    pub(crate) fn next(
        &mut self,
        logits: &[f32],
        scratch: &mut Scratch,
    ) -> Result<TokenId, SampleError> {
        let Scratch {
            logits: adjusted,
            candidates,
        } = scratch;
        if !self.adjusts() {
            let token = self.choose(logits, candidates)?;
            self.count(token);
            return Ok(token);
        }
        adjusted.clear();
        adjusted.extend_from_slice(logits);
        self.adjust(adjusted)?;
        let mut repeats = false;
        loop {
            let token = match self.choose(adjusted, candidates) {
                Err(SampleError::NoToken) if repeats => return Err(SampleError::Keys),
                token => token?,
            };
            match self.grammar.as_mut().map(|grammar| grammar.consume(token)) {
                None | Some(Ok(())) => {
                    self.count(token);
                    return Ok(token);
                }
                Some(Err(GuideError::GaveUp)) => return Err(SampleError::Grammar),
                // The next token is chosen from the others. The loop ends, because each turn excludes a token.
                Some(Err(GuideError::Repeats)) => {
                    repeats = true;
                    adjusted[token as usize] = f32::NEG_INFINITY;
                }
            }
        }
    }

    fn choose(
        &mut self,
        logits: &[f32],
        candidates: &mut Vec<(f32, TokenId)>,
    ) -> Result<TokenId, SampleError> {
        if self.sampling.temperature <= 0.0 {
            likeliest(logits).ok_or(SampleError::NoToken)
        } else {
            self.draw(logits, candidates)
        }
    }

    /// The grammar allows nothing but the end.
    pub(crate) fn is_complete(&self) -> bool {
        self.grammar.as_ref().is_some_and(Guide::is_complete)
    }

    fn count(&mut self, token: TokenId) {
        *self.produced.entry(token).or_default() += 1;
        if !is_none(self.sampling.repetition_penalty, 1.0) {
            self.repeated.insert(token);
        }
    }

    fn adjusts(&self) -> bool {
        let sampling = &*self.sampling;
        self.grammar.is_some()
            || !sampling.logit_bias.is_empty()
            || !is_none(sampling.frequency_penalty, 0.0)
            || !is_none(sampling.presence_penalty, 0.0)
            || !is_none(sampling.repetition_penalty, 1.0)
    }

    fn adjust(&mut self, logits: &mut [f32]) -> Result<(), SampleError> {
        let sampling = &*self.sampling;
        for (token, bias) in &sampling.logit_bias {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit += bias;
            }
        }
        for token in &self.repeated {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit = if *logit > 0.0 {
                    *logit / sampling.repetition_penalty
                } else {
                    *logit * sampling.repetition_penalty
                };
            }
        }
        if !is_none(sampling.frequency_penalty, 0.0) || !is_none(sampling.presence_penalty, 0.0) {
            for (token, count) in &self.produced {
                if let Some(logit) = logits.get_mut(*token as usize) {
                    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
                    let count = *count as f32;
                    *logit -= sampling.frequency_penalty * count + sampling.presence_penalty;
                }
            }
        }
        if let Some(grammar) = &mut self.grammar {
            let allowed = grammar.allowed().map_err(|error| match error {
                GuideError::GaveUp => SampleError::Grammar,
                GuideError::Repeats => SampleError::Keys,
            })?;
            for (token, logit) in (0..).zip(logits) {
                if !allowed.is_allowed(token) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        Ok(())
    }

    fn draw(
        &mut self,
        logits: &[f32],
        candidates: &mut Vec<(f32, TokenId)>,
    ) -> Result<TokenId, SampleError> {
        let sampling = &*self.sampling;
        let scale = 1.0 / sampling.temperature;
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if !highest.is_finite() {
            return Err(SampleError::NoToken);
        }
        let weights = || {
            (0..)
                .zip(logits)
                .filter(|(_, logit)| !logit.is_nan())
                .map(|(token, logit)| {
                    // Of the likeliest token it is 1, so that nothing overflows.
                    (((logit - highest) * scale).exp(), token)
                })
        };
        if sampling.top_k.is_none() && sampling.top_p >= 1.0 && sampling.min_p <= 0.0 {
            let sum: f64 = weights().map(|(weight, _)| f64::from(weight)).sum();
            return pick(weights(), self.random.below(sum)).ok_or(SampleError::NoToken);
        }
        candidates.clear();
        candidates.extend(weights().filter(|(weight, _)| *weight > 0.0));
        if let Some(k) = sampling.top_k {
            keep_likeliest(candidates, k.get());
        }
        if sampling.top_p < 1.0 {
            keep_nucleus(candidates, f64::from(sampling.top_p));
        }
        candidates.retain(|(weight, _)| *weight >= sampling.min_p);
        let sum: f64 = candidates
            .iter()
            .map(|(weight, _)| f64::from(*weight))
            .sum();
        pick(candidates.iter().copied(), self.random.below(sum)).ok_or(SampleError::NoToken)
    }
}

/// Natural logarithms of probabilities under the model itself: of one token, and the likeliest ones.
pub(crate) fn log_probabilities(
    logits: &[f32],
    token: TokenId,
    top: usize,
) -> (f32, Vec<(TokenId, f32)>) {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|logit| f64::from(logit - highest).exp())
        .sum();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the precision of a logit is enough"
    )]
    let normal = highest + sum.ln() as f32;
    let of = |token: TokenId| {
        logits
            .get(token as usize)
            .map_or(f32::NEG_INFINITY, |l| l - normal)
    };
    let mut likeliest: Vec<(f32, TokenId)> = Vec::new();
    if top > 0 {
        likeliest.extend((0..).zip(logits).map(|(token, logit)| (*logit, token)));
        keep_likeliest(&mut likeliest, top);
        likeliest.sort_unstable_by(by_weight);
    }
    (
        of(token),
        likeliest
            .into_iter()
            .map(|(logit, token)| (token, logit - normal))
            .collect(),
    )
}

fn likeliest(logits: &[f32]) -> Option<TokenId> {
    let mut best = None;
    let mut highest = f32::NEG_INFINITY;
    for (token, logit) in (0..).zip(logits) {
        if *logit > highest {
            highest = *logit;
            best = Some(token);
        }
    }
    best
}

fn pick(mut weights: impl Iterator<Item = (f32, TokenId)>, mut below: f64) -> Option<TokenId> {
    let mut last = None;
    weights
        .by_ref()
        .find_map(|(weight, token)| {
            if weight > 0.0 {
                // Rounding may leave a rest after the last one; then it is the last one.
                last = Some(token);
            }
            below -= f64::from(weight);
            (below < 0.0 && weight > 0.0).then_some(token)
        })
        .or(last)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "sorting hands out references"
)]
fn by_weight(a: &(f32, TokenId), b: &(f32, TokenId)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

fn keep_likeliest(candidates: &mut Vec<(f32, TokenId)>, count: usize) {
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count - 1, by_weight);
        candidates.truncate(count);
    }
}

/// Keeps the smallest set of candidates with at least this part of the whole weight.
fn keep_nucleus(candidates: &mut Vec<(f32, TokenId)>, part: f64) {
    let whole: f64 = candidates
        .iter()
        .map(|(weight, _)| f64::from(*weight))
        .sum();
    let wanted = whole * part;
    // A nucleus is small, a vocabulary is not: more and more of it is sorted until it is enough.
    let mut sorted = 64;
    loop {
        let count = sorted.min(candidates.len());
        if count < candidates.len() {
            candidates.select_nth_unstable_by(count, by_weight);
        }
        candidates[..count].sort_unstable_by(by_weight);
        let mut sum = 0.0;
        let enough = candidates[..count].iter().position(|(weight, _)| {
            sum += f64::from(*weight);
            sum >= wanted
        });
        if let Some(last) = enough {
            candidates.truncate(last + 1);
            return;
        }
        if count == candidates.len() {
            return;
        }
        sorted *= 8;
    }
}

#[expect(
    clippy::float_cmp,
    reason = "a setting that was not given has exactly this value"
)]
fn is_none(setting: f32, none: f32) -> bool {
    setting == none
}

fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // Keys of the standard library's hash maps come from the system's random numbers.
    RandomState::new().hash_one(0_u8)
}

// === impl Random ===

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to, but without, this one.
    fn below(&mut self, end: f64) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "exactly the 53 bits of a double are taken"
        )]
        let unit = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        unit * end
    }
}

#[cfg(test)]
mod tests;
