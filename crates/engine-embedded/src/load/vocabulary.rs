//! The bytes of a model's tokens, and which of them are more than text.

use std::collections::HashMap;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;

use crate::sample::TokenId;

/// The bytes of all tokens.
pub(super) struct Vocabulary {
    ends: Vec<u32>,
    bytes: Vec<u8>,
    // Tokens that end a turn.
    end_of_turn: Vec<bool>,
    // Tokens that are not text, by what they are called.
    controls: HashMap<Vec<u8>, TokenId>,
    is_control: Vec<bool>,
}

// === impl Vocabulary ===

impl Vocabulary {
    pub(super) fn new(llama: &LlamaModel) -> Self {
        let vocab = llama.vocab();
        let mut all = Self {
            ends: Vec::new(),
            bytes: Vec::new(),
            end_of_turn: Vec::new(),
            controls: HashMap::new(),
            is_control: Vec::new(),
        };
        for (id, token) in (0..vocab.n_tokens()).map(|id| (id.cast_unsigned(), LlamaToken(id))) {
            let name = vocab.token_to_piece(token, true, None);
            let is_control = vocab.token_to_piece(token, false, None).is_empty();
            all.bytes.extend_from_slice(&name);
            all.ends.push(
                u32::try_from(all.bytes.len()).expect("a vocabulary should be smaller than 4 GB"),
            );
            all.end_of_turn.push(vocab.is_eog(token));
            all.is_control.push(is_control);
            if is_control && !name.is_empty() {
                all.controls.insert(name, id);
            }
        }
        all
    }

    /// The bytes of a token; none, if there is no such token.
    pub(super) fn bytes(&self, token: TokenId) -> &[u8] {
        let token = token as usize;
        let Some(end) = self.ends.get(token) else {
            return &[];
        };
        let start = token.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start as usize..*end as usize]
    }

    /// How many tokens there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The token is no text of an answer.
    pub(super) fn is_control(&self, token: TokenId) -> bool {
        self.is_control.get(token as usize).copied().unwrap_or(true)
    }

    /// The control token that is called this.
    pub(super) fn control(&self, name: &str) -> Option<TokenId> {
        self.controls.get(name.as_bytes()).copied()
    }

    /// What the control tokens are called that have a name in characters.
    pub(super) fn control_names(&self) -> impl Iterator<Item = &str> {
        self.controls
            .keys()
            .filter_map(|name| str::from_utf8(name).ok())
    }

    /// The token ends the model's turn.
    pub(super) fn ends_turn(&self, token: TokenId) -> bool {
        self.end_of_turn
            .get(token as usize)
            .copied()
            .unwrap_or(false)
    }
}
