//! What an answer must look like: the tools, the choice among them and the response format together.

use std::sync::Arc;

use bytes::Bytes;
use inferyard_chat::grammar::{Calls, Form, GrammarError, Guide, Preamble, Schema, Shape, Tool};
use inferyard_chat::prompt::ToolFormat;
use inferyard_engine::event::{Failure, FailureKind};
use inferyard_engine::request::{Chat, Prompt, Request, ResponseFormat, ToolChoice};

use super::Attempt;
use crate::load::Model;

/// What a chat asks of its answer.
#[derive(Default)]
pub(super) struct Wanted {
    /// How calls look. None: there are none.
    pub(super) tools: Option<ToolFormat>,
    /// What the grammar is made from. None: any text, and calls as the model likes.
    pub(super) shape: Option<Shape>,
    /// The tools that may be called. None: whatever the model calls.
    pub(super) allowed: Option<Arc<[String]>>,
}

// === impl Wanted ===

impl Wanted {
    /// `knows`: how the model writes calls.
    pub(super) fn new(
        chat: &Chat,
        format: Option<ResponseFormat>,
        knows: Option<ToolFormat>,
    ) -> Result<Self, Failure> {
        let schema = format.map(schema);
        let knows = knows.filter(|_| !chat.tools_json.is_empty());
        let (names, tools) = match (&chat.tool_choice, knows) {
            (ToolChoice::Required(_), None) => {
                let message =
                    "A tool call can be required only with `tools`, of a model that knows tools.";
                return Err(Failure::invalid("tool_choice", message));
            }
            (ToolChoice::None, _) | (_, None) => {
                return Ok(Self {
                    shape: schema.map(Shape::Json),
                    ..Self::default()
                });
            }
            (ToolChoice::Auto(names), Some(tools)) if names.is_empty() && schema.is_none() => {
                return Ok(Self {
                    tools: Some(tools),
                    ..Self::default()
                });
            }
            (ToolChoice::Auto(names) | ToolChoice::Required(names), Some(tools)) => (names, tools),
        };
        let calls = calls(chat, names, tools).map_err(|error| refused(&error))?;
        let allowed = calls.tools.iter().map(|tool| tool.name.clone()).collect();
        let shape = match (&chat.tool_choice, schema) {
            (ToolChoice::Required(_), _) => Shape::Calls(calls),
            (_, Some(schema)) => Shape::CallsOrJson(calls, schema),
            (_, None) => Shape::CallsInText(calls),
        };
        Ok(Self {
            tools: Some(tools),
            shape: Some(shape),
            allowed: Some(allowed),
        })
    }
}

fn calls(chat: &Chat, names: &[String], format: ToolFormat) -> Result<Calls, GrammarError> {
    let all = Tool::parse(&chat.tools_json)?;
    let tools = Tool::allowed(&all, names)?;
    let is_forbidden = |tool: &Tool| !tools.iter().any(|allowed| allowed.name == tool.name);
    let forbidden = all.into_iter().filter(is_forbidden);
    let forbidden = forbidden.map(|tool| tool.name).collect();
    Ok(Calls {
        format,
        tools,
        forbidden,
        parallel: chat.parallel_tool_calls,
    })
}

pub(super) fn schema(format: ResponseFormat) -> Schema {
    match format {
        ResponseFormat::JsonObject => Schema::any_object(),
        ResponseFormat::JsonSchema { schema, strict } => Schema {
            text: schema,
            path: "response_format.json_schema.schema".to_owned(),
            strict,
        },
    }
}

/// The schemas that a grammar may be made from. Tools that cannot be read are refused later.
pub(crate) fn schemas(request: &Request) -> Vec<(Form, Schema)> {
    let answer = request.format.clone().map(schema);
    let tools = match &request.prompt {
        Prompt::Chat(chat) if !chat.tools_json.is_empty() => Tool::parse(&chat.tools_json),
        _ => Ok(Vec::new()),
    };
    let tools = tools.unwrap_or_default().into_iter();
    let arguments = tools.map(|tool| (Form::Object, tool.parameters));
    let answer = answer.into_iter().map(|schema| (Form::Any, schema));
    answer.chain(arguments).collect()
}

// === impl Model ===

impl Model {
    /// Refuses tools that cannot be called, whether one is called this time or not.
    pub(super) fn check_tools(
        &self,
        chat: &Chat,
        knows: Option<ToolFormat>,
        attempt: &Attempt<'_>,
    ) -> Result<(), Failure> {
        let is_all = match &chat.tool_choice {
            ToolChoice::None => return Ok(()),
            ToolChoice::Auto(_) => false,
            // The grammar of the answer has all of them in it.
            ToolChoice::Required(names) => names.is_empty(),
        };
        if chat.tools_json.is_empty() || self.checked_tools.contains(&chat.tools_json) {
            return Ok(());
        }
        let tools = Tool::parse(&chat.tools_json).map_err(|error| refused(&error))?;
        for tool in &tools {
            tool.check().map_err(|error| refused(&error))?;
        }
        if is_all && knows.is_some() {
            return Ok(());
        }
        if let Some(format) = knows {
            (attempt.go_on)()?;
            let calls = Calls {
                format,
                tools,
                forbidden: Vec::new(),
                parallel: true,
            };
            self.compile(&Shape::Calls(calls), Preamble::None)?;
        }
        self.checked_tools.insert(&chat.tools_json);
        Ok(())
    }

    pub(super) fn compile(&self, shape: &Shape, preamble: Preamble) -> Result<Guide, Failure> {
        let grammars = self
            .grammars()
            .map_err(|error| Failure::new(FailureKind::Internal, error))?;
        grammars
            .compile(shape, preamble)
            .map_err(|error| refused(&error))
    }

    /// These tools need no compiling any more.
    pub(crate) fn knows_tools(&self, tools_json: &Bytes) -> bool {
        self.checked_tools.contains(tools_json)
    }
}

fn refused(error: &GrammarError) -> Failure {
    match error.param() {
        Some(param) => Failure::invalid(param, error.to_string()),
        None => Failure::new(FailureKind::Internal, error.to_string()),
    }
}
