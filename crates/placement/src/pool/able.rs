//! The workers that could take a request, while it is decided which of them does.

use crate::view::Load;
use crate::{Considered, Cost, Verdict};

/// A worker that could take the request of this moment.
#[derive(Debug)]
pub(super) struct Able {
    pub(super) index: usize,
    /// Among those that are considered.
    pub(super) row: usize,
    pub(super) load: Load,
    /// Tokens of work, of the last minutes and of the answers that run.
    pub(super) work: f64,
    pub(super) cost: Cost,
    pub(super) weighed: f64,
    pub(super) room: bool,
    pub(super) full: bool,
    pub(super) trusted: bool,
}

/// Leaves out workers that failed requests, or say that they would. Where all are such, all stay: a request that
/// is tried may fail, one that is not has failed.
pub(super) fn leave_out_untrusted(all: &mut Vec<Able>, considered: &mut [Considered]) {
    if all.iter().any(|able| able.trusted) {
        all.retain(|able| {
            if !able.trusted {
                considered[able.row].verdict = Verdict::Ejected;
            }
            able.trusted
        });
    }
}

/// A worker without measured rates gets the mean of the others: otherwise it would get no work to measure.
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

/// Of the rates that were measured; 0: none was.
fn mean(rates: impl Iterator<Item = f32>) -> f32 {
    let (mut sum, mut count) = (0.0, 0.0);
    for rate in rates.filter(|rate| *rate > 0.0) {
        sum += rate;
        count += 1.0;
    }
    sum / f32::max(count, 1.0)
}
