//! Stop texts are looked for in the content: those who wait for them read nothing else.

use super::{Piece, search::Search};

/// Cuts an answer where its content has a stop text.
pub(super) struct Stops {
    texts: Search,
    unsearched: Vec<Piece>,
    found: bool,
}

impl Stops {
    /// At the start of an answer.
    pub(super) fn new(texts: &[String]) -> Self {
        Self {
            texts: Search::new(texts.iter().map(String::as_str)),
            unsearched: Vec::new(),
            found: false,
        }
    }

    /// Takes the next pieces of the answer, until `search`.
    pub(super) fn unsearched(&mut self) -> &mut Vec<Piece> {
        &mut self.unsearched
    }

    /// A stop text has come: nothing of the answer counts any more.
    pub(super) fn found(&self) -> bool {
        self.found
    }

    /// Passes on what is certainly before any stop text.
    pub(super) fn search(&mut self, pieces: &mut Vec<Piece>) {
        for piece in self.unsearched.drain(..) {
            match piece {
                Piece::Content(text) => {
                    let scanned = self.texts.push(&text);
                    Piece::content(&scanned.clear, pieces);
                    if scanned.rest.is_some() {
                        self.found = true;
                        return;
                    }
                }
                // A text does not reach over a call: its beginning is passed on before the call.
                other => {
                    Piece::content(&self.texts.finish(), pieces);
                    pieces.push(other);
                }
            }
        }
    }

    /// The end: what was held back is no stop text.
    pub(super) fn finish(&mut self, pieces: &mut Vec<Piece>) {
        Piece::content(&self.texts.finish(), pieces);
    }
}
