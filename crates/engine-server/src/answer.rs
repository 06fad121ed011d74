//! The chunks of an answer become its events, and its tokens are counted.

mod choice;

use inferyard_chat::output::{Output, OutputFormat};
use inferyard_chat::prompt::ToolFormat;
use inferyard_engine::event::{Delta, Event, Failure, FailureKind, FinishReason, Usage};
use inferyard_engine::request::check_price;
use serde_json::value::RawValue;

use crate::chunk::{Chunk, ChunkChoice, ChunkLogprobs, ChunkUsage};
use crate::refusal;
use crate::upstream_request::ReadOptions;
use crate::wide::Wide;

use choice::{Came, Choice};

/// Characters of an unknown finish reason that are logged: a longer one may be text of the answer.
const LONGEST_WORD: usize = 32;

/// An answer that is being read.
pub(crate) struct Answer {
    choices: Vec<Choice>,
    options: ReadOptions,
    context_length: u32,
    max_prompt_tokens: Option<u32>,
    admitted: bool,
    usage: Usage,
    // The engine has counted the prompt; before, its tokens are an estimate.
    prompt_counted: bool,
    // What the engine says of the whole answer at its end.
    exact: Option<ChunkUsage>,
    // Cached prompt tokens, if the engine tells them.
    cached_tokens: Option<u32>,
    // The last finish reason of the engine that is not in the list of known ones.
    unknown_reason: Option<String>,
    // The engine wrote its last line.
    done: bool,
}

/// Whether the engine told what the answer used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    ByEngine,
    ByChunks,
}

// === impl Answer ===

impl Answer {
    /// Nothing was read yet; `prompt_tokens` is what the prompt has as far as anybody knows.
    pub(crate) fn new(
        choices: usize,
        options: ReadOptions,
        prompt_tokens: u32,
        max_prompt_tokens: Option<u32>,
        context_length: u32,
    ) -> Self {
        let choice = |_| Choice::new(options.calls_in_text.then(|| options.output()));
        Self {
            choices: (0..choices).map(choice).collect(),
            options,
            context_length,
            max_prompt_tokens,
            admitted: false,
            usage: Usage {
                prompt_tokens,
                ..Usage::default()
            },
            prompt_counted: false,
            exact: None,
            cached_tokens: None,
            unknown_reason: None,
            done: false,
        }
    }

    /// What was used so far.
    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }

    /// Prompt tokens that came from the engine's cache, if it tells them.
    pub(crate) fn cached_tokens(&self) -> Option<u32> {
        self.cached_tokens
    }

    /// Whether the engine has begun to answer.
    pub(crate) fn has_begun(&self) -> bool {
        self.admitted
    }

    /// The engine answered fewer times than it was asked to.
    pub(crate) fn lacks_choices(&self) -> bool {
        let seen = self
            .choices
            .iter()
            .filter(|choice| choice.came > Came::Nothing)
            .count();
        (1..self.choices.len()).contains(&seen)
    }

    /// A finish reason of the engine that is not in the list of known ones. It counts as `stop`.
    pub(crate) fn unknown_reason(&self) -> Option<&str> {
        self.unknown_reason.as_deref()
    }

    /// The engine says that there is no more.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// `[DONE]`
    pub(crate) fn done(&mut self) {
        self.done = true;
    }

    /// Reads one chunk and appends its events.
    pub(crate) fn read(&mut self, json: &[u8], events: &mut Vec<Event>) -> Result<(), Failure> {
        let chunk: Chunk = serde_json::from_slice(json).map_err(|_| {
            // What it is could be an answer's text.
            Failure::new(
                FailureKind::Internal,
                "the engine sent what is no chunk of an answer",
            )
        })?;
        if let Some(error) = chunk.error.filter(|error| error.get() != "null") {
            return Err(refusal::of_chunk(
                error.get().as_bytes(),
                self.context_length,
            ));
        }
        let tokens = self.count(&chunk);
        if !self.admitted && (!chunk.choices.is_empty() || chunk.usage.is_some()) {
            if self.prompt_counted {
                // Before it counts as begun: a refused request has used nothing.
                check_price(self.max_prompt_tokens, self.usage.prompt_tokens)?;
            }
            self.admit(events);
        }
        for choice in chunk.choices {
            self.choice(choice, tokens, events)?;
        }
        Ok(())
    }

    /// The stream has ended: appends what is still unsaid. The usage is that of the last event.
    pub(crate) fn end(&mut self, events: &mut Vec<Event>) -> Result<Counted, Failure> {
        let has_ended = |choice: &Choice| choice.stopped || choice.reason.is_some();
        if !self.done && !self.choices.iter().all(has_ended) {
            let message = "the engine's answer broke off";
            return Err(Failure::new(FailureKind::Internal, message));
        }
        if !self
            .choices
            .iter()
            .any(|choice| choice.came > Came::Chunk || has_ended(choice))
        {
            let message = "the engine ended its answer without one";
            return Err(Failure::new(FailureKind::Internal, message));
        }
        if self.choices.iter().any(Choice::only_forbidden_calls) {
            let message = "the engine called a tool that the request does not allow";
            return Err(Failure::new(FailureKind::Internal, message));
        }
        if self.lacks_choices() {
            return Err(one_choice());
        }
        let counted = self.settle();
        for index in 0..self.choices.len() {
            self.finish(index, events);
        }
        Ok(counted)
    }

    /// Takes what the engine says it was over what was counted.
    fn settle(&mut self) -> Counted {
        let Some(exact) = self.exact else {
            return Counted::ByChunks;
        };
        // Some say 0 in every chunk until the last one, which then did not come.
        let completion = exact.completion_tokens.filter(|tokens| *tokens > 0);
        if let Some(prompt) = exact.prompt_tokens {
            self.usage.prompt_tokens = prompt;
        }
        if let Some(cached) = exact.cached_tokens() {
            self.usage.cached_tokens = cached;
            self.cached_tokens = Some(cached);
        }
        if let Some(reasoning) = exact.reasoning_tokens() {
            self.usage.reasoning_tokens = reasoning;
        }
        if let Some(completion) = completion {
            self.usage.completion_tokens = completion;
        }
        // A part is never more than the whole, whatever the engine says.
        let usage = &mut self.usage;
        usage.reasoning_tokens = usage.reasoning_tokens.min(usage.completion_tokens);
        usage.cached_tokens = usage.cached_tokens.min(usage.prompt_tokens);
        if exact.prompt_tokens.is_none() || exact.completion_tokens.is_none() {
            return Counted::ByChunks;
        }
        Counted::ByEngine
    }

    /// How many tokens the chunk's choice has had with it, where the engine says so.
    fn count(&mut self, chunk: &Chunk<'_>) -> Option<u32> {
        let usage = chunk.usage.unwrap_or_default();
        if let Some(timings) = chunk.timings {
            let prompt = timings.computed.unwrap_or_default();
            let prompt = prompt.saturating_add(timings.cached.unwrap_or_default());
            if !self.admitted && prompt > 0 {
                self.prompt_counted = true;
                self.usage.prompt_tokens = prompt;
                self.usage.cached_tokens = timings.cached.unwrap_or_default();
                self.cached_tokens = timings.cached;
            }
        }
        if !self.admitted
            && let Some(prompt) = usage.prompt_tokens.filter(|prompt| *prompt > 0)
        {
            self.prompt_counted = true;
            self.usage.prompt_tokens = prompt;
            self.usage.cached_tokens = usage.cached_tokens().unwrap_or_default().min(prompt);
        }
        // Only the last one is about the whole answer. A stream of one choice may have no other.
        if chunk.usage.is_some() && (chunk.choices.is_empty() || self.choices.len() == 1) {
            self.exact = chunk.usage;
        }
        match chunk.choices.as_slice() {
            [_] => {
                let produced = chunk.timings.and_then(|timings| timings.produced);
                usage.completion_tokens.or(produced)
            }
            _ => None,
        }
    }

    fn admit(&mut self, events: &mut Vec<Event>) {
        self.admitted = true;
        events.push(Event::Admitted {
            prompt_tokens: self.usage.prompt_tokens,
            cached_tokens: self.usage.cached_tokens,
        });
        if let Some(echo) = &self.options.echo {
            for choice in 0..self.choices.len() {
                events.push(Event::Delta(Delta {
                    choice: number(choice),
                    content: echo.clone(),
                    ..Delta::default()
                }));
            }
        }
    }

    fn choice(
        &mut self,
        read: ChunkChoice<'_>,
        tokens: Option<u32>,
        events: &mut Vec<Event>,
    ) -> Result<(), Failure> {
        let index = read.index.unwrap_or_default();
        let Some(choice) = self.choices.get_mut(index).filter(|it| !it.stopped) else {
            return Ok(());
        };
        choice.came = choice.came.max(Came::Chunk);
        let mut delta = Delta {
            choice: number(index),
            ..Delta::default()
        };
        let logprobs = read.logprobs.map(ChunkLogprobs::into_tokens);
        let logprobs = logprobs.unwrap_or_default();
        let likely = number(logprobs.len().max(1));
        choice.logprobs.extend(logprobs);
        let reasons = choice.take(read.delta, read.text, &self.options, &mut delta);
        let new = match tokens.filter(|tokens| *tokens > 0) {
            Some(tokens) => tokens.saturating_sub(choice.counted),
            None if reasons.is_some() => likely,
            None => 0,
        };
        choice.counted = choice.counted.saturating_add(new);
        self.usage.completion_tokens = self.usage.completion_tokens.saturating_add(new);
        if reasons == Some(true) {
            self.usage.reasoning_tokens += new;
        }
        if !delta.is_silent() {
            choice.flush(&mut delta);
            events.push(Event::Delta(delta));
        }
        if let Some(word) = read.finish_reason {
            match finish_reason(word) {
                Ending::Not => {}
                Ending::Known(reason) => choice.reason = Some(reason),
                Ending::Unknown(word) => {
                    choice.reason = Some(FinishReason::Stop);
                    self.unknown_reason = Some(word);
                }
                Ending::GaveUp => {
                    let message = "the engine gave the request up";
                    return Err(Failure::new(FailureKind::Internal, message));
                }
            }
        }
        Ok(())
    }

    /// Ends a choice, when its engine says no more. The last one has the tokens that only the end tells of.
    fn finish(&mut self, index: usize, events: &mut Vec<Event>) {
        let is_last = index + 1 == self.choices.len();
        let choice = &mut self.choices[index];
        let mut delta = Delta {
            choice: number(index),
            ..Delta::default()
        };
        let called = choice.finish(&mut delta);
        choice.flush(&mut delta);
        let reason = choice.reason.unwrap_or(FinishReason::Stop);
        if is_last {
            let emitted: u32 = self.choices.iter().map(|choice| choice.emitted).sum();
            delta.tokens_without_ids += self.usage.completion_tokens.saturating_sub(emitted);
        }
        if !delta.is_silent() || delta.tokens_without_ids > 0 || !delta.logprobs.is_empty() {
            events.push(Event::Delta(delta));
        }
        let reason = match reason {
            FinishReason::Stop | FinishReason::ToolCalls if called => FinishReason::ToolCalls,
            FinishReason::ToolCalls => FinishReason::Stop,
            reason => reason,
        };
        let choice = number(index);
        events.push(Event::ChoiceFinished { choice, reason });
    }
}

// === impl ReadOptions ===

impl ReadOptions {
    /// Whether the reader may hear of a call of this tool.
    pub(crate) fn may_call(&self, name: &str) -> bool {
        let allowed = self.allowed.as_deref();
        allowed.is_none_or(|allowed| allowed.iter().any(|tool| tool == name))
    }

    fn output(&self) -> Output {
        Output::new(&OutputFormat {
            // The one that models and servers without a parser of their own have in common.
            tools: Some(ToolFormat::Hermes),
            parallel_tool_calls: self.parallel_tool_calls,
            allowed_tools: self.allowed.clone(),
            ..OutputFormat::default()
        })
    }
}

/// Some servers know nothing of `n`.
pub(crate) fn one_choice() -> Failure {
    Failure::invalid("n", "This model produces one choice for a request.")
}

/// What a finish reason says about its choice.
enum Ending {
    /// The choice goes on: some servers write this in other ways than `null`.
    Not,
    Known(FinishReason),
    Unknown(String),
    GaveUp,
}

/// Servers have words of their own for it.
fn finish_reason(json: &RawValue) -> Ending {
    let word = serde_json::from_str(json.get()).map(Wide::whole);
    let Ok(word) = word else { return Ending::Not };
    let word = word.trim();
    Ending::Known(match word.to_ascii_lowercase().as_str() {
        "" | "null" | "none" => return Ending::Not,
        "stop" | "eos" | "eos_token" | "end_turn" | "stop_sequence" | "stop_token" => {
            FinishReason::Stop
        }
        "length" | "max_tokens" | "model_length" => FinishReason::Length,
        "tool_calls" | "function_call" | "tool_use" => FinishReason::ToolCalls,
        "content_filter" => FinishReason::ContentFilter,
        "abort" | "error" => return Ending::GaveUp,
        _ => return Ending::Unknown(word.chars().take(LONGEST_WORD).collect()),
    })
}

fn number(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}
