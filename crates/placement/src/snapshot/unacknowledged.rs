//! The requests of this router that a worker's state may not include yet.

use std::sync::Arc;

use crate::{Moment, Work};

/// Requests that were sent to one worker.
#[derive(Debug, Default)]
pub(super) struct Unacknowledged(Vec<Request>);

#[derive(Debug)]
struct Request {
    serial: u64,
    at: Moment,
    prefill_tokens: u64,
    sequences: u32,
    /// The worker's state includes it.
    seen: bool,
    /// Its prompt's blocks, until they are computed: the worker will hold them, but does not report them yet.
    blocks: Option<Arc<[u64]>>,
}

// === impl Unacknowledged ===

impl Unacknowledged {
    /// A request is about to be sent to the worker, which holds `cached_blocks` blocks of its prompt.
    pub(super) fn add(&mut self, serial: u64, work: &Work, cached_blocks: usize, now: Moment) {
        self.0.push(Request {
            serial,
            at: now,
            prefill_tokens: work.uncached_tokens(cached_blocks),
            sequences: work.sequences,
            seen: false,
            blocks: Some(Arc::clone(&work.blocks)).filter(|blocks| !blocks.is_empty()),
        });
    }

    /// The worker's state includes what was sent up to `until`.
    pub(super) fn seen(&mut self, until: Moment) {
        for request in &mut self.0 {
            request.seen |= request.at <= until;
        }
        self.0.retain(|request| !request.is_over());
    }

    /// The prompt of a request is computed.
    pub(super) fn begun(&mut self, serial: u64) {
        if let Some(request) = self.0.iter_mut().find(|request| request.serial == serial) {
            request.blocks = None;
            request.prefill_tokens = 0;
        }
        self.0.retain(|request| !request.is_over());
    }

    /// A request has ended.
    pub(super) fn ended(&mut self, serial: u64) {
        self.0.retain(|request| request.serial != serial);
    }

    /// Prompt tokens and sequences that the state does not include.
    pub(super) fn unseen(&self) -> (u64, u64) {
        let unseen = self.0.iter().filter(|request| !request.seen);
        unseen.fold((0, 0), |(tokens, sequences), request| {
            let sequences = sequences + u64::from(request.sequences);
            (tokens + request.prefill_tokens, sequences)
        })
    }

    /// Blocks at the beginning of this chain that the worker will hold once all sent prompts are computed.
    pub(super) fn covered(&self, blocks: &[u64]) -> usize {
        let coming = self
            .0
            .iter()
            .filter_map(|request| request.blocks.as_deref());
        coming.map(|other| shared(other, blocks)).max().unwrap_or(0)
    }
}

// === impl Request ===

impl Request {
    /// The worker's state includes everything about it.
    fn is_over(&self) -> bool {
        self.seen && self.blocks.is_none()
    }
}

/// How many blocks two chains share, by binary search: a block's hash covers all blocks before it, so equal hashes
/// mean equal beginnings.
fn shared(one: &[u64], other: &[u64]) -> usize {
    let most = one.len().min(other.len());
    if most == 0 || one[0] != other[0] {
        return 0;
    }
    let (mut same, mut differ) = (1, most + 1);
    while differ - same > 1 {
        let middle = same + (differ - same) / 2;
        if one[middle - 1] == other[middle - 1] {
            same = middle;
        } else {
            differ = middle;
        }
    }
    same
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_share_what_stands_before_their_first_difference() {
        let one: Vec<u64> = (0..50).collect();
        for length in 0..=50 {
            let mut other = one[..length].to_vec();
            assert_eq!(shared(&one, &other), length);
            other.extend(100..120);
            assert_eq!(shared(&one, &other), length);
            assert_eq!(shared(&other, &one), length);
        }
    }
}
