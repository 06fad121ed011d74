//! A chunk of an answer as servers write it: what is in it, and no more than that.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::event::{TokenLogprob, TokenProbability};

/// What vLLM says where a probability is 0.
const NEVER: f32 = -9999.0;

/// One event of a stream, or a whole answer.
#[derive(Deserialize)]
pub(super) struct Chunk<'a> {
    #[serde(default, borrow, deserialize_with = "or_default")]
    pub(super) choices: Vec<ChunkChoice<'a>>,
    pub(super) usage: Option<ChunkUsage>,
    /// llama.cpp's own figures, in every chunk where asked for.
    pub(super) timings: Option<Timings>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

/// A part of one choice.
#[derive(Deserialize)]
pub(super) struct ChunkChoice<'a> {
    #[serde(default)]
    pub(super) index: Option<usize>,
    #[serde(default, borrow, alias = "message", deserialize_with = "or_default")]
    pub(super) delta: ChunkDelta<'a>,
    /// Of the legacy endpoint.
    pub(super) text: Option<Text>,
    #[serde(borrow)]
    pub(super) finish_reason: Option<&'a RawValue>,
    pub(super) logprobs: Option<ChunkLogprobs>,
}

/// What is new.
#[derive(Default, Deserialize)]
pub(super) struct ChunkDelta<'a> {
    pub(super) content: Option<Text>,
    pub(super) reasoning_content: Option<Text>,
    pub(super) reasoning: Option<Text>,
    pub(super) refusal: Option<Text>,
    #[serde(default, borrow, deserialize_with = "or_default")]
    pub(super) tool_calls: Vec<CallFragment<'a>>,
    /// What tool calls were before there could be several.
    #[serde(borrow)]
    pub(super) function_call: Option<Function<'a>>,
}

/// A piece of a tool call.
#[derive(Default, Deserialize)]
pub(super) struct CallFragment<'a> {
    pub(super) index: Option<i64>,
    pub(super) id: Option<String>,
    #[serde(default, borrow, deserialize_with = "or_default")]
    pub(super) function: Function<'a>,
}

/// What is called.
#[derive(Default, Deserialize)]
pub(super) struct Function<'a> {
    pub(super) name: Option<String>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

/// Token counts.
#[derive(Clone, Copy, Default, Deserialize)]
pub(super) struct ChunkUsage {
    pub(super) prompt_tokens: Option<u32>,
    pub(super) completion_tokens: Option<u32>,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
    /// SGLang's place for it.
    reasoning_tokens: Option<u32>,
}

#[derive(Clone, Copy, Default, Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u32>,
}

#[derive(Clone, Copy, Default, Deserialize)]
struct CompletionDetails {
    reasoning_tokens: Option<u32>,
}

/// llama.cpp's figures.
#[derive(Clone, Copy, Deserialize)]
pub(super) struct Timings {
    /// Tokens of the prompt that were computed.
    #[serde(rename = "prompt_n")]
    pub(super) computed: Option<u32>,
    /// Tokens of the prompt that were cached.
    #[serde(rename = "cache_n")]
    pub(super) cached: Option<u32>,
    /// Tokens produced.
    #[serde(rename = "predicted_n")]
    pub(super) produced: Option<u32>,
}

/// Text, or parts of which some are text.
#[derive(Default)]
pub(super) struct Text(pub(super) String);

/// Log probabilities of the chat endpoint (`content`) or of the legacy one (all others).
#[derive(Deserialize)]
pub(super) struct ChunkLogprobs {
    content: Option<Vec<ChunkToken>>,
    tokens: Option<Vec<String>>,
    token_logprobs: Option<Vec<Option<f32>>>,
    top_logprobs: Option<Vec<Option<Likeliest>>>,
}

/// By their text.
type Likeliest = BTreeMap<String, Option<f32>>;

#[derive(Deserialize)]
struct ChunkToken {
    #[serde(default)]
    token: String,
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

// === impl Function ===

impl Function<'_> {
    /// The arguments as text: what a string says, or an object as it stands.
    pub(super) fn arguments(&self) -> String {
        let Some(raw) = self.arguments.map(RawValue::get) else {
            return String::new();
        };
        match raw.as_bytes().first() {
            Some(b'"') => serde_json::from_str(raw).unwrap_or_default(),
            Some(b'n') => String::new(),
            _ => raw.to_owned(),
        }
    }
}

// === impl ChunkUsage ===

impl ChunkUsage {
    pub(super) fn cached_tokens(&self) -> Option<u32> {
        self.prompt_tokens_details?.cached_tokens
    }

    pub(super) fn reasoning_tokens(&self) -> Option<u32> {
        let detail = self.completion_tokens_details;
        detail
            .and_then(|detail| detail.reasoning_tokens)
            .or(self.reasoning_tokens)
    }
}

// === impl ChunkLogprobs ===

impl ChunkLogprobs {
    /// One entry for each token.
    pub(super) fn into_tokens(self) -> Vec<TokenLogprob> {
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
                let token = probability(token.into_bytes(), logprobs.next().flatten());
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
        let bytes = self.bytes.unwrap_or_else(|| self.token.into_bytes());
        probability(bytes, self.logprob)
    }
}

fn probability(bytes: Vec<u8>, logprob: Option<f32>) -> TokenProbability {
    let logprob = logprob.unwrap_or(NEVER);
    TokenProbability { bytes, logprob }
}

// === impl Text ===

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text or parts of text")
    }

    fn visit_str<E>(self, text: &str) -> Result<Text, E> {
        Ok(Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Text, E> {
        Ok(Text(text))
    }

    fn visit_unit<E>(self) -> Result<Text, E> {
        Ok(Text::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Text, A::Error> {
        let mut whole = String::new();
        while let Some(Text(part)) = parts.next_element()? {
            whole.push_str(&part);
        }
        Ok(Text(whole))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut part: A) -> Result<Text, A::Error> {
        let mut found = Text::default();
        while let Some(key) = part.next_key::<std::borrow::Cow<'_, str>>()? {
            if key == "text" {
                found = part.next_value()?;
            } else {
                part.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}
