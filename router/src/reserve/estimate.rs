//! How many tokens a prompt has, before its worker has counted them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::ArcSwap;

use crate::catalog::Catalog;

/// Before anything is known of a model: four bytes of text.
const FIRST: f32 = 0.25;
/// A prompt of so many bytes moves the average half way: short ones are mostly template.
const WEIGHT: f32 = 16_384.0;
/// Beyond these lies no text, only a broken count.
const SANE: std::ops::RangeInclusive<f32> = 0.01..=2.0;

/// What was learnt of the models that the catalog names.
#[derive(Debug, Default)]
pub(crate) struct Estimates {
    by_model: ArcSwap<HashMap<Arc<str>, Arc<Ratio>>>,
}

/// Tokens per byte of a prompt, a moving average over the prompts that a model was sent.
#[derive(Debug)]
pub(crate) struct Ratio(AtomicU32);

// === impl Estimates ===

impl Estimates {
    /// Follows the models of a new catalog; what was learnt of those that stay, stays.
    pub(crate) fn update(&self, catalog: &Catalog) {
        let old = self.by_model.load();
        let new = catalog.models.keys().map(|model| {
            let ratio = old.get(model).cloned().unwrap_or_default();
            (Arc::clone(model), ratio)
        });
        self.by_model.store(Arc::new(new.collect()));
    }

    /// What is known of a model.
    pub(crate) fn of(&self, model: &str) -> Arc<Ratio> {
        self.by_model.load().get(model).cloned().unwrap_or_default()
    }
}

// === impl Ratio ===

impl Ratio {
    /// How many tokens so many bytes are, rounded up.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate of a body's size"
    )]
    pub(crate) fn tokens(&self, bytes: u64) -> u64 {
        (bytes as f32 * self.get()).ceil() as u64
    }

    /// Takes in what a prompt of so many bytes was counted as. Of two at the same time one may be
    /// forgotten.
    #[expect(clippy::cast_precision_loss, reason = "an estimate of a body's size")]
    pub(crate) fn learn(&self, bytes: u64, tokens: u64) {
        if bytes == 0 {
            return;
        }
        let (bytes, tokens) = (bytes as f32, tokens as f32);
        let old = self.get();
        let new = old + (tokens / bytes - old) * bytes / (bytes + WEIGHT);
        let new = new.clamp(*SANE.start(), *SANE.end());
        self.0.store(new.to_bits(), Ordering::Relaxed);
    }

    fn get(&self) -> f32 {
        f32::from_bits(self.0.load(Ordering::Relaxed))
    }
}

impl Default for Ratio {
    fn default() -> Self {
        Self(AtomicU32::new(FIRST.to_bits()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Model;

    #[test]
    fn it_begins_at_four_bytes_and_moves_to_what_is_counted() {
        let ratio = Ratio::default();
        assert_eq!(ratio.tokens(4_000), 1_000);
        assert_eq!(ratio.tokens(1), 1);
        for _ in 0..200 {
            ratio.learn(8_192, 4_096);
        }
        assert!((1_990..=2_000).contains(&ratio.tokens(4_000)));
        // One short prompt, half of which is template, moves it little.
        ratio.learn(40, 40);
        assert!((1_990..=2_020).contains(&ratio.tokens(4_000)));
    }

    #[test]
    fn nonsense_does_not_spoil_it() {
        let ratio = Ratio::default();
        ratio.learn(0, 5);
        assert_eq!(ratio.tokens(4_000), 1_000);
        ratio.learn(1 << 30, u64::MAX);
        assert!(ratio.tokens(1_000) <= 2_000);
        ratio.learn(1 << 30, 0);
        assert!(ratio.tokens(1_000) >= 10);
    }

    #[test]
    fn a_model_that_stays_keeps_what_was_learnt() {
        let catalog = |names: &[&str]| {
            let mut catalog = Catalog::default();
            for name in names {
                let model = Model {
                    name: (*name).into(),
                    created: 0,
                    workers: vec![],
                };
                catalog.models.insert((*name).into(), Arc::new(model));
            }
            catalog
        };
        let estimates = Estimates::default();
        estimates.update(&catalog(&["one", "two"]));
        estimates.of("one").learn(1 << 20, 1 << 20);
        estimates.of("two").learn(1 << 20, 1 << 20);
        estimates.update(&catalog(&["one"]));
        assert!(estimates.of("one").tokens(1_000) > 900);
        assert_eq!(estimates.of("two").tokens(1_000), 250);
    }
}
