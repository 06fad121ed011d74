//! Where a text can be cut without a change of its tokens: behind special tokens that nothing disputes.
//!
//! llama.cpp takes special tokens out of a text in the order of their length, the longest first, and
//! tokenizes what lies between them. An occurrence that no other one crosses or contains is therefore
//! taken for sure, and what lies before and behind it never meets.

use std::collections::VecDeque;

use aho_corasick::{AhoCorasick, FindOverlappingIter, Match};

/// Finds the special tokens of a vocabulary in texts.
pub(super) struct Cuts {
    // None: no text can be cut.
    finder: Option<AhoCorasick>,
    longest: usize,
}

/// The ends of a text's pieces, the end of the text last.
pub(super) struct Ends<'t> {
    matches: Option<FindOverlappingIter<'t, 't>>,
    longest: usize,
    // Where all matches end that are still to come, or later.
    seen: usize,
    clusters: VecDeque<Cluster>,
    least: usize,
    start: usize,
    length: usize,
    is_over: bool,
}

/// Occurrences that overlap.
struct Cluster {
    start: usize,
    end: usize,
    // One of them contains all others.
    is_one: bool,
}

// === impl Cuts ===

impl Cuts {
    /// Every text is one piece.
    pub(super) fn none() -> Self {
        Self {
            finder: None,
            longest: 0,
        }
    }

    /// Pieces end behind these special tokens.
    pub(super) fn behind(special: &[&[u8]]) -> Self {
        if special.is_empty() {
            return Self::none();
        }
        Self {
            // It fails only where there are more of them than a vocabulary has tokens.
            finder: AhoCorasick::new(special).ok(),
            longest: special.iter().map(|text| text.len()).max().unwrap_or(0),
        }
    }

    /// The pieces of a text: one, if it has no more than `short` bytes, else of at least `least` bytes
    /// each but the last.
    pub(super) fn ends<'t>(&'t self, text: &'t [u8], short: usize, least: usize) -> Ends<'t> {
        let finder = self.finder.as_ref().filter(|_| text.len() > short);
        Ends {
            matches: finder.map(|finder| finder.find_overlapping_iter(text)),
            longest: self.longest,
            seen: 0,
            clusters: VecDeque::new(),
            least,
            start: 0,
            length: text.len(),
            is_over: false,
        }
    }
}

// === impl Ends ===

impl Iterator for Ends<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.is_over {
            return None;
        }
        loop {
            if let Some(end) = self.next_cut() {
                self.start = end;
                return Some(end);
            }
            let Some(found) = self.matches.as_mut().and_then(Iterator::next) else {
                break;
            };
            self.seen = found.end();
            self.add(found);
        }
        // No match will come any more.
        self.matches = None;
        self.seen = usize::MAX;
        let end = self.next_cut();
        self.is_over = end.is_none();
        self.start = end.unwrap_or(self.length);
        Some(self.start)
    }
}

impl Ends<'_> {
    /// The next cut among the clusters that no later match can reach.
    fn next_cut(&mut self) -> Option<usize> {
        loop {
            let first = self.clusters.front()?;
            // A match that is still to come ends at `seen` at the earliest.
            if first.end > self.seen.saturating_sub(self.longest) {
                return None;
            }
            let Cluster { end, is_one, .. } = self.clusters.pop_front()?;
            if is_one && end - self.start >= self.least && end < self.length {
                return Some(end);
            }
        }
    }

    /// Matches come in the order of their ends.
    fn add(&mut self, found: Match) {
        let mut new = Cluster {
            start: found.start(),
            end: found.end(),
            is_one: true,
        };
        while let Some(last) = self.clusters.pop_back_if(|last| last.end > new.start) {
            if last.start >= new.start {
                // All of it lies within the new one.
                continue;
            }
            new.is_one = last.is_one && last.end == new.end;
            new.start = last.start;
        }
        self.clusters.push_back(new);
    }
}

#[cfg(test)]
mod tests;
