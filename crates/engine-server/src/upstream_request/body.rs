//! The body of a request: the fields that servers take, in the words of each.

use std::io::Write;

use inferyard_engine::event::Failure;
use inferyard_engine::request::{Chat, Request, ResponseFormat, Sampling, TextSource, ToolChoice};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dialect::Dialect;

/// What the fields of our own take, beside the prompt.
const FRAME_BYTES: usize = 1024;

/// A body that is being written.
pub(super) struct Body(pub(super) Vec<u8>);

// === impl Body ===

impl Body {
    pub(super) fn begin(model: &str, prompt_bytes: usize) -> Self {
        let mut body = Self(Vec::with_capacity(prompt_bytes + FRAME_BYTES));
        body.0.extend_from_slice(b"{\"model\":");
        body.string(model);
        body
    }

    pub(super) fn chat(&mut self, chat: &Chat, top_logprobs: Option<usize>) -> Result<(), Failure> {
        self.raw("messages", &chat.messages_json);
        if !chat.tools_json.is_empty() {
            self.tools(chat)?;
            if !chat.parallel_tool_calls {
                self.field("parallel_tool_calls", false);
            }
        }
        if !chat.template_kwargs_json.is_empty() {
            self.raw("chat_template_kwargs", &chat.template_kwargs_json);
            self.effort(&chat.template_kwargs_json);
        }
        if let Some(top) = top_logprobs {
            self.field("logprobs", true);
            self.field("top_logprobs", top);
        }
        Ok(())
    }

    /// The router hands it over as a variable of the template; models whose prompts are written without
    /// one (gpt-oss) take it from OpenAI's field. Servers know no other values, such as `none`.
    fn effort(&mut self, template_kwargs: &[u8]) {
        #[derive(Deserialize)]
        struct Kwargs {
            reasoning_effort: Option<String>,
        }
        let kwargs = serde_json::from_slice::<Kwargs>(template_kwargs);
        let effort = kwargs.ok().and_then(|kwargs| kwargs.reasoning_effort);
        if let Some(effort @ ("low" | "medium" | "high")) = effort.as_deref() {
            self.text_field("reasoning_effort", effort);
        }
    }

    fn tools(&mut self, chat: &Chat) -> Result<(), Failure> {
        match &chat.tool_choice {
            // What the model does not see it does not call.
            ToolChoice::None => {}
            ToolChoice::Auto(names) => {
                match names.as_slice() {
                    [] => self.raw("tools", &chat.tools_json),
                    names => self.raw("tools", &named(&chat.tools_json, names)?),
                }
                self.text_field("tool_choice", "auto");
            }
            ToolChoice::Required(names) => match names.as_slice() {
                [] => {
                    self.raw("tools", &chat.tools_json);
                    self.text_field("tool_choice", "required");
                }
                [name] => {
                    self.raw("tools", &chat.tools_json);
                    self.raw(
                        "tool_choice",
                        b"{\"type\":\"function\",\"function\":{\"name\":",
                    );
                    self.string(name);
                    self.0.extend_from_slice(b"}}");
                }
                // Servers know no choice among some: the others are not shown.
                names => {
                    self.raw("tools", &named(&chat.tools_json, names)?);
                    self.text_field("tool_choice", "required");
                }
            },
        }
        Ok(())
    }

    /// Gives the text that the answer starts with, where the server does not say it itself.
    pub(super) fn text(
        &mut self,
        source: &TextSource,
        echo: bool,
        top_logprobs: Option<usize>,
        dialect: Dialect,
    ) -> Result<Option<String>, Failure> {
        if let Some(top) = top_logprobs {
            self.field("logprobs", top);
        }
        match source {
            TextSource::Text(text) => {
                self.text_field("prompt", text);
                Ok(echo.then(|| text.clone()))
            }
            TextSource::Tokens(ids) => {
                self.raw("prompt", b"[");
                for (at, id) in ids.iter().enumerate() {
                    let comma = if at == 0 { "" } else { "," };
                    self.write(format_args!("{comma}{id}"));
                }
                self.0.push(b']');
                if echo && !dialect.echoes_ids() {
                    let message = "This model cannot echo a prompt of token ids; send it as text.";
                    return Err(Failure::invalid("echo", message));
                }
                if echo {
                    self.field("echo", true);
                }
                Ok(None)
            }
        }
    }

    pub(super) fn stream(&mut self, dialect: Dialect) {
        self.field("stream", true);
        self.raw("stream_options", b"{\"include_usage\":true");
        if dialect.counts_as_it_goes() {
            self.field("continuous_usage_stats", true);
        }
        self.0.push(b'}');
        if dialect == Dialect::LlamaCpp {
            self.field("timings_per_token", true);
        }
    }

    pub(super) fn limits(&mut self, request: &Request) {
        let choices = request.choices.get();
        if choices > 1 {
            self.field("n", choices);
        }
        if let Some(max) = request.max_tokens {
            self.field("max_tokens", max);
        }
        if !request.stop.is_empty() {
            self.raw("stop", b"[");
            for (at, stop) in request.stop.iter().enumerate() {
                if at > 0 {
                    self.0.push(b',');
                }
                self.string(stop);
            }
            self.0.push(b']');
        }
    }

    /// What has a default of OpenAI's is always said: servers have other ones, or take them from the
    /// model's files, and a request shall mean the same everywhere.
    pub(super) fn sampling(&mut self, sampling: &Sampling, dialect: Dialect) {
        self.field("temperature", sampling.temperature);
        self.field("top_p", sampling.top_p);
        let default = Sampling::default();
        let all = dialect.every_token();
        match (sampling.top_k, all) {
            (Some(top), _) => self.field("top_k", top),
            (None, Some(all)) => self.field("top_k", all),
            (None, None) => {}
        }
        let mut number = |name, value: f32, default: f32, always: bool| {
            // Both were set from the same constants, or by the client.
            if always || value.to_bits() != default.to_bits() {
                self.field(name, value);
            }
        };
        let always = all.is_some();
        number("min_p", sampling.min_p, default.min_p, always);
        number(
            dialect.repetition_penalty(),
            sampling.repetition_penalty,
            default.repetition_penalty,
            always,
        );
        number("frequency_penalty", sampling.frequency_penalty, 0.0, false);
        number("presence_penalty", sampling.presence_penalty, 0.0, false);
        if let Some(seed) = sampling.seed {
            self.field("seed", seed);
        }
        if !sampling.logit_bias.is_empty() {
            self.raw("logit_bias", b"{");
            for (at, (token, bias)) in sampling.logit_bias.iter().enumerate() {
                let comma = if at == 0 { "" } else { "," };
                self.write(format_args!("{comma}\"{token}\":{bias}"));
            }
            self.0.push(b'}');
        }
    }

    pub(super) fn format(&mut self, format: Option<&ResponseFormat>) {
        match format {
            None => {}
            Some(ResponseFormat::JsonObject) => {
                self.raw("response_format", b"{\"type\":\"json_object\"}");
            }
            Some(ResponseFormat::JsonSchema { schema, .. }) => {
                // Servers want a name; nobody sees it.
                self.raw(
                    "response_format",
                    b"{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"answer\",\"strict\":true,\"schema\":",
                );
                self.0.extend_from_slice(schema);
                self.0.extend_from_slice(b"}}");
            }
        }
    }

    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    pub(super) fn field(&mut self, name: &str, value: impl std::fmt::Display) {
        self.name(name);
        self.write(format_args!("{value}"));
    }

    pub(super) fn text_field(&mut self, name: &str, value: &str) {
        self.name(name);
        self.string(value);
    }

    fn raw(&mut self, name: &str, json: &[u8]) {
        self.name(name);
        self.0.extend_from_slice(json);
    }

    fn string(&mut self, text: &str) {
        serde_json::to_writer(&mut self.0, text).expect("a text should fit into memory");
    }

    fn write(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.0
            .write_fmt(arguments)
            .expect("a number should fit into memory");
    }
}

/// The tools with these names.
fn named(tools_json: &[u8], names: &[String]) -> Result<Vec<u8>, Failure> {
    #[derive(Deserialize)]
    struct Tool {
        function: Function,
    }
    #[derive(Deserialize)]
    struct Function {
        name: String,
    }
    let wrong = |_| Failure::invalid("tools", "`tools` is no list of tools.");
    let tools: Vec<&RawValue> = serde_json::from_slice(tools_json).map_err(wrong)?;
    let mut kept = b"[".to_vec();
    for tool in tools {
        let read: Result<Tool, _> = serde_json::from_str(tool.get());
        if read.is_ok_and(|tool| names.contains(&tool.function.name)) {
            if kept.len() > 1 {
                kept.push(b',');
            }
            kept.extend_from_slice(tool.get().as_bytes());
        }
    }
    kept.push(b']');
    Ok(kept)
}
