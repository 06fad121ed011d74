//! The last stage: stop texts are searched for in the content, and nowhere else.

use super::{Piece, search::Search};

/// Cuts an answer where its content has a stop text.
pub(super) struct Stops {
    texts: Search,
    found: bool,
}

impl Stops {
    /// At the start of an answer.
    pub(super) fn new(texts: &[String]) -> Self {
        Self {
            texts: Search::new(texts.iter().map(String::as_str)),
            found: false,
        }
    }

    /// Whether a stop text was found: the answer ends before it.
    pub(super) fn found(&self) -> bool {
        self.found
    }

    /// Appends to `pieces` what is certainly before any stop text, and drops what comes after one.
    pub(super) fn search(&mut self, read: impl Iterator<Item = Piece>, pieces: &mut Vec<Piece>) {
        for piece in read {
            if self.found {
                return;
            }
            match piece {
                Piece::Content(text) => {
                    let scanned = self.texts.push(&text);
                    Piece::content(&scanned.clear, pieces);
                    self.found = scanned.rest.is_some();
                }
                // A stop text does not reach over a call: its beginning is passed on before the call.
                other => {
                    Piece::content(&self.texts.finish(), pieces);
                    pieces.push(other);
                }
            }
        }
    }

    /// Ends the answer: what was held back is no stop text.
    pub(super) fn finish(&mut self, pieces: &mut Vec<Piece>) {
        Piece::content(&self.texts.finish(), pieces);
    }
}
