//! What all requests to the engine share, and whether it is up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use inferyard_engine::state::{Capacity, State};
use tokio::sync::{Notify, watch};

use crate::config::Config;
use crate::dialect::Dialect;
use crate::health::{Condition, Health};
use crate::http::Client;
use crate::load_tracker::Busy;
use crate::server_info::Known;

/// What all requests share.
pub(crate) struct Server {
    pub(crate) client: Client,
    pub(crate) dialect: Dialect,
    pub(crate) model: String,
    pub(crate) context_length: u32,
    pub(crate) health_page: &'static str,
    pub(crate) has_figures: bool,
    pub(crate) capacity: Capacity,
    pub(crate) slow_reader_timeout: Duration,
    pub(crate) busy: Arc<Busy>,
    pub(crate) state: Arc<State>,
    pub(crate) health: Health,
    /// Rings when a request found it broken.
    pub(crate) suspect: Notify,
    pub(crate) knows_priority: AtomicBool,
    pub(crate) knows_choices: AtomicBool,
    told_uncounted: AtomicBool,
    told_unknown_reason: AtomicBool,
}

// === impl Server ===

impl Server {
    /// A server that is up.
    pub(crate) fn new(
        config: &Config,
        client: Client,
        known: Known,
        state: Arc<State>,
        condition: watch::Sender<Condition>,
    ) -> Self {
        let context_length = config.limits.context_length.unwrap_or(known.context_length);
        let figures = known.figures;
        let capacity = Capacity {
            max_running: u32::try_from(config.limits.max_running).unwrap_or(u32::MAX),
            max_queued: u32::try_from(config.limits.max_queued).unwrap_or(u32::MAX),
            kv_total_tokens: figures.map_or(0, |figures| figures.kv_total),
            context_length,
            // The engine renders its template itself and does not tell what that adds.
            template_tokens: 0,
        };
        tracing::info!(
            dialect = ?known.dialect,
            model = known.model,
            context_length,
            "the engine is up"
        );
        let busy = Arc::new(Busy::new(Arc::clone(&state)));
        if let Some(figures) = figures {
            busy.figures(figures);
        }
        Self {
            client,
            dialect: known.dialect,
            model: known.model,
            context_length,
            health_page: known.health,
            has_figures: figures.is_some(),
            capacity,
            slow_reader_timeout: config.limits.slow_reader_timeout,
            busy,
            state,
            health: Health::new(condition, config.stall_timeout),
            suspect: Notify::new(),
            knows_priority: AtomicBool::new(true),
            knows_choices: AtomicBool::new(true),
            told_uncounted: AtomicBool::new(false),
            told_unknown_reason: AtomicBool::new(false),
        }
    }

    /// It says that it is up.
    pub(crate) fn found(&self) {
        let ready = || self.state.set_ready(self.capacity);
        if self.health.turn(&[Condition::Gone], Condition::Up, ready) {
            tracing::info!("the engine is up again");
        }
    }

    /// It does not answer, or does not say that it is up.
    pub(crate) fn lost(&self, why: &str) {
        let note = format!("the engine at {} does not answer: {why}", self.client.url());
        let lost = || {
            self.busy.forget();
            self.state.set_lost(note.clone());
        };
        let from = [Condition::Up, Condition::Failing, Condition::Stalled];
        if self.health.turn(&from, Condition::Gone, lost) {
            tracing::error!("{note}");
        } else {
            self.state.set_note(note);
        }
    }

    /// A request was answered completely.
    pub(crate) fn succeeded(&self) {
        self.health.succeeded();
        if self.health.condition().is_unhealthy() {
            self.recovered();
        }
    }

    /// The engine, not the request, is at fault for a failure.
    pub(crate) fn failed(&self, why: &str) {
        if let Some(failures) = self.health.failed() {
            let how = format!("failed {failures} requests in a row: {why}");
            self.turn_unhealthy(Condition::Failing, &how);
        }
    }

    /// A token came, which an engine that hangs does not produce.
    pub(crate) fn progressed(&self) {
        self.health.progressed();
        if self.health.condition() == Condition::Stalled {
            self.recovered();
        }
    }

    /// Looks whether tokens come while requests run.
    pub(crate) fn check_progress(&self) {
        if self.busy.sequences() == 0 {
            return;
        }
        if let Some(silent) = self.health.stalled() {
            let seconds = silent.as_secs();
            let how = format!("produced no token for {seconds} s while requests run");
            self.turn_unhealthy(Condition::Stalled, &how);
        }
    }

    fn turn_unhealthy(&self, condition: Condition, how: &str) {
        let note = format!("the engine at {} {how}", self.client.url());
        let unhealthy = || self.state.set_unhealthy(note.clone());
        if self.health.turn(&[Condition::Up], condition, unhealthy) {
            tracing::error!("{note}");
        }
    }

    /// It answers requests again.
    pub(crate) fn recovered(&self) {
        let ready = || self.state.set_ready(self.capacity);
        let from = [Condition::Failing, Condition::Stalled];
        if self.health.turn(&from, Condition::Up, ready) {
            tracing::info!("the engine answers requests again");
        }
    }

    /// Logs the first unknown finish reason of the engine.
    pub(crate) fn warn_unknown_reason(&self, word: &str) {
        if !self.told_unknown_reason.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                finish_reason = word,
                "the engine's finish reason is unknown, and counts as stop"
            );
        }
    }

    /// It told no usage: said once, because it will never tell any.
    pub(crate) fn warn_uncounted(&self) {
        if !self.told_uncounted.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the engine tells no usage: tokens of answers are counted by their chunks, those of \
                 prompts are estimated"
            );
        }
    }
}
