//! The text of a prompt becomes tokens, piece by piece: in linear time, and stoppable between pieces.
//!
//! llama.cpp looks for the texts of special tokens in the whole prompt and walks the list of all that it
//! has found for each new one, so its time grows with the square of their number. The pieces here end
//! where a special token ends, which separates the texts on both sides: their tokens, one after the
//! other, are the tokens of the whole.

mod cuts;

use std::num::NonZeroUsize;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token_type::LlamaTokenAttr;
use llama_cpp_2::vocab::{LlamaVocab, VocabType};

use crate::engine::embedded::kv::Token;

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
pub(super) struct Tokenizer {
    // For plain text, in which control tokens are not recognized.
    plain: Cuts,
    // For a rendered conversation, in which control tokens are recognized.
    marked: Cuts,
    // Bytes of the longest token. None: a token can stand for any number of bytes.
    longest: Option<NonZeroUsize>,
}

/// Why a text was not tokenized.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TokenizeError<E> {
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
    pub(super) fn new<'b>(llama: &LlamaModel, bytes: impl Fn(LlamaToken) -> &'b [u8]) -> Self {
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
                longest: None,
            };
        }
        // What is added behind a plain text would be added behind each of its pieces.
        let ends = vocab.should_add_eos() || vocab.should_add_sep();
        Self {
            plain: if ends {
                Cuts::none()
            } else {
                Cuts::behind(&own)
            },
            marked: Cuts::behind(&[own.as_slice(), &control].concat()),
            longest: NonZeroUsize::new(longest),
        }
    }

    /// A lower bound of the tokens of any text of `bytes` bytes.
    pub(super) fn at_least(&self, bytes: usize) -> usize {
        self.longest
            .map_or(0, |longest| bytes.div_ceil(longest.get()))
    }

    /// The most bytes that `tokens` tokens can stand for.
    pub(super) fn most_bytes(&self, tokens: usize) -> usize {
        self.longest
            .map_or(usize::MAX, |longest| tokens.saturating_mul(longest.get()))
    }

    /// The tokens of a text. With `markers`, the texts of control tokens become those tokens. `go_on` is
    /// called with the number of bytes of each piece before the piece is tokenized.
    ///
    /// # Errors
    ///
    /// The text has more than `most` tokens and that shows before its end, or `go_on` refuses.
    pub(super) fn tokenize<E>(
        &self,
        llama: &LlamaModel,
        text: &[u8],
        markers: bool,
        most: usize,
        go_on: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<Vec<Token>, TokenizeError<E>> {
        let cuts = if markers { &self.marked } else { &self.plain };
        self.pieces(
            llama,
            text,
            cuts.ends(text, SHORT, PIECE),
            markers,
            most,
            go_on,
        )
    }

    fn pieces<E>(
        &self,
        llama: &LlamaModel,
        text: &[u8],
        ends: impl Iterator<Item = usize>,
        markers: bool,
        most: usize,
        mut go_on: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<Vec<Token>, TokenizeError<E>> {
        let vocab = llama.vocab();
        let (mut tokens, mut of_piece) = (Vec::new(), Vec::new());
        let mut start = 0;
        for end in ends {
            let at_least = tokens.len() + self.at_least(text.len() - start);
            if at_least > most {
                return Err(TokenizeError::TooLong { at_least });
            }
            go_on(end - start).map_err(TokenizeError::Stopped)?;
            of_piece.clear();
            // With room for a token per byte, llama.cpp is never called twice for one piece.
            of_piece.reserve(end - start + ROOM);
            // A chat template writes the beginning token itself; plain text gets the model's own.
            let begins = !markers && start == 0;
            vocab.tokenize_into(&text[start..end], &mut of_piece, begins, markers);
            tokens.extend(of_piece.iter().map(|token| token.0));
            start = end;
        }
        Ok(tokens)
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
