//! The text of a prompt becomes tokens, piece by piece: in linear time, and stoppable between pieces.
//!
//! llama.cpp looks for the texts of special tokens in the whole prompt and walks the list of all that it
//! has found for each new one, so its time grows with the square of their number. The pieces here end
//! where a special token ends, which separates the texts on both sides: their tokens, one after the
//! other, are the tokens of the whole.

mod cuts;

use std::num::NonZeroUsize;
use std::ops::Range;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token_type::LlamaTokenAttr;
use llama_cpp_2::vocab::{LlamaVocab, VocabType};

use crate::kv::Token;

use cuts::Cuts;

/// A shorter text is one piece.
const SHORT: usize = 4 * 1024;
/// A piece has at least this many bytes, where the text has more.
const PIECE: usize = 1024;
/// llama.cpp adds at most a few tokens of its own to a text.
const ROOM: usize = 16;
/// The character that stands for a space in vocabularies that escape white space.
const SPACE: &[u8] = "\u{2581}".as_bytes();

/// How a model's texts are cut and counted.
pub(crate) struct Tokenizer {
    // For plain text, in which control tokens are not recognized.
    plain: Cuts,
    // For a rendered conversation, in which control tokens are recognized.
    marked: Cuts,
    // For a prompt that the caller wrote whole: the same, but what the model adds is added once.
    written: Cuts,
    // A control token can take the white space beside it.
    strips: bool,
    // Bytes of the longest token. None: a token can stand for any number of bytes.
    longest: Option<NonZeroUsize>,
}

/// A prompt, and where texts of control tokens are those tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Text<'t> {
    /// A rendered conversation, in which they are, but in its `plain` parts. Its template has written the
    /// token that begins a prompt.
    Rendered {
        text: &'t str,
        plain: &'t [Range<usize>],
    },
    /// A prompt without a template, in which they are. The model's own beginning is put before it.
    Written(&'t str),
}

/// A part of a prompt.
struct Part {
    range: Range<usize>,
    // Texts of control tokens are those tokens.
    markers: bool,
}

/// Why a text was not tokenized.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TokenizeError<E> {
    /// It has more tokens than allowed.
    TooLong {
        /// A lower bound of its tokens.
        at_least: usize,
    },
    /// It was stopped between two pieces.
    Stopped(E),
}

// === impl Tokenizer ===

impl Tokenizer {
    /// Reads the special tokens of a model. `bytes`: those of each of its tokens.
    pub(crate) fn new<'b>(llama: &LlamaModel, bytes: impl Fn(LlamaToken) -> &'b [u8]) -> Self {
        let vocab = llama.vocab();
        let is_separable = matches!(vocab.vocab_type(), VocabType::SPM | VocabType::BPE);
        let mut control = Vec::new();
        let mut own = Vec::new();
        let mut longest = 0;
        let mut strips = false;
        for token in (0..vocab.n_tokens()).map(LlamaToken) {
            let (attributes, bytes) = (vocab.attr(token), bytes(token));
            // Such a token takes the white space beside it, as much as there is.
            strips |= attributes.intersects(LlamaTokenAttr::LStrip | LlamaTokenAttr::RStrip);
            longest = longest.max(most_bytes(&vocab, token, bytes));
            if bytes.is_empty() {
                continue;
            }
            if attributes.contains(LlamaTokenAttr::UserDefined) {
                own.push(bytes);
            } else if attributes.intersects(LlamaTokenAttr::Control | LlamaTokenAttr::Unknown) {
                control.push(bytes);
            }
        }
        if strips || !is_separable {
            return Self {
                plain: Cuts::none(),
                marked: Cuts::none(),
                written: Cuts::none(),
                strips,
                longest: None,
            };
        }
        let all = [own.as_slice(), &control].concat();
        // What the model adds behind a text would be added behind its first piece.
        let ends = vocab.should_add_eos() || vocab.should_add_sep();
        Self {
            plain: Cuts::behind(&own),
            marked: Cuts::behind(&all),
            written: if ends {
                Cuts::none()
            } else {
                Cuts::behind(&all)
            },
            strips,
            longest: NonZeroUsize::new(longest),
        }
    }

    /// A lower bound of the tokens of any text of `bytes` bytes.
    pub(crate) fn at_least(&self, bytes: usize) -> usize {
        self.longest
            .map_or(0, |longest| bytes.div_ceil(longest.get()))
    }

    /// The most bytes that `tokens` tokens can stand for.
    pub(crate) fn most_bytes(&self, tokens: usize) -> usize {
        self.longest
            .map_or(usize::MAX, |longest| tokens.saturating_mul(longest.get()))
    }

    /// The tokens of a text. `go_on` is called with the number of bytes of each piece before the piece is
    /// tokenized.
    ///
    /// # Errors
    ///
    /// The text has more than `most` tokens and that shows before its end, or `go_on` refuses.
    pub(crate) fn tokenize<E>(
        &self,
        llama: &LlamaModel,
        text: Text<'_>,
        most: usize,
        go_on: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<Vec<Token>, TokenizeError<E>> {
        self.in_pieces(llama, text, (SHORT, PIECE), most, go_on)
    }

    /// `(short, least)`: see [`Cuts::ends`].
    fn in_pieces<E>(
        &self,
        llama: &LlamaModel,
        text: Text<'_>,
        (short, least): (usize, usize),
        most: usize,
        mut go_on: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<Vec<Token>, TokenizeError<E>> {
        let vocab = llama.vocab();
        let bytes = text.bytes();
        let (mut tokens, mut of_piece) = (Vec::new(), Vec::new());
        for Part { range, markers } in text.parts(self.strips) {
            let part = &bytes[range.clone()];
            let cuts = match (text, markers) {
                (_, false) => &self.plain,
                (Text::Rendered { .. }, true) => &self.marked,
                (Text::Written(_), true) => &self.written,
            };
            let mut start = 0;
            for end in cuts.ends(part, short, least) {
                let left = bytes.len() - range.start - start;
                let at_least = tokens.len() + self.at_least(left);
                if at_least > most {
                    return Err(TokenizeError::TooLong { at_least });
                }
                go_on(end - start).map_err(TokenizeError::Stopped)?;
                of_piece.clear();
                // With room for a token per byte, llama.cpp is never called twice for one piece.
                of_piece.reserve(end - start + ROOM);
                let begins = start == 0 && matches!(text, Text::Written(_));
                vocab.tokenize_into(&part[start..end], &mut of_piece, begins, markers);
                tokens.extend(of_piece.iter().map(|token| token.0));
                start = end;
            }
        }
        Ok(tokens)
    }
}

// === impl Text ===

impl<'t> Text<'t> {
    fn bytes(self) -> &'t [u8] {
        match self {
            Self::Rendered { text, .. } | Self::Written(text) => text.as_bytes(),
        }
    }

    /// Its parts in order. Where control tokens take the white space beside them (`strips`), it goes with
    /// them.
    fn parts(self, strips: bool) -> Vec<Part> {
        let bytes = self.bytes();
        let plain = match self {
            Self::Rendered { plain, .. } => plain,
            Self::Written(_) => &[],
        };
        let mut parts = Vec::with_capacity(2 * plain.len() + 1);
        let mut start = 0;
        for range in plain {
            let mut range = range.clone();
            if strips {
                let text = &bytes[range.clone()];
                range.start += text.len() - text.trim_ascii_start().len();
                range.end -= text.len() - text.trim_ascii_end().len();
            }
            if range.is_empty() {
                continue;
            }
            let (before, markers) = (start..range.start, true);
            start = range.end;
            if !before.is_empty() {
                let range = before;
                parts.push(Part { range, markers });
            }
            let markers = false;
            parts.push(Part { range, markers });
        }
        let (range, markers) = (start..bytes.len(), true);
        if !range.is_empty() || parts.is_empty() {
            parts.push(Part { range, markers });
        }
        parts
    }
}

/// The most bytes of a text that this token can stand for.
fn most_bytes(vocab: &LlamaVocab<'_>, token: LlamaToken, bytes: &[u8]) -> usize {
    let name = vocab.text(token).map_or(&[][..], std::ffi::CStr::to_bytes);
    // A text may have the sign that stands for a space where the token's bytes have the space.
    let is_escaped = memchr::memmem::find(name, SPACE).is_some();
    if is_escaped || bytes.is_empty() {
        name.len().max(bytes.len())
    } else {
        bytes.len()
    }
}

#[cfg(test)]
mod tests;
