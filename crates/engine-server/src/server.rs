//! The state that all requests to the server share, and whether the server is up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use inferyard_engine::state::{Capacity, State};
use tokio::sync::{Notify, watch};

use crate::config::Config;
use crate::dialect::Dialect;
use crate::health::{Condition, Health};
use crate::http::Client;
use crate::load_tracker::LoadTracker;
use crate::server_info::ServerInfo;

/// The state that all requests share.
pub(crate) struct Server {
    pub(crate) client: Client,
    pub(crate) dialect: Dialect,
    pub(crate) model: String,
    pub(crate) context_length: u32,
    pub(crate) health_page: &'static str,
    pub(crate) has_metrics: bool,
    pub(crate) capacity: Capacity,
    pub(crate) slow_reader_timeout: Duration,
    pub(crate) load: Arc<LoadTracker>,
    pub(crate) state: Arc<State>,
    pub(crate) health: Health,
    /// Notified when a request found the server broken: it is probed at once.
    pub(crate) suspect: Notify,
    pub(crate) knows_priority: AtomicBool,
    pub(crate) knows_choices: AtomicBool,
    warned_uncounted: AtomicBool,
    warned_unknown_reason: AtomicBool,
}

// === impl Server ===

impl Server {
    /// A server that is up.
    pub(crate) fn new(
        config: &Config,
        client: Client,
        info: ServerInfo,
        state: Arc<State>,
        condition: watch::Sender<Condition>,
    ) -> Self {
        let context_length = config.limits.context_length.unwrap_or(info.context_length);
        let metrics = info.metrics;
        let capacity = Capacity {
            max_running: u32::try_from(config.limits.max_running).unwrap_or(u32::MAX),
            max_queued: u32::try_from(config.limits.max_queued).unwrap_or(u32::MAX),
            kv_total_tokens: metrics.map_or(0, |metrics| metrics.kv_total),
            context_length,
            // The engine renders its template itself and does not tell what that adds.
            template_tokens: 0,
        };
        tracing::info!(
            dialect = ?info.dialect,
            model = info.model,
            context_length,
            "the engine is up"
        );
        let load = Arc::new(LoadTracker::new(Arc::clone(&state)));
        if let Some(metrics) = metrics {
            load.metrics(metrics);
        }
        Self {
            client,
            dialect: info.dialect,
            model: info.model,
            context_length,
            health_page: info.health,
            has_metrics: metrics.is_some(),
            capacity,
            slow_reader_timeout: config.limits.slow_reader_timeout,
            load,
            state,
            health: Health::new(condition, config.stall_timeout),
            suspect: Notify::new(),
            knows_priority: AtomicBool::new(true),
            knows_choices: AtomicBool::new(true),
            warned_uncounted: AtomicBool::new(false),
            warned_unknown_reason: AtomicBool::new(false),
        }
    }

    /// The health check succeeded.
    pub(crate) fn found(&self) {
        let ready = || self.state.set_ready(self.capacity);
        if self.health.turn(&[Condition::Gone], Condition::Up, ready) {
            tracing::info!("the engine is up again");
        }
    }

    /// The health check failed.
    pub(crate) fn lost(&self, why: &str) {
        let note = format!("the engine at {} does not answer: {why}", self.client.url());
        let lost = || {
            self.load.forget();
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

    /// The engine produced a token, so it does not hang.
    pub(crate) fn progressed(&self) {
        self.health.progressed();
        if self.health.condition() == Condition::Stalled {
            self.recovered();
        }
    }

    /// Checks whether tokens come while requests run.
    pub(crate) fn check_progress(&self) {
        if self.load.sequences() == 0 {
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

    /// The engine answers requests again.
    pub(crate) fn recovered(&self) {
        let ready = || self.state.set_ready(self.capacity);
        let from = [Condition::Failing, Condition::Stalled];
        if self.health.turn(&from, Condition::Up, ready) {
            tracing::info!("the engine answers requests again");
        }
    }

    /// Logs the first unknown finish reason of the engine.
    pub(crate) fn warn_unknown_reason(&self, word: &str) {
        if !self.warned_unknown_reason.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                finish_reason = word,
                "the engine's finish reason is unknown, and counts as stop"
            );
        }
    }

    /// Logs once that the engine tells no usage.
    pub(crate) fn warn_uncounted(&self) {
        if !self.warned_uncounted.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the engine tells no usage: tokens of answers are counted by their chunks, those of \
                 prompts are estimated"
            );
        }
    }
}
