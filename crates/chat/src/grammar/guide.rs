//! The grammar of one answer, obeyed token by token, with no key twice in an object.

use std::sync::Arc;

use llguidance::Matcher;
use toktrie::{SimpleVob, TokEnv, TokTrie};

use super::keys::Keys;

/// The most quotes that a token needs to close a key: it may end a value, and begin and end a key.
const MOST_QUOTES: usize = 3;

/// The tokens of a vocabulary that can close a key.
pub(super) struct Quotes {
    vocabulary: TokEnv,
    // Index i: the tokens with more than i quotes.
    tokens: [Vec<u32>; MOST_QUOTES],
}

/// Where an answer is in its grammar.
pub struct Guide {
    matcher: Matcher,
    keys: Keys,
    quotes: Arc<Quotes>,
}

/// Why a token cannot come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuideError {
    /// The matcher gave up; its own words may quote the answer, and are not passed on.
    GaveUp,
    /// With it a key would have to come twice. The guide is where it was.
    Repeats,
}

// === impl Quotes ===

impl Quotes {
    pub(super) fn new(vocabulary: &TokEnv) -> Self {
        let trie = vocabulary.tok_trie();
        let mut tokens = [const { Vec::new() }; MOST_QUOTES];
        for (id, bytes) in (0..).zip(trie.all_tokens()) {
            if bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) {
                continue;
            }
            let quotes = memchr::memchr_iter(b'"', &bytes).count();
            for list in tokens.iter_mut().take(quotes) {
                list.push(id);
            }
        }
        Self {
            vocabulary: Arc::clone(vocabulary),
            tokens,
        }
    }
}

// === impl Guide ===

impl Guide {
    pub(super) fn new(matcher: Matcher, keys: Keys, quotes: Arc<Quotes>) -> Self {
        Self {
            matcher,
            keys,
            quotes,
        }
    }

    /// The same place, for another answer.
    #[must_use]
    pub fn deep_clone(&self) -> Self {
        Self {
            matcher: self.matcher.deep_clone(),
            keys: self.keys.clone(),
            quotes: Arc::clone(&self.quotes),
        }
    }

    /// The tokens that may come next.
    pub fn allowed(&mut self) -> Result<SimpleVob, GuideError> {
        let mask = self.matcher.compute_mask_or_eos();
        let mut mask = mask.map_err(|_| GuideError::GaveUp)?;
        if let Some(quotes) = self.keys.quotes_to_close() {
            let trie = self.quotes.vocabulary.tok_trie();
            for token in &self.quotes.tokens[quotes - 1] {
                if mask.is_allowed(*token) && self.keys.would_repeat(trie.token(*token)) {
                    mask.disallow_token(*token);
                }
            }
            if mask.is_zero() {
                return Err(GuideError::Repeats);
            }
        }
        Ok(mask)
    }

    /// Goes on with a token.
    pub fn consume(&mut self, token: u32) -> Result<(), GuideError> {
        if self.is_complete() {
            return Ok(());
        }
        let gave_up = |_| GuideError::GaveUp;
        self.matcher.consume_token(token).map_err(gave_up)?;
        let trie = self.quotes.vocabulary.tok_trie();
        let bytes = trie.token(token);
        let before = self.keys.may_enter_key(bytes).then(|| self.keys.clone());
        self.keys.push(bytes);
        // Where the rest of a key is forced, it is known by now whether it is a new one.
        if self.keys.in_key() {
            let forced = self.matcher.compute_ff_bytes();
            if self.keys.would_repeat(&forced) {
                self.matcher.rollback(1).map_err(gave_up)?;
                self.keys = before.ok_or(GuideError::GaveUp)?;
                return Err(GuideError::Repeats);
            }
        }
        Ok(())
    }

    /// Nothing but the end may come.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.matcher.is_stopped()
    }
}
