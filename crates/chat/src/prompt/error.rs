//! Why a conversation does not become a prompt.

use std::error::Error as _;

use minijinja::ErrorKind;

use super::cause::Cause;
use super::jinja;

/// Why there is no prompt. The text is meant for the caller; nothing of the conversation is in it.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The model's template is not one.
    #[error("The model's chat template cannot be compiled: {0:#}")]
    Compile(#[source] minijinja::Error),
    /// A field of the request is not the JSON that it must be.
    #[error("'{param}' is not valid: {reason}.")]
    Read {
        /// The OpenAI field.
        param: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The template itself refuses the request.
    #[error("The model's chat template refuses {cause}: {sentence}")]
    Refuse {
        /// What it refuses.
        cause: Cause,
        /// Its own words.
        sentence: String,
    },
    /// The prompt has more bytes than it may have.
    #[error("the prompt has more than {bytes} bytes")]
    TooLong {
        /// Bytes that it has at least.
        bytes: usize,
    },
    /// Nobody waits for the prompt any longer.
    #[error("rendering was stopped")]
    Stopped,
    /// The template takes too many steps.
    #[error(
        "The conversation is too long for the model's chat template. Please send fewer messages."
    )]
    Exhaust,
    /// The template does not understand the request.
    #[error("The model's chat template cannot render {cause} ({reason}). Please check {}.", .cause.advice())]
    Render {
        /// What it does not understand.
        cause: Cause,
        /// What failed, and where in the template.
        reason: String,
    },
}

// === impl TemplateError ===

impl TemplateError {
    /// The OpenAI field at fault; none: the model's template itself.
    #[must_use]
    pub fn param(&self) -> Option<&'static str> {
        match self {
            Self::Compile(_) => None,
            Self::Read { param, .. } => Some(param),
            Self::Refuse { cause, .. } | Self::Render { cause, .. } => Some(cause.param()),
            Self::TooLong { .. } | Self::Stopped | Self::Exhaust => Some("messages"),
        }
    }

    pub(super) fn no_mark() -> Self {
        Self::Read {
            param: "messages",
            reason: "it has every ideograph from U+20000 to U+2A6D6; please leave one out"
                .to_owned(),
        }
    }

    // The error's own text can quote the conversation, its kind and place cannot.
    pub(super) fn of_render(error: &minijinja::Error) -> Self {
        let mut cause = error.source();
        while let Some(error) = cause {
            if let Some(jinja::Refused(sentence)) = error.downcast_ref() {
                return Self::Refuse {
                    cause: Cause::Messages,
                    sentence: sentence.clone(),
                };
            }
            cause = error.source();
        }
        if error.kind() == ErrorKind::OutOfFuel {
            return Self::Exhaust;
        }
        let place = error
            .line()
            .map_or(String::new(), |line| format!(" in line {line}"));
        Self::Render {
            cause: Cause::Messages,
            reason: format!("{}{place}", error.kind()),
        }
    }

    pub(super) fn because_of(self, cause: Cause) -> Self {
        match self {
            Self::Refuse { sentence, .. } => Self::Refuse { cause, sentence },
            Self::Render { reason, .. } => Self::Render { cause, reason },
            other => other,
        }
    }
}
