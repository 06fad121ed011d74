//! Rendering and tokenizing of a prompt, which end where the prompt no longer fits into the context.

use inferyard_chat::prompt::{ChatTemplate, Conversation, Rendered, TemplateError};
use inferyard_engine::event::Failure;
use inferyard_engine::request::Chat;
use inferyard_engine::requests::cancelled;

use super::Attempt;
use crate::kv::Token;
use crate::load::Model;
use crate::tokenize::{Text, TokenizeError};

impl Model {
    /// The prompt of a conversation.
    pub(super) fn render(
        &self,
        template: &ChatTemplate,
        chat: &Chat,
        attempt: &Attempt<'_>,
    ) -> Result<Rendered, Failure> {
        let conversation = Conversation {
            messages_json: &chat.messages_json,
            tools_json: &chat.tools_json,
            template_kwargs_json: &chat.template_kwargs_json,
        };
        // A text of more bytes cannot fit into the context, however it is tokenized.
        let most_bytes = self.tokenizer.most_bytes(self.most_tokens());
        let rendered = template.render(&conversation, most_bytes, &|| (attempt.go_on)().is_ok());
        rendered.map_err(|error| match error {
            TemplateError::TooLong { bytes } => {
                self.too_long("messages", self.tokenizer.at_least(bytes))
            }
            TemplateError::Stopped => (attempt.go_on)().err().unwrap_or_else(cancelled),
            error => Failure::invalid(error.param().unwrap_or("messages"), error.to_string()),
        })
    }

    /// The tokens of a text that fit into the context.
    pub(super) fn tokens(
        &self,
        text: Text<'_>,
        param: &'static str,
        attempt: &Attempt<'_>,
    ) -> Result<Vec<Token>, Failure> {
        let tokens = self.tokenize(text, self.most_tokens(), |bytes| {
            (attempt.go_on)()?;
            (attempt.tokenizes)(bytes);
            Ok(())
        });
        let tokens = tokens.map_err(|error| match error {
            TokenizeError::TooLong { at_least } => self.too_long(param, at_least),
            TokenizeError::Stopped(failure) => failure,
        })?;
        self.check_length(tokens.len(), param)?;
        Ok(tokens)
    }

    /// The longest prompt: at least one token of an answer has room behind it.
    fn most_tokens(&self) -> usize {
        self.limits.context_length.saturating_sub(1)
    }

    pub(super) fn check_length(&self, tokens: usize, param: &'static str) -> Result<(), Failure> {
        let most = self.limits.context_length;
        if tokens < most {
            return Ok(());
        }
        Err(Failure::too_long(param, tokens, most))
    }

    fn too_long(&self, param: &'static str, at_least: usize) -> Failure {
        Failure::too_long_at_least(param, at_least, self.limits.context_length)
    }

    /// The token that a document begins with, which is what an empty text means at OpenAI: the model's own, or the
    /// one that ended the document before; empty where it has neither.
    pub(super) fn beginning(&self) -> Vec<Token> {
        let vocab = self.llama.vocab();
        let tokens = [vocab.bos().0, vocab.eos().0];
        tokens
            .into_iter()
            .find(|token| *token >= 0)
            .into_iter()
            .collect()
    }

    /// Token ids of a request, checked against the vocabulary.
    pub(super) fn known(&self, ids: &[u32]) -> Result<Vec<Token>, Failure> {
        let size = self.vocabulary_size();
        ids.iter()
            .map(|id| match Token::try_from(*id) {
                Ok(token) if (*id as usize) < size => Ok(token),
                _ => Err(Failure::invalid(
                    "prompt",
                    format!(
                        "Token {id} is not in this model's vocabulary, whose tokens are 0 to {}.",
                        size - 1
                    ),
                )),
            })
            .collect()
    }
}
