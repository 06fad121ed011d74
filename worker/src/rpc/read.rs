//! A `GenerateRequest` becomes a `Request`: every range is checked here, once.

mod variables;

use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use inferyard_engine::event::Failure;
use inferyard_engine::request::{
    Chat, Prompt, Request, ResponseFormat, Sampling, TextSource, ToolChoice,
};
use inferyard_proto::worker::v1 as wire;
use tokio::time::Instant;
use wire::generate_request::Prompt as WirePrompt;
use wire::response_format::Format;
use wire::text_prompt::Content;
use wire::tool_choice::Mode;

/// Most stop texts of a request.
const MAX_STOP: usize = 4;
/// Most bytes of one stop text.
const MAX_STOP_BYTES: usize = 4096;
/// Most alternatives whose log probability is told.
const MAX_TOP_LOGPROBS: u32 = 20;
/// Most biased tokens of a request.
const MAX_BIASES: usize = 1024;
/// Most choices of a request.
const MAX_CHOICES: u32 = 128;
/// No deadline lies further away.
const MAX_DEADLINE: Duration = Duration::from_hours(24);

/// Checks a request.
pub(super) fn request(request: wire::GenerateRequest) -> Result<Request, Failure> {
    let choices = request.choices.max(1);
    if choices > MAX_CHOICES {
        return Err(range("n", "1", &MAX_CHOICES.to_string()));
    }
    if request
        .top_logprobs
        .is_some_and(|top| top > MAX_TOP_LOGPROBS)
    {
        return Err(range("top_logprobs", "0", "20"));
    }
    check_stop(&request.stop)?;
    Ok(Request {
        prompt: prompt(request.prompt)?,
        choices: NonZeroUsize::new(size(choices)).unwrap_or(NonZeroUsize::MIN),
        max_tokens: request.max_tokens.map(size),
        max_prompt_tokens: request.max_prompt_tokens,
        sampling: sampling(&request.sampling.unwrap_or_default())?,
        stop: request.stop,
        top_logprobs: request.top_logprobs.map(size),
        format: request
            .response_format
            .and_then(|format| format.format)
            .map(|format| match format {
                Format::JsonObject(wire::JsonObject {}) => ResponseFormat::JsonObject,
                Format::JsonSchema(schema) => ResponseFormat::JsonSchema {
                    schema: schema.schema_json,
                    strict: schema.strict,
                },
            }),
        prefix_blocks: request.prefix_blocks,
        cache_salt: request.cache_salt,
        deadline: request
            .deadline_ms
            .map(|left| Instant::now() + Duration::from_millis(left).min(MAX_DEADLINE)),
        priority: request.priority,
        extra_json: request.extra_json,
    })
}

fn prompt(prompt: Option<WirePrompt>) -> Result<Prompt, Failure> {
    match prompt {
        Some(WirePrompt::Chat(chat)) => {
            variables::check(&chat.template_kwargs_json)?;
            let tool_choice = tool_choice(chat.tool_choice.as_ref())?;
            Ok(Prompt::Chat(Chat {
                messages_json: chat.messages_json,
                // A model that sees tools calls them, whatever it was told.
                tools_json: if matches!(tool_choice, ToolChoice::None) {
                    Bytes::new()
                } else {
                    chat.tools_json
                },
                tool_choice,
                parallel_tool_calls: chat.parallel_tool_calls.unwrap_or(true),
                template_kwargs_json: chat.template_kwargs_json,
            }))
        }
        Some(WirePrompt::Text(text)) => {
            let source = match text.content {
                Some(Content::Text(text)) => TextSource::Text(text),
                Some(Content::Tokens(tokens)) => TextSource::Tokens(tokens.ids),
                None => return Err(Failure::invalid("prompt", "The prompt is missing.")),
            };
            Ok(Prompt::Text {
                source,
                echo: text.echo,
            })
        }
        None => Err(Failure::invalid("messages", "The prompt is missing.")),
    }
}

fn tool_choice(choice: Option<&wire::ToolChoice>) -> Result<ToolChoice, Failure> {
    let Some(choice) = choice else {
        return Ok(ToolChoice::Auto(Vec::new()));
    };
    match Mode::try_from(choice.mode) {
        Ok(Mode::Unspecified | Mode::Auto) => Ok(ToolChoice::Auto(choice.names.clone())),
        Ok(Mode::None) => Ok(ToolChoice::None),
        Ok(Mode::Required) => Ok(ToolChoice::Required(choice.names.clone())),
        Err(_) => Err(Failure::invalid(
            "tool_choice",
            "This mode of `tool_choice` is not known.",
        )),
    }
}

fn sampling(wire: &wire::Sampling) -> Result<Sampling, Failure> {
    let default = Sampling::default();
    let biases = wire.logit_bias.len();
    if biases > MAX_BIASES {
        let message =
            format!("`logit_bias` has {biases} tokens; at most {MAX_BIASES} are allowed.");
        return Err(Failure::invalid("logit_bias", message));
    }
    let logit_bias = wire
        .logit_bias
        .iter()
        .map(|bias| Ok((bias.token, within("logit_bias", bias.bias, -100.0, 100.0)?)))
        .collect::<Result<_, Failure>>()?;
    let repetition_penalty = wire
        .repetition_penalty
        .unwrap_or(default.repetition_penalty);
    if !(repetition_penalty.is_finite() && repetition_penalty > 0.0) {
        return Err(Failure::invalid(
            "repetition_penalty",
            "`repetition_penalty` must be above 0.",
        ));
    }
    let number = |param, given: Option<f32>, default, least, most| {
        given.map_or(Ok(default), |given| within(param, given, least, most))
    };
    Ok(Sampling {
        temperature: number(
            "temperature",
            wire.temperature,
            default.temperature,
            0.0,
            2.0,
        )?,
        top_p: number("top_p", wire.top_p, default.top_p, 0.0, 1.0)?,
        // Servers that take it read 0 as no limit.
        top_k: wire.top_k.map(size).and_then(NonZeroUsize::new),
        min_p: number("min_p", wire.min_p, default.min_p, 0.0, 1.0)?,
        frequency_penalty: number("frequency_penalty", wire.frequency_penalty, 0.0, -2.0, 2.0)?,
        presence_penalty: number("presence_penalty", wire.presence_penalty, 0.0, -2.0, 2.0)?,
        repetition_penalty,
        seed: wire.seed,
        logit_bias,
    })
}

fn check_stop(stop: &[String]) -> Result<(), Failure> {
    let message = if stop.len() > MAX_STOP {
        format!(
            "`stop` has {} texts; at most {MAX_STOP} are allowed.",
            stop.len()
        )
    } else if stop.iter().any(String::is_empty) {
        "A text of `stop` is empty.".to_owned()
    } else if stop.iter().any(|text| text.len() > MAX_STOP_BYTES) {
        format!("A text of `stop` is longer than {MAX_STOP_BYTES} bytes.")
    } else {
        return Ok(());
    };
    Err(Failure::invalid("stop", message))
}

fn within(param: &'static str, given: f32, least: f32, most: f32) -> Result<f32, Failure> {
    if (least..=most).contains(&given) {
        Ok(given)
    } else {
        Err(range(param, &least.to_string(), &most.to_string()))
    }
}

fn range(param: &'static str, least: &str, most: &str) -> Failure {
    Failure::invalid(
        param,
        format!("`{param}` must be between {least} and {most}."),
    )
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire_request() -> wire::GenerateRequest {
        let text = wire::TextPrompt {
            content: Some(Content::Text("a".to_owned())),
            echo: false,
        };
        wire::GenerateRequest {
            prompt: Some(WirePrompt::Text(text)),
            ..Default::default()
        }
    }

    fn check(change: impl FnOnce(&mut wire::GenerateRequest), expect: Option<&str>) {
        let mut wire = wire_request();
        change(&mut wire);
        assert_eq!(
            request(wire)
                .err()
                .and_then(|failure| failure.param)
                .as_deref(),
            expect
        );
    }

    fn sampled(sampling: wire::Sampling) -> impl FnOnce(&mut wire::GenerateRequest) {
        move |request| request.sampling = Some(sampling)
    }

    #[test]
    fn defaults_are_openais() {
        let request = request(wire_request()).unwrap();
        assert_eq!(request.sampling, Sampling::default());
        assert_eq!(request.choices.get(), 1);
        assert!(request.max_tokens.is_none() && request.deadline.is_none());
    }

    #[test]
    fn tools_that_must_not_be_called_are_not_shown() {
        let shown = |mode: Option<Mode>| {
            let chat = wire::ChatPrompt {
                messages_json: Bytes::from_static(b"[]"),
                tools_json: Bytes::from_static(b"[{}]"),
                tool_choice: mode.map(|mode| wire::ToolChoice {
                    mode: mode.into(),
                    names: Vec::new(),
                }),
                ..Default::default()
            };
            let wire = wire::GenerateRequest {
                prompt: Some(WirePrompt::Chat(chat)),
                ..Default::default()
            };
            match request(wire).unwrap().prompt {
                Prompt::Chat(chat) => chat.tools_json,
                Prompt::Text { .. } => panic!("a chat should be a chat"),
            }
        };
        assert_eq!(shown(Some(Mode::None)), "");
        for mode in [None, Some(Mode::Auto), Some(Mode::Required)] {
            assert_eq!(shown(mode), "[{}]");
        }
    }

    #[test]
    fn a_wrong_field_is_named() {
        check(|_| (), None);
        check(|r| r.choices = 129, Some("n"));
        check(|r| r.top_logprobs = Some(21), Some("top_logprobs"));
        check(|r| r.stop = vec![String::new()], Some("stop"));
        check(|r| r.stop = vec!["a".to_owned(); 5], Some("stop"));
        check(|r| r.prompt = None, Some("messages"));
        let s = wire::Sampling::default;
        check(
            sampled(wire::Sampling {
                temperature: Some(2.1),
                ..s()
            }),
            Some("temperature"),
        );
        check(
            sampled(wire::Sampling {
                temperature: Some(f32::NAN),
                ..s()
            }),
            Some("temperature"),
        );
        check(
            sampled(wire::Sampling {
                top_p: Some(-0.1),
                ..s()
            }),
            Some("top_p"),
        );
        check(
            sampled(wire::Sampling {
                repetition_penalty: Some(0.0),
                ..s()
            }),
            Some("repetition_penalty"),
        );
        let bias = wire::LogitBias {
            token: 1,
            bias: 101.0,
        };
        check(
            sampled(wire::Sampling {
                logit_bias: vec![bias],
                ..s()
            }),
            Some("logit_bias"),
        );
        check(
            sampled(wire::Sampling {
                temperature: Some(0.0),
                ..s()
            }),
            None,
        );
    }
}
