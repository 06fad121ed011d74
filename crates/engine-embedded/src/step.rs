//! The engine's thread: each turn of its loop computes one step of the running batch.

mod slots;

use std::collections::VecDeque;
use std::sync::Arc;

use inferyard_engine::event::{Event, Failure, FailureKind};
use inferyard_engine::queue::{Queue, RunState};
use inferyard_engine::rates::Rates;
use inferyard_engine::requests::{Requests, draining};
use inferyard_engine::state::{Load, State};
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::config::Config;
use crate::job::Job;
use crate::kv::{Action, KvAllocator};
use crate::load::{LoadError, Model};
use crate::sample::Scratch;
use crate::schedule::{self, BatchPlan};

use slots::{Preempted, Prefix, Sequence};

/// Loads the model, says so, and serves it until the queue says otherwise.
pub(crate) fn serve(
    config: &Config,
    state: &Arc<State>,
    queue: &Arc<Queue<Job>>,
    loaded: oneshot::Sender<Result<Arc<Model>, LoadError>>,
) {
    let model = match Model::load(config, state, queue) {
        Ok(model) => Arc::new(model),
        Err(error) => return drop(loaded.send(Err(error))),
    };
    let context = match model.context() {
        Ok(context) => context,
        Err(error) => return drop(loaded.send(Err(error))),
    };
    let limits = model.limits;
    let engine = Engine {
        model: &model,
        context,
        batch: LlamaBatch::new(limits.batch_tokens, 1),
        allocator: KvAllocator::new(limits.kv_tokens, limits.max_cached_tokens, limits.sequences)
            .with_window(limits.window),
        requests: Requests::new(config.limits.slow_reader_timeout, Arc::clone(state)),
        sequences: Vec::new(),
        preempted: VecDeque::new(),
        rates: Rates::default(),
        worked: 0,
        scratch: Scratch::default(),
        queue,
        state,
    };
    if loaded.send(Ok(Arc::clone(&model))).is_ok() {
        engine.run();
    }
}

struct Engine<'m> {
    model: &'m Model,
    context: LlamaContext<'m>,
    batch: LlamaBatch<'static>,
    allocator: KvAllocator,
    requests: Requests<Prefix>,
    // In the running batch.
    sequences: Vec<Sequence>,
    // They are scheduled before anything new is admitted, oldest first.
    preempted: VecDeque<Preempted>,
    rates: Rates,
    // Tokens computed.
    worked: u64,
    scratch: Scratch,
    queue: &'m Queue<Job>,
    state: &'m State,
}

// === impl Engine ===

impl Engine<'_> {
    fn run(mut self) {
        loop {
            self.sweep();
            match self.queue.run_state() {
                RunState::Serve => self.admit(),
                RunState::Drain if self.requests.is_empty() => break,
                RunState::Drain => {}
                RunState::Stop => break self.stop(),
            }
            self.reschedule();
            let worked = self.step();
            self.publish();
            if !worked {
                self.queue.wait(self.next_deadline());
            }
        }
        self.publish();
    }

    /// Computes one step: the next token of every answer, and a part of the prompts.
    fn step(&mut self) -> bool {
        let plan = self.plan();
        let tokens: usize = plan.tokens.iter().sum();
        if tokens == 0 {
            return false;
        }
        let started = Instant::now();
        let reserved = self.allocator.reserve(tokens);
        debug_assert!(
            reserved,
            "a plan should fit into the cells that are available"
        );
        let mut answers = 0;
        let mut done = Vec::new();
        for pass in schedule::passes(&plan.tokens, self.model.limits.batch_mode) {
            match self.compute(&pass, &plan.tokens) {
                Ok(rows) => {
                    answers += rows.len();
                    self.sample(&rows, &mut done);
                }
                Err(error) => {
                    self.broke(&error);
                    return true;
                }
            }
        }
        self.remove(done);
        let prompts = plan.tokens.iter().filter(|tokens| **tokens > 1).sum();
        let decoded = answers > 0 && plan.tokens.contains(&1);
        self.rates.stepped(prompts, decoded, started.elapsed());
        self.worked += plan.tokens.iter().map(|tokens| *tokens as u64).sum::<u64>();
        true
    }

    /// Plans the step. If the cache is full, answers are preempted, the youngest first.
    fn plan(&mut self) -> BatchPlan {
        loop {
            let remaining: Vec<usize> = self
                .sequences
                .iter()
                .map(|sequence| {
                    let is_paused = self.requests.is_paused(sequence.answer.request);
                    if is_paused { 0 } else { sequence.remaining() }
                })
                .collect();
            let batch = self.model.limits.batch_tokens;
            let plan = schedule::plan(&remaining, batch, self.allocator.available());
            if !plan.starved {
                return plan;
            }
            self.preempt();
        }
    }

    /// Puts the planned tokens of some sequences into the batch and computes it. Returns which row of the result belongs
    /// to which sequence.
    fn compute(&mut self, pass: &[usize], tokens: &[usize]) -> Result<Vec<(usize, i32)>, String> {
        self.batch.clear();
        let mut rows = Vec::new();
        for &index in pass {
            let sequence = &mut self.sequences[index];
            let end = sequence.computed + tokens[index];
            let chunk = &sequence.answer.tokens[sequence.computed..end];
            self.allocator.extend(sequence.slot, chunk);
            let is_last = end == sequence.answer.tokens.len();
            for (position, token) in (sequence.computed..end).zip(chunk) {
                let logits = is_last && position + 1 == end;
                if logits {
                    rows.push((index, self.batch.n_tokens()));
                }
                self.batch
                    .add(
                        LlamaToken(*token),
                        number(position),
                        &[number(sequence.slot)],
                        logits,
                    )
                    .map_err(|error| error.to_string())?;
            }
            sequence.computed = end;
        }
        self.apply_actions()?;
        self.context
            .decode(&mut self.batch)
            .map_err(|error| error.to_string())?;
        let context = &self.context;
        self.allocator.update_first_held(|slot| {
            // -1: it holds nothing yet.
            usize::try_from(context.kv_cache_seq_pos_min(number(slot))).unwrap_or(0)
        });
        Ok(rows)
    }

    /// Chooses the next token of every answer whose tokens are all computed, and notes which of them
    /// are complete. New answers are added behind the others, whose indices stay as they are.
    fn sample(&mut self, rows: &[(usize, i32)], done: &mut Vec<usize>) {
        let mut forked = Vec::new();
        for (index, row) in rows {
            let logits = self.context.get_logits_ith(*row);
            let sequence = &mut self.sequences[*index];
            for choice in std::mem::take(&mut sequence.answer.forks) {
                let fork = sequence.fork(choice, &mut self.allocator);
                forked.push((fork, *row));
            }
            if advance(
                sequence,
                self.model,
                logits,
                &mut self.scratch,
                &mut self.requests,
            ) {
                done.push(*index);
            }
        }
        for (mut fork, row) in forked {
            let logits = self.context.get_logits_ith(row);
            if advance(
                &mut fork,
                self.model,
                logits,
                &mut self.scratch,
                &mut self.requests,
            ) {
                self.release(fork.slot);
            } else {
                self.sequences.push(fork);
            }
        }
        self.requests.settle();
    }

    /// Takes complete answers out of the running batch.
    fn remove(&mut self, mut done: Vec<usize>) {
        done.sort_unstable();
        for index in done.into_iter().rev() {
            let sequence = self.sequences.remove(index);
            self.release(sequence.slot);
        }
    }

    /// Ends requests that are cancelled, abandoned or overdue, and frees their slots.
    fn sweep(&mut self) {
        let now = Instant::now();
        for job in self.queue.take_overdue(now) {
            self.requests.refuse(job.reply, self.queue.run_state());
        }
        self.requests.sweep(now);
        self.drop_orphans();
    }

    /// A step failed: the content of the cache is unknown, so all running requests fail.
    fn broke(&mut self, error: &str) {
        tracing::error!(
            error,
            "the engine could not compute a step; its requests fail"
        );
        self.context.clear_kv_cache();
        self.allocator.clear();
        self.sequences.clear();
        self.preempted.clear();
        self.requests.fail_all(&Failure::new(
            FailureKind::Internal,
            format!("the engine could not compute a step: {error}"),
        ));
    }

    fn stop(&mut self) {
        self.requests.fail_all(&draining());
        self.drop_orphans();
        for job in self.queue.take_overdue(Instant::now()) {
            job.reply.end(Event::Failed(draining()));
        }
    }

    fn apply_actions(&mut self) -> Result<(), String> {
        for action in self.allocator.take_actions() {
            match action {
                Action::Share { from, to, length } => self
                    .context
                    .copy_kv_cache_seq(number(from), number(to), Some(0), Some(number(length)))
                    .map_err(|error| error.to_string())?,
                Action::Clear(slot) => {
                    self.context
                        .clear_kv_cache_seq(Some(number(slot)), None, None)
                        .map_err(|error| error.to_string())?;
                }
            }
        }
        Ok(())
    }

    fn next_deadline(&self) -> Option<Instant> {
        [self.queue.next_deadline(), self.requests.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn publish(&mut self) {
        let prefill = |remaining: usize| if remaining > 1 { remaining as u64 } else { 0 };
        let load = Load {
            running: self.running(),
            open: self.requests.len(),
            preempted: self.preempted.len(),
            prefill_tokens: self
                .sequences
                .iter()
                .map(|s| prefill(s.remaining()))
                .sum::<u64>()
                + self
                    .preempted
                    .iter()
                    .map(|a| a.tokens.len() as u64)
                    .sum::<u64>(),
            kv_used: self.allocator.used() as u64,
            kv_cached: self.allocator.cached() as u64,
            prefill_rate: self.rates.prefill(),
            decode_rate: self.rates.decode(),
            worked: self.worked,
        };
        self.state
            .set_load(load, self.allocator.take_changes().into_iter());
    }
}

/// Adds one token to an answer; true: the answer is complete, or its request has failed.
fn advance(
    sequence: &mut Sequence,
    model: &Model,
    logits: &[f32],
    scratch: &mut Scratch,
    requests: &mut Requests<Prefix>,
) -> bool {
    let answer = &mut sequence.answer;
    let Some(running) = requests.get_mut(answer.request) else {
        return true;
    };
    let usage = &mut running.usage;
    match answer.choice.step(model, logits, scratch, usage) {
        Ok(step) => {
            answer.tokens.push(number(step.token));
            if let Some(delta) = step.delta {
                running.produced(delta);
            }
            if let Some(reason) = step.finished {
                running.finished(answer.choice.index, reason);
            }
            step.finished.is_some()
        }
        Err(error) => {
            let failure = answer.choice.failure(&error);
            requests.fail(answer.request, failure);
            true
        }
    }
}

/// Positions, slots and tokens are far below the limits of llama.cpp's numbers.
fn number<A, B>(number: A) -> B
where
    B: TryFrom<A>,
    B::Error: std::fmt::Debug,
{
    B::try_from(number).expect("a position, slot or token should fit into 32 bits")
}
