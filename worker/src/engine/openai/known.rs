//! What is known of an engine that is up.

use super::dialect::Dialect;
use super::figures::Figures;

/// What is known of an engine that is up.
pub(super) struct Known {
    /// How it speaks.
    pub(super) dialect: Dialect,
    /// Its name of the model.
    pub(super) model: String,
    /// Tokens of one sequence; 0: it does not say.
    pub(super) context_length: u32,
    /// Where it says that it is up.
    pub(super) health: &'static str,
    /// Its figures; None: it has none.
    pub(super) figures: Option<Figures>,
}
