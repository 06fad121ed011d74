//! The task that lets the simulated GPU's time pass: each turn of its loop is one step.

use std::sync::Arc;
use std::time::Duration;

use inferyard_engine::event::{Delta, Event, FinishReason};
use inferyard_engine::queue::{Queue, RunState};
use inferyard_engine::rates::Rates;
use inferyard_engine::requests::{Ended, RequestId, Requests, draining};
use inferyard_engine::state::{Load, PrefixChange, State};
use tokio::time::Instant;

use crate::answer::Answer;
use crate::gpu::{self, Gpu, Report};
use crate::prepare::{Job, MOST_CHOICES};

/// Steps that come late by less are made up for: a timer is only so exact. What a busy machine
/// delays by more is lost.
const MADE_UP: Duration = Duration::from_millis(50);

/// All that the task owns.
pub(crate) struct Drive {
    gpu: Gpu,
    queue: Arc<Queue<Job>>,
    state: Arc<State>,
    requests: Requests<Answer>,
    // Choices that are not complete, of all running requests.
    choices: usize,
    // Requests whose event channel is full.
    paused: Vec<RequestId>,
    rates: Rates,
    // Tokens computed.
    worked: u64,
    report: Report,
    // The end of the last step.
    clock: Instant,
}

// === impl Drive ===

impl Drive {
    /// Nothing to do yet.
    pub(crate) fn new(
        gpu: Gpu,
        queue: Arc<Queue<Job>>,
        state: Arc<State>,
        slow_reader_timeout: Duration,
    ) -> Self {
        Self {
            gpu,
            queue,
            requests: Requests::new(slow_reader_timeout, Arc::clone(&state)),
            state,
            choices: 0,
            paused: Vec::new(),
            rates: Rates::default(),
            worked: 0,
            report: Report::default(),
            clock: Instant::now(),
        }
    }

    /// Serves the queue until it is drained or stopped.
    pub(crate) async fn run(mut self) {
        loop {
            self.sweep();
            match self.queue.run_state() {
                RunState::Serve => self.admit(),
                RunState::Drain if self.requests.is_empty() => break,
                RunState::Drain => {}
                RunState::Stop => break self.stop(),
            }
            let step = self.gpu.begin_step();
            self.announce();
            self.publish();
            let Some(time) = step else {
                self.queue.woken(self.next_deadline()).await;
                self.clock = Instant::now();
                continue;
            };
            if self.pass(time).await != RunState::Stop {
                self.end_step(time);
            }
        }
        self.publish();
    }

    /// Lets a step's time pass, unless all is to end now.
    async fn pass(&mut self, time: Duration) -> RunState {
        if time.is_zero() {
            // Whoever reads gets a turn.
            tokio::task::yield_now().await;
            return self.queue.run_state();
        }
        let now = Instant::now();
        if now.duration_since(self.clock) > MADE_UP {
            self.clock = now;
        }
        self.clock += time;
        let mut run_state = self.queue.run_state();
        while run_state != RunState::Stop && Instant::now() < self.clock {
            run_state = self.queue.woken(Some(self.clock)).await;
        }
        run_state
    }

    /// Frees what belongs to requests that are over, for whatever reason, and lets those go on whose
    /// readers have caught up.
    fn sweep(&mut self) {
        let now = Instant::now();
        for job in self.queue.take_overdue(now) {
            self.requests.refuse(job.reply, self.queue.run_state());
        }
        for ended in self.requests.sweep(now) {
            self.release(&ended);
        }
        let (gpu, requests) = (&mut self.gpu, &self.requests);
        self.paused.retain(|request| {
            let paused = requests.is_paused(*request);
            if !paused && let Some(running) = requests.get(*request) {
                for choice in 0..running.own.choices {
                    gpu.pause(sequence(*request, choice), false);
                }
            }
            paused
        });
    }

    fn release(&mut self, ended: &Ended<Answer>) {
        self.choices -= ended.choices_left;
        for choice in 0..ended.own.choices {
            self.gpu.cancel(sequence(ended.request, choice));
        }
    }

    /// Starts the queued requests that the next step can begin with.
    fn admit(&mut self) {
        loop {
            let most = self.gpu.settings().max_running;
            let free = most.saturating_sub(self.choices);
            let gpu = &self.gpu;
            let job = self.queue.take(free, |job| {
                job.prepared.choices <= free && gpu.wants(&job.prepared.job)
            });
            let Some(Job { prepared, reply }) = job else {
                return;
            };
            let answer = Answer::new(&prepared);
            let choices = prepared.choices;
            let request = self
                .requests
                .open(reply, prepared.deadline, choices, answer);
            self.choices += choices;
            self.submit(prepared.job, request, 0);
        }
    }

    fn submit(&mut self, job: gpu::Job, request: RequestId, choice: u32) {
        let id = sequence(request, choice);
        let submitted = self.gpu.submit(gpu::Job { id, ..job });
        submitted.expect("a sequence within the context should fit into the cache");
    }

    /// Tells readers that their prompts are being computed.
    fn announce(&mut self) {
        for (sequence, cached) in self.gpu.admitted() {
            let (request, choice) = request(*sequence);
            // The others share the prompt of the first.
            if choice == 0
                && let Some(running) = self.requests.get_mut(request)
            {
                let prompt_tokens = running.own.prompt_tokens;
                running.admitted(prompt_tokens, *cached);
                if let Some(echo) = running.own.echo.take() {
                    for choice in 0..running.own.choices {
                        running.produced(Delta {
                            choice,
                            content: echo.clone(),
                            ..Delta::default()
                        });
                    }
                }
            }
        }
    }

    /// Passes on what the step brought.
    fn end_step(&mut self, time: Duration) {
        let prefill = self.gpu.step_prefill_tokens();
        let mut report = std::mem::take(&mut self.report);
        let decoded = self.gpu.step_decodes();
        self.gpu.end_step(&mut report);
        self.rates.stepped(prefill as usize, decoded, time);
        self.worked += u64::from(prefill) + report.produced.len() as u64;
        for id in &report.produced {
            self.produce(*id);
        }
        for id in &report.finished {
            let (request, choice) = request(*id);
            if let Some(running) = self.requests.get_mut(request) {
                let (rest, reason) = running.own.finish(choice);
                if let Some(rest) = rest {
                    running.produced(rest);
                }
                running.finished(choice, reason);
                self.choices -= 1;
            }
            // Without a token there was no sign that the prompt is computed.
            self.begin_others(request);
        }
        self.report = report;
    }

    fn produce(&mut self, id: u64) {
        let (request, choice) = request(id);
        let Some(running) = self.requests.get_mut(request) else {
            return;
        };
        let said = running.own.produce(choice);
        running.usage.completion_tokens += 1;
        if let Some(delta) = said.delta {
            running.produced(delta);
        }
        if said.stopped && self.gpu.cancel(id) {
            running.finished(choice, FinishReason::Stop);
            self.choices -= 1;
        }
        if running.is_paused() {
            self.gpu.pause(id, true);
            if !self.paused.contains(&request) {
                self.paused.push(request);
            }
        }
        self.begin_others(request);
    }

    /// The prompt of a request is computed: its other choices share it.
    fn begin_others(&mut self, request: RequestId) {
        let Some(running) = self.requests.get_mut(request) else {
            return;
        };
        let choices = running.own.choices;
        if let Some(job) = running.own.others.take() {
            for choice in 1..choices {
                self.submit(job.clone(), request, choice);
            }
        }
    }

    fn stop(&mut self) {
        self.requests.fail_all(&draining());
        for job in self.queue.take_overdue(Instant::now()) {
            job.reply.end(Event::Failed(draining()));
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        [self.queue.next_deadline(), self.requests.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn publish(&mut self) {
        let load = Load {
            running: self.gpu.running(),
            open: self.requests.len(),
            preempted: self.gpu.queued(),
            prefill_tokens: self.gpu.queued_prefill_tokens(),
            kv_used: self.gpu.kv_used(),
            kv_cached: self.gpu.kv_cached(),
            prefill_rate: self.rates.prefill(),
            decode_rate: self.rates.decode(),
            worked: self.worked,
        };
        let removed = self.report.removed.drain(..).map(PrefixChange::Removed);
        let added = self.report.added.drain(..).map(PrefixChange::Added);
        self.state.set_load(load, removed.chain(added));
    }
}

/// Choices of one request have neighbouring numbers.
const STRIDE: u64 = MOST_CHOICES as u64;

/// The GPU's number of a choice.
fn sequence(request: RequestId, choice: u32) -> u64 {
    request * STRIDE + u64::from(choice)
}

/// Whose choice it is, and which.
fn request(sequence: u64) -> (RequestId, u32) {
    let choice = u32::try_from(sequence % STRIDE);
    (
        sequence / STRIDE,
        choice.expect("a choice should be one of few"),
    )
}
