//! The prompt of the legacy completions endpoint.

use inferyard_proto::worker::v1::generate_request::Prompt;
use inferyard_proto::worker::v1::text_prompt::Content;
use inferyard_proto::worker::v1::{TextPrompt, TokenIds};

use super::cursor::{Cursor, Kind};
use super::fields::Fields;
use super::number::{integer, number_text};
use super::text::decoded;
use super::walk::{Stop, elements};
use super::{Param, ReadError};

/// Reads `prompt` and `echo`; also returns `logprobs`, the number of likely tokens.
pub(super) fn prompt(fields: &Fields) -> Result<(Prompt, Option<u32>), ReadError> {
    let field = fields
        .get("prompt")
        .ok_or_else(|| ReadError::missing("prompt"))?;
    let content = match field.kind {
        Kind::String => Content::Text(decoded(fields.text(field))),
        Kind::Array => one_of_many(fields.text(field))?,
        Kind::Null | Kind::Bool | Kind::Number | Kind::Object => {
            let expected = "a string or an array of token ids";
            return Err(ReadError::wrong_type("prompt", expected, field.kind));
        }
    };
    let echo = fields.boolean("echo")?.unwrap_or(false);
    let logprobs = fields.integer("logprobs")?;
    if echo && logprobs.is_some() {
        return Err(ReadError::Conflict {
            param: Param::new("logprobs"),
            problem: "'logprobs' together with 'echo' is not served here: the log probabilities of \
                      a prompt are not computed.",
        });
    }
    let content = Some(content);
    Ok((Prompt::Text(TextPrompt { content, echo }), logprobs))
}

/// `best_of` above `n` would produce answers only to discard them.
pub(super) fn check_best_of(fields: &Fields, choices: u32) -> Result<(), ReadError> {
    match fields.integer::<u32>("best_of")? {
        Some(best_of) if best_of != choices => Err(ReadError::UnsupportedValue {
            param: Param::new("best_of"),
            hint: "answers are not ranked here. Leave it out, or send the value of 'n'.".to_owned(),
        }),
        Some(_) | None => Ok(()),
    }
}

/// Reads an array of token ids, or of exactly one prompt.
fn one_of_many(text: &[u8]) -> Result<Content, ReadError> {
    let mut ids = Vec::new();
    let mut whole = None;
    let mut count = 0;
    elements(text, |cursor, index| {
        count = index + 1;
        match cursor.kind()? {
            Kind::Number if whole.is_none() => ids.push(token(cursor, "prompt", index)?),
            Kind::String if index == 0 => whole = Some(Content::Text(cursor.string()?.decoded())),
            Kind::Array if index == 0 => whole = Some(tokens(cursor)?),
            Kind::String | Kind::Array if whole.is_some() => {
                return Err(ReadError::UnsupportedValue {
                    param: Param::new("prompt"),
                    hint: "one request has one prompt here. Send one request for each.".to_owned(),
                }
                .into());
            }
            got => {
                let path = format!("prompt[{index}]");
                return Err(ReadError::wrong_type(path, "a token id", got).into());
            }
        }
        Ok(())
    })?;
    if count == 0 {
        return Err(ReadError::empty_array("prompt"));
    }
    Ok(whole.unwrap_or(Content::Tokens(TokenIds { ids })))
}

fn tokens(cursor: &mut Cursor) -> Result<Content, Stop> {
    let mut ids = Vec::new();
    cursor.array::<Stop>(|cursor, index| {
        ids.push(token(cursor, "prompt[0]", index)?);
        Ok(())
    })?;
    if ids.is_empty() {
        return Err(ReadError::empty_array("prompt[0]").into());
    }
    Ok(Content::Tokens(TokenIds { ids }))
}

fn token(cursor: &mut Cursor, path: &str, index: usize) -> Result<u32, Stop> {
    let kind = cursor.kind()?;
    let text = cursor.passed()?;
    // The path is built only for an error, because there can be very many ids.
    let wrong = |_| {
        let path = format!("{path}[{index}]");
        number_text(&path, "a token id", kind, text)
            .and_then(|text| integer(&path, text, 0..=u32::MAX))
    };
    let id = number_text("", "a token id", kind, text)
        .and_then(|text| integer("", text, 0..=u32::MAX))
        .or_else(wrong)?;
    Ok(id)
}
