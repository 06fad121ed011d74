//! What all requests to the engine share, and whether it is up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::busy::Busy;
use super::dialect::Dialect;
use super::http::Client;
use super::probe::Known;
use crate::config::Config;
use crate::state::{Capacity, State};

/// What all requests share.
pub(super) struct Server {
    pub(super) client: Client,
    pub(super) dialect: Dialect,
    pub(super) model: String,
    pub(super) context_length: u32,
    pub(super) health: &'static str,
    pub(super) has_figures: bool,
    pub(super) capacity: Capacity,
    pub(super) slow_reader_timeout: Duration,
    pub(super) busy: Arc<Busy>,
    pub(super) state: Arc<State>,
    pub(super) up: watch::Sender<bool>,
    /// Rings when a request found it broken.
    pub(super) suspect: Notify,
    pub(super) knows_priority: AtomicBool,
    pub(super) knows_choices: AtomicBool,
    told_uncounted: AtomicBool,
}

// === impl Server ===

impl Server {
    /// A server that is up.
    pub(super) fn new(
        config: &Config,
        client: Client,
        known: Known,
        state: Arc<State>,
        up: watch::Sender<bool>,
    ) -> Self {
        let context_length = config.context_length.unwrap_or(known.context_length);
        let figures = known.figures;
        let capacity = Capacity {
            max_running: u32::try_from(config.max_running).unwrap_or(u32::MAX),
            max_queued: u32::try_from(config.max_queued).unwrap_or(u32::MAX),
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
            health: known.health,
            has_figures: figures.is_some(),
            capacity,
            slow_reader_timeout: config.slow_reader_timeout,
            busy,
            state,
            up,
            suspect: Notify::new(),
            knows_priority: AtomicBool::new(true),
            knows_choices: AtomicBool::new(true),
            told_uncounted: AtomicBool::new(false),
        }
    }

    /// It answers.
    pub(super) fn found(&self) {
        if !*self.up.borrow() {
            tracing::info!("the engine is up again");
            self.state.set_ready(self.capacity);
            self.up.send_replace(true);
        }
    }

    /// It does not answer.
    pub(super) fn lost(&self, why: &str) {
        let note = format!("the engine at {} does not answer: {why}", self.client.url());
        if *self.up.borrow() {
            tracing::error!("{note}");
            self.busy.forget();
            self.state.set_lost(note);
            self.up.send_replace(false);
        } else {
            self.state.set_note(note);
        }
    }

    /// It told no usage: said once, because it will never tell any.
    pub(super) fn warn_uncounted(&self) {
        if !self.told_uncounted.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the engine tells no usage: tokens of answers are counted by their chunks, those of \
                 prompts are estimated"
            );
        }
    }
}
