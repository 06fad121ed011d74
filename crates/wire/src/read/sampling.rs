//! Reads how tokens are sampled, and when the answer ends.

use inferyard_proto::worker::v1::{LogitBias, Sampling};

use super::cursor::Kind;
use super::fields::Fields;
use super::length::check_length;
use super::number::{decimal, number_text};
use super::text::{decoded, shortened};
use super::walk::{elements, members};
use super::{Api, Length, Param, ReadError};

/// Maximum number of stop texts, as in OpenAI's API.
const MOST_STOPS: usize = 4;
/// Maximum length of a stop text, in characters; the engine compares each new token with the end of every stop
/// text.
const LONGEST_STOP: usize = 1_024;
/// Maximum number of biases; each one costs time on every token.
const MOST_BIASES: usize = 1_024;

/// Reads the sampling fields.
pub(super) fn sampling(fields: &Fields) -> Result<Sampling, ReadError> {
    Ok(Sampling {
        temperature: fields.decimal("temperature")?,
        top_p: fields.decimal("top_p")?,
        // vLLM's clients disable `top_k` with -1, others with 0.
        top_k: fields
            .integer::<i32>("top_k")?
            .and_then(|k| u32::try_from(k).ok())
            .filter(|k| *k > 0),
        min_p: fields.decimal("min_p")?,
        frequency_penalty: fields.decimal("frequency_penalty")?,
        presence_penalty: fields.decimal("presence_penalty")?,
        repetition_penalty: fields.decimal("repetition_penalty")?,
        seed: fields.integer("seed")?,
        logit_bias: logit_bias(fields)?,
    })
}

/// The maximum number of tokens. `max_completion_tokens` is the newer name and takes precedence over
/// `max_tokens`.
pub(super) fn max_tokens(api: Api, fields: &Fields) -> Result<Option<u32>, ReadError> {
    match api {
        Api::Chat => {
            let old = fields.integer("max_tokens")?;
            let new = fields.integer("max_completion_tokens")?;
            Ok(new.or(old))
        }
        // OpenAI's default here is 16; 0 is useful with `echo`.
        Api::Completions => Ok(Some(fields.integer("max_tokens")?.unwrap_or(16))),
    }
}

/// Reads `logprobs` and `top_logprobs` of a chat.
pub(super) fn chat_logprobs(fields: &Fields) -> Result<Option<u32>, ReadError> {
    let top = fields.integer("top_logprobs")?;
    match (fields.boolean("logprobs")?.unwrap_or(false), top) {
        (true, top) => Ok(Some(top.unwrap_or(0))),
        // Some clients send 0 with every request, which requests nothing.
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => Err(ReadError::Conflict {
            param: Param::new("top_logprobs"),
            problem: "The 'top_logprobs' parameter is only allowed when 'logprobs' is true.",
        }),
    }
}

/// Reads `stop`: a string, or an array of up to four.
pub(super) fn stop(fields: &Fields) -> Result<Vec<String>, ReadError> {
    let Some(field) = fields.get("stop") else {
        return Ok(Vec::new());
    };
    let mut stops = Vec::new();
    match field.kind {
        Kind::String => stops.push(stop_text("stop", &decoded(fields.text(field)))?),
        Kind::Array => elements(fields.text(field), |cursor, index| {
            if index == MOST_STOPS {
                return Err(ReadError::long_array("stop", MOST_STOPS).into());
            }
            let path = format!("stop[{index}]");
            match cursor.kind()? {
                Kind::String => stops.push(stop_text(&path, &cursor.string()?.decoded())?),
                got => return Err(ReadError::wrong_type(path, "a string", got).into()),
            }
            Ok(())
        })?,
        Kind::Null | Kind::Bool | Kind::Number | Kind::Object => {
            let expected = "a string or an array of strings";
            return Err(ReadError::wrong_type("stop", expected, field.kind));
        }
    }
    Ok(stops)
}

fn stop_text(path: &str, text: &str) -> Result<String, ReadError> {
    check_length(path, text, LONGEST_STOP)?;
    if text.is_empty() {
        return Err(ReadError::Length {
            param: Param::new(path),
            of: Length::EmptyString,
            problem: "empty string. Expected a string with minimum length 1, but got an empty \
                      string instead."
                .to_owned(),
        });
    }
    Ok(text.to_owned())
}

/// Reads `logit_bias`: token ids and their biases.
fn logit_bias(fields: &Fields) -> Result<Vec<LogitBias>, ReadError> {
    let Some(field) = fields.get("logit_bias") else {
        return Ok(Vec::new());
    };
    if field.kind != Kind::Object {
        let expected = "an object of token ids and numbers";
        return Err(ReadError::wrong_type("logit_bias", expected, field.kind));
    }
    let mut biases = Vec::new();
    members(fields.text(field), |cursor, key| {
        let key = key.decoded();
        // `+5` and `05` would be the same token as `5`, but a token has only one bias.
        let token = key.parse().ok();
        let Some(token) = token.filter(|token: &u32| token.to_string() == key) else {
            return Err(ReadError::Value {
                param: Param::new("logit_bias"),
                problem: format!("'{}' is not a token id.", shortened(&key)),
            }
            .into());
        };
        if biases.len() == MOST_BIASES {
            return Err(ReadError::Length {
                param: Param::new("logit_bias"),
                of: Length::ManyProperties,
                problem: format!("too many properties. Expected at most {MOST_BIASES} token ids."),
            }
            .into());
        }
        let path = format!("logit_bias.{token}");
        let kind = cursor.kind()?;
        let text = number_text(&path, "a number", kind, cursor.passed()?)?;
        let bias = decimal(&path, text, -100.0..=100.0)?;
        biases.push(LogitBias { token, bias });
        Ok(())
    })?;
    Ok(biases)
}
