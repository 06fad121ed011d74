//! A chunk of an answer as servers write it: what is in it, and no more than that.

use std::collections::BTreeMap;

use inferyard_engine::event::{TokenLogprob, TokenProbability};
use serde::Deserialize;
use serde::de::Deserializer;
use serde_json::value::RawValue;

use crate::wide::Wide;

/// What vLLM says where a probability is 0.
const NEVER: f32 = -9999.0;

/// One event of a stream, or a whole answer.
#[derive(Deserialize)]
pub(crate) struct Chunk<'a> {
    #[serde(default, borrow, deserialize_with = "or_default")]
    pub(crate) choices: Vec<ChunkChoice<'a>>,
    #[serde(default, deserialize_with = "or_nothing")]
    pub(crate) usage: Option<ChunkUsage>,
    /// llama.cpp's own figures, in every chunk where asked for.
    #[serde(default, deserialize_with = "or_nothing")]
    pub(crate) timings: Option<Timings>,
    #[serde(borrow)]
    pub(crate) error: Option<&'a RawValue>,
}

/// A part of one choice.
#[derive(Deserialize)]
pub(crate) struct ChunkChoice<'a> {
    #[serde(default)]
    pub(crate) index: Option<usize>,
    #[serde(default, borrow, alias = "message", deserialize_with = "or_default")]
    pub(crate) delta: ChunkDelta<'a>,
    /// Of the legacy endpoint.
    pub(crate) text: Option<Wide>,
    #[serde(borrow)]
    pub(crate) finish_reason: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "or_nothing")]
    pub(crate) logprobs: Option<ChunkLogprobs>,
}

/// What is new.
#[derive(Default, Deserialize)]
pub(crate) struct ChunkDelta<'a> {
    pub(crate) content: Option<Wide>,
    pub(crate) reasoning_content: Option<Wide>,
    pub(crate) reasoning: Option<Wide>,
    pub(crate) refusal: Option<Wide>,
    #[serde(default, borrow, deserialize_with = "or_default")]
    pub(crate) tool_calls: Vec<CallFragment<'a>>,
    /// What tool calls were before there could be several.
    #[serde(borrow)]
    pub(crate) function_call: Option<Function<'a>>,
}

/// A piece of a tool call.
#[derive(Default, Deserialize)]
pub(crate) struct CallFragment<'a> {
    #[serde(default, deserialize_with = "or_nothing")]
    pub(crate) index: Option<i64>,
    #[serde(default, deserialize_with = "or_nothing")]
    pub(crate) id: Option<String>,
    #[serde(default, borrow, deserialize_with = "or_default")]
    pub(crate) function: Function<'a>,
}

/// What is called.
#[derive(Default, Deserialize)]
pub(crate) struct Function<'a> {
    pub(crate) name: Option<Wide>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

/// Token counts. One that is no count is as good as none.
#[derive(Clone, Copy, Default, Deserialize)]
pub(crate) struct ChunkUsage {
    #[serde(default, deserialize_with = "or_nothing")]
    pub(crate) prompt_tokens: Option<u32>,
    #[serde(default, deserialize_with = "or_nothing")]
    pub(crate) completion_tokens: Option<u32>,
    #[serde(default, deserialize_with = "or_nothing")]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default, deserialize_with = "or_nothing")]
    completion_tokens_details: Option<CompletionDetails>,
    /// SGLang's place for it.
    #[serde(default, deserialize_with = "or_nothing")]
    reasoning_tokens: Option<u32>,
}

#[derive(Clone, Copy, Default, Deserialize)]
struct PromptDetails {
    #[serde(default, deserialize_with = "or_nothing")]
    cached_tokens: Option<u32>,
}

#[derive(Clone, Copy, Default, Deserialize)]
struct CompletionDetails {
    #[serde(default, deserialize_with = "or_nothing")]
    reasoning_tokens: Option<u32>,
}

/// llama.cpp's figures.
#[derive(Clone, Copy, Deserialize)]
pub(crate) struct Timings {
    /// Tokens of the prompt that were computed.
    #[serde(rename = "prompt_n", default, deserialize_with = "or_nothing")]
    pub(crate) computed: Option<u32>,
    /// Tokens of the prompt that were cached.
    #[serde(rename = "cache_n", default, deserialize_with = "or_nothing")]
    pub(crate) cached: Option<u32>,
    /// Tokens produced.
    #[serde(rename = "predicted_n", default, deserialize_with = "or_nothing")]
    pub(crate) produced: Option<u32>,
}

/// Log probabilities of the chat endpoint (`content`) or of the legacy one (all others).
#[derive(Deserialize)]
pub(crate) struct ChunkLogprobs {
    content: Option<Vec<ChunkToken>>,
    tokens: Option<Vec<Wide>>,
    token_logprobs: Option<Vec<Option<f32>>>,
    top_logprobs: Option<Vec<Option<Likeliest>>>,
}

/// By their text.
type Likeliest = BTreeMap<String, Option<f32>>;

#[derive(Deserialize)]
struct ChunkToken {
    #[serde(default)]
    token: Wide,
    logprob: Option<f32>,
    bytes: Option<Vec<u8>>,
    #[serde(default, deserialize_with = "or_default")]
    top_logprobs: Vec<ChunkToken>,
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Nothing, where it is not of this type: what an answer says counts more than what is said about it.
fn or_nothing<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let raw: Option<&'de RawValue> = Option::deserialize(deserializer)?;
    Ok(raw.and_then(|raw| serde_json::from_str(raw.get()).ok()))
}

// === impl Function ===

impl Function<'_> {
    /// The arguments as text: what a string says, or an object as it stands.
    pub(crate) fn arguments(&self) -> Wide {
        let Some(raw) = self.arguments.map(RawValue::get) else {
            return Wide::default();
        };
        match raw.as_bytes().first() {
            Some(b'"') => serde_json::from_str(raw).unwrap_or_default(),
            Some(b'n') => Wide::default(),
            _ => raw.to_owned().into(),
        }
    }
}

// === impl ChunkUsage ===

impl ChunkUsage {
    pub(crate) fn cached_tokens(&self) -> Option<u32> {
        self.prompt_tokens_details?.cached_tokens
    }

    pub(crate) fn reasoning_tokens(&self) -> Option<u32> {
        let detail = self.completion_tokens_details;
        detail
            .and_then(|detail| detail.reasoning_tokens)
            .or(self.reasoning_tokens)
    }
}

// === impl ChunkLogprobs ===

impl ChunkLogprobs {
    /// One entry for each token.
    pub(crate) fn into_tokens(self) -> Vec<TokenLogprob> {
        if let Some(content) = self.content {
            return content.into_iter().map(ChunkToken::into_logprob).collect();
        }
        let mut logprobs = self.token_logprobs.unwrap_or_default().into_iter();
        let mut tops = self.top_logprobs.unwrap_or_default().into_iter();
        let tokens = self.tokens.unwrap_or_default().into_iter();
        tokens
            .map(|token| {
                let top = tops.next().flatten().unwrap_or_default();
                let mut top: Vec<_> = top
                    .into_iter()
                    .map(|(text, logprob)| probability(text.into_bytes(), logprob))
                    .collect();
                top.sort_by(|one, other| other.logprob.total_cmp(&one.logprob));
                let token = probability(token.whole().into_bytes(), logprobs.next().flatten());
                TokenLogprob { token, top }
            })
            .collect()
    }
}

impl ChunkToken {
    fn into_logprob(mut self) -> TokenLogprob {
        let top = std::mem::take(&mut self.top_logprobs);
        TokenLogprob {
            token: self.into_probability(),
            top: top.into_iter().map(Self::into_probability).collect(),
        }
    }

    fn into_probability(self) -> TokenProbability {
        let bytes = self
            .bytes
            .unwrap_or_else(|| self.token.whole().into_bytes());
        probability(bytes, self.logprob)
    }
}

fn probability(bytes: Vec<u8>, logprob: Option<f32>) -> TokenProbability {
    let logprob = logprob.unwrap_or(NEVER);
    TokenProbability { bytes, logprob }
}
