//! JSON as OpenAI writes it: the parts that streamed and collected answers share.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};
use inferyard_proto::worker::v1::{FinishReason, TokenLogprob, TokenProbability, Usage};

use crate::read::Api;

/// The fields at the start of every chunk or body of an answer.
#[derive(Debug, Clone)]
pub struct Head {
    /// `req_` and 32 hexadecimal digits; the answer's `id` contains the same digits.
    pub request_id: Arc<str>,
    /// The endpoint.
    pub api: Api,
    /// Seconds since the Unix epoch.
    pub created: u64,
    /// The model's name in the request.
    pub model: Arc<str>,
}

// === impl Head ===

impl Head {
    /// Appends `{"id":…,"object":…,"created":…`.
    pub(crate) fn open(&self, object: &str, out: &mut BytesMut) {
        let prefix = match self.api {
            Api::Chat => "chatcmpl",
            Api::Completions => "cmpl",
        };
        let digits = self.request_id.trim_start_matches("req_");
        let created = self.created;
        put(
            out,
            format_args!(
                "{{\"id\":\"{prefix}-{digits}\",\"object\":\"{object}\",\"created\":{created}"
            ),
        );
    }

    /// Appends `,"model":…`.
    pub(crate) fn model(&self, out: &mut BytesMut) {
        out.put_slice(b",\"model\":");
        quote(&self.model, out);
    }
}

/// Appends a text with the escapes of a JSON string, without quotes.
pub(crate) fn escape(text: &str, out: &mut BytesMut) {
    let mut rest = text.as_bytes();
    out.reserve(rest.len());
    let special = |byte: &u8| *byte < b' ' || *byte == b'"' || *byte == b'\\';
    while let Some(length) = rest.iter().position(special) {
        out.put_slice(&rest[..length]);
        match rest[length] {
            b'"' => out.put_slice(b"\\\""),
            b'\\' => out.put_slice(b"\\\\"),
            b'\n' => out.put_slice(b"\\n"),
            b'\r' => out.put_slice(b"\\r"),
            b'\t' => out.put_slice(b"\\t"),
            0x08 => out.put_slice(b"\\b"),
            0x0C => out.put_slice(b"\\f"),
            control => put(out, format_args!("\\u{control:04x}")),
        }
        rest = &rest[length + 1..];
    }
    out.put_slice(rest);
}

/// Appends a text as a JSON string.
pub(crate) fn quote(text: &str, out: &mut BytesMut) {
    out.put_u8(b'"');
    escape(text, out);
    out.put_u8(b'"');
}

/// Appends formatted text.
pub(crate) fn put(out: &mut BytesMut, text: std::fmt::Arguments) {
    out.write_fmt(text)
        .expect("should never fail: the buffer grows");
}

/// Appends a number.
pub(crate) fn integer(number: u32, out: &mut BytesMut) {
    if let Ok(digit @ 0..=9) = u8::try_from(number) {
        out.put_u8(b'0' + digit);
    } else {
        put(out, format_args!("{number}"));
    }
}

/// Appends the usage object.
pub(crate) fn usage(usage: &Usage, out: &mut BytesMut) {
    let Usage {
        prompt_tokens,
        cached_tokens,
        completion_tokens,
        reasoning_tokens,
    } = usage;
    let total = u64::from(*prompt_tokens) + u64::from(*completion_tokens);
    put(
        out,
        format_args!(
            "{{\"prompt_tokens\":{prompt_tokens},\"completion_tokens\":{completion_tokens},\
             \"total_tokens\":{total},\
             \"prompt_tokens_details\":{{\"cached_tokens\":{cached_tokens},\"audio_tokens\":0}},\
             \"completion_tokens_details\":{{\"reasoning_tokens\":{reasoning_tokens},\
             \"audio_tokens\":0,\"accepted_prediction_tokens\":0,\
             \"rejected_prediction_tokens\":0}}}}"
        ),
    );
}

/// The worker's events violate the order of the contract.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the worker broke the contract: {0}")]
pub struct ContractError(pub &'static str);

/// OpenAI's value of `finish_reason`.
pub(crate) fn finish_reason(reason: i32) -> Result<&'static str, ContractError> {
    match FinishReason::try_from(reason) {
        Ok(FinishReason::Stop) => Ok("stop"),
        Ok(FinishReason::Length) => Ok("length"),
        Ok(FinishReason::ToolCalls) => Ok("tool_calls"),
        Ok(FinishReason::ContentFilter) => Ok("content_filter"),
        Ok(FinishReason::Unspecified) | Err(_) => {
            Err(ContractError("a choice ended for no reason"))
        }
    }
}

/// Appends tokens of a chat as array elements, separated by commas.
pub(crate) fn chat_logprobs(tokens: &[TokenLogprob], out: &mut BytesMut) {
    for (index, token) in tokens.iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        out.put_u8(b'{');
        probability(token.token.as_ref(), out);
        out.put_slice(b",\"top_logprobs\":[");
        for (index, top) in token.top.iter().enumerate() {
            out.put_slice(if index == 0 { b"{" } else { b",{" });
            probability(Some(top), out);
            out.put_u8(b'}');
        }
        out.put_slice(b"]}");
    }
}

fn probability(token: Option<&TokenProbability>, out: &mut BytesMut) {
    let absent = TokenProbability::default();
    let token = token.unwrap_or(&absent);
    out.put_slice(b"\"token\":");
    quote(&token.text, out);
    out.put_slice(b",\"logprob\":");
    logprob(token.logprob, out);
    out.put_slice(b",\"bytes\":[");
    for (index, byte) in token.bytes.iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        integer(u32::from(*byte), out);
    }
    out.put_u8(b']');
}

/// JSON has no infinity; OpenAI writes -9999 for impossible tokens.
fn logprob(value: f32, out: &mut BytesMut) {
    let value = if value.is_finite() { value } else { -9999.0 };
    serde_json::to_writer(out.writer(), &value).expect("should never fail: the buffer grows");
}

/// The four lists of log probabilities of the legacy endpoint.
#[derive(Debug, Default)]
pub(crate) struct LegacyLogprobs {
    tokens: BytesMut,
    logprobs: BytesMut,
    top: BytesMut,
    offsets: BytesMut,
}

// === impl LegacyLogprobs ===

impl LegacyLogprobs {
    /// Adds tokens. `offset` is the position of the next token in the text, in characters.
    pub(crate) fn add(&mut self, tokens: &[TokenLogprob], offset: &mut usize) {
        let absent = TokenProbability::default();
        for TokenLogprob { token, top } in tokens {
            let token = token.as_ref().unwrap_or(&absent);
            if !self.tokens.is_empty() {
                for list in [
                    &mut self.tokens,
                    &mut self.logprobs,
                    &mut self.top,
                    &mut self.offsets,
                ] {
                    list.put_u8(b',');
                }
            }
            quote(&token.text, &mut self.tokens);
            logprob(token.logprob, &mut self.logprobs);
            likeliest(top, &mut self.top);
            put(&mut self.offsets, format_args!("{offset}"));
            *offset += token.text.chars().count();
        }
    }

    /// Appends the object. With `top` 0 no likely tokens were requested, and their list is `null`.
    pub(crate) fn write(&self, top: u32, out: &mut BytesMut) {
        out.put_slice(b"{\"tokens\":[");
        out.put_slice(&self.tokens);
        out.put_slice(b"],\"token_logprobs\":[");
        out.put_slice(&self.logprobs);
        if top == 0 {
            out.put_slice(b"],\"top_logprobs\":null,\"text_offset\":[");
        } else {
            out.put_slice(b"],\"top_logprobs\":[");
            out.put_slice(&self.top);
            out.put_slice(b"],\"text_offset\":[");
        }
        out.put_slice(&self.offsets);
        out.put_slice(b"]}");
    }
}

/// Appends log probabilities by text. If tokens have equal texts (parts of a character), the likeliest one
/// counts.
fn likeliest(top: &[TokenProbability], out: &mut BytesMut) {
    out.put_u8(b'{');
    for (index, token) in top.iter().enumerate() {
        if top[..index].iter().any(|other| other.text == token.text) {
            continue;
        }
        if index > 0 {
            out.put_u8(b',');
        }
        quote(&token.text, out);
        out.put_u8(b':');
        logprob(token.logprob, out);
    }
    out.put_u8(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_comes_back(text: String) {
            let mut out = BytesMut::new();
            quote(&text, &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn any_logprob_is_a_number(value: f32) {
            let mut out = BytesMut::new();
            logprob(value, &mut out);
            prop_assert!(serde_json::from_slice::<f64>(&out).is_ok());
        }
    }
}
