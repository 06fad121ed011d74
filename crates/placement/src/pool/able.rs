//! The workers that can take a request, during one decision.

use crate::snapshot::Load;
use crate::{Candidate, Cost, Verdict};

/// A worker that can take the current request.
#[derive(Debug)]
pub(super) struct Able {
    pub(super) index: usize,
    /// Its index among the candidates.
    pub(super) row: usize,
    pub(super) load: Load,
    /// Tokens of recent work and of the answers still to produce.
    pub(super) work: f64,
    pub(super) cost: Cost,
    pub(super) weighed: f64,
    pub(super) room: bool,
    pub(super) full: bool,
    pub(super) trusted: bool,
}

/// Leaves out workers that failed several requests or report a failing engine. If that leaves none, all stay: trying
/// one may fail, not trying fails for certain.
pub(super) fn leave_out_untrusted(all: &mut Vec<Able>, candidates: &mut [Candidate]) {
    if all.iter().any(|able| able.trusted) {
        all.retain(|able| {
            if !able.trusted {
                candidates[able.row].verdict = Verdict::Ejected;
            }
            able.trusted
        });
    }
}

/// Gives a worker without measured rates the mean of the others: otherwise it would get no work to measure.
pub(super) fn assume_rates(all: &mut [Able]) {
    let prefill = mean(all.iter().map(|able| able.load.prefill_rate));
    let decode = mean(all.iter().map(|able| able.load.decode_rate));
    for Able { load, .. } in all {
        if load.prefill_rate <= 0.0 {
            load.prefill_rate = prefill;
        }
        if load.decode_rate <= 0.0 {
            load.decode_rate = decode;
        }
    }
}

/// The mean of the measured rates; 0: none measured.
fn mean(rates: impl Iterator<Item = f32>) -> f32 {
    let (mut sum, mut count) = (0.0, 0.0);
    for rate in rates.filter(|rate| *rate > 0.0) {
        sum += rate;
        count += 1.0;
    }
    sum / f32::max(count, 1.0)
}
