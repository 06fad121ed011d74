//! The answers of one request in the making: what their tokens say, and why they end.

use inferyard_chat::output::{Output, OutputFormat, Progress};
use inferyard_engine::event::{Delta, FinishReason, Piece, TokenLogprob, TokenProbability};

use crate::gpu;
use crate::prepare::Prepared;
use crate::words;

/// The answers of one request.
pub(crate) struct Answer {
    /// Tokens of the prompt.
    pub(crate) prompt_tokens: u32,
    /// How many there are.
    pub(crate) choices: u32,
    /// The other ones, until the prompt of the first is computed: they begin with what is cached.
    pub(crate) others: Option<gpu::Job>,
    /// Text that each starts with, until it is sent.
    pub(crate) echo: Option<String>,
    reason: FinishReason,
    top_logprobs: Option<usize>,
    voices: Vec<Voice>,
}

/// What one more token said.
pub(crate) struct Said {
    /// What the reader gets now.
    pub(crate) delta: Option<Delta>,
    /// A text came that ends the answer.
    pub(crate) stopped: bool,
}

struct Voice {
    produced: u32,
    // Where somebody has named texts that end an answer.
    reading: Option<Reading>,
}

struct Reading {
    output: Output,
    pieces: Vec<Piece>,
    // Of tokens whose text is still held back.
    unsaid: Delta,
    stopped: bool,
}

// === impl Answer ===

impl Answer {
    /// Nothing is said yet.
    pub(crate) fn new(prepared: &Prepared) -> Self {
        let format = OutputFormat {
            stop: prepared.stop.clone(),
            ..OutputFormat::default()
        };
        let choices = u32::try_from(prepared.choices).unwrap_or(u32::MAX);
        let voice = |choice| Voice {
            produced: 0,
            reading: (!format.stop.is_empty()).then(|| Reading::new(choice, &format)),
        };
        Self {
            prompt_tokens: prepared.job.prompt_tokens,
            choices,
            others: (choices > 1).then(|| prepared.job.clone()),
            echo: prepared.echo.clone(),
            reason: prepared.reason,
            top_logprobs: prepared.top_logprobs,
            voices: (0..choices).map(voice).collect(),
        }
    }

    /// A choice has one more token.
    pub(crate) fn produce(&mut self, choice: u32) -> Said {
        let voice = &mut self.voices[choice as usize];
        let (text, id) = words::token(voice.produced);
        voice.produced += 1;
        let logprobs = self.top_logprobs.map(|top| certain(text, top));
        let logprobs: Vec<TokenLogprob> = logprobs.into_iter().collect();
        match &mut voice.reading {
            None => Said {
                delta: Some(Delta {
                    choice,
                    content: text.to_owned(),
                    logprobs,
                    token_ids: vec![id],
                    ..Delta::default()
                }),
                stopped: false,
            },
            Some(reading) => reading.push(text, id, logprobs),
        }
    }

    /// A choice has all its tokens: what was held back of it, and why it ends.
    pub(crate) fn finish(&mut self, choice: u32) -> (Option<Delta>, FinishReason) {
        match &mut self.voices[choice as usize].reading {
            None => (None, self.reason),
            // Its last token was also the end of such a text.
            Some(reading) if reading.stopped => (None, FinishReason::Stop),
            Some(reading) => (reading.finish(), self.reason),
        }
    }
}

// === impl Reading ===

impl Reading {
    fn new(choice: u32, format: &OutputFormat) -> Self {
        Self {
            output: Output::new(format),
            pieces: Vec::new(),
            unsaid: Delta {
                choice,
                ..Delta::default()
            },
            stopped: false,
        }
    }

    fn push(&mut self, text: &str, id: u32, mut logprobs: Vec<TokenLogprob>) -> Said {
        self.unsaid.token_ids.push(id);
        self.unsaid.logprobs.append(&mut logprobs);
        let progress = self.output.push(text.as_bytes(), &mut self.pieces);
        self.stopped = progress == Progress::Stopped;
        let delta = if self.stopped {
            self.finish()
        } else {
            self.collect();
            (!self.unsaid.is_silent()).then(|| self.say())
        };
        Said {
            delta,
            stopped: self.stopped,
        }
    }

    fn finish(&mut self) -> Option<Delta> {
        self.output.finish(&mut self.pieces);
        self.collect();
        (!self.unsaid.token_ids.is_empty() || !self.unsaid.is_silent()).then(|| self.say())
    }

    fn collect(&mut self) {
        for piece in self.pieces.drain(..) {
            self.unsaid.add(piece);
        }
    }

    fn say(&mut self) -> Delta {
        let next = Delta {
            choice: self.unsaid.choice,
            ..Delta::default()
        };
        std::mem::replace(&mut self.unsaid, next)
    }
}

/// It always says the same: nothing else was ever likely.
fn certain(text: &str, top: usize) -> TokenLogprob {
    let token = || TokenProbability {
        bytes: text.as_bytes().to_vec(),
        logprob: 0.0,
    };
    TokenLogprob {
        token: token(),
        top: (0..top.min(1)).map(|_| token()).collect(),
    }
}

#[cfg(test)]
mod tests;
