//! What is known of an engine that is up.

use crate::dialect::Dialect;
use crate::engine_metrics::Figures;

/// What is known of an engine that is up.
pub(crate) struct Known {
    /// How it speaks.
    pub(crate) dialect: Dialect,
    /// Its name of the model.
    pub(crate) model: String,
    /// Tokens of one sequence; 0: it does not say.
    pub(crate) context_length: u32,
    /// Where it says that it is up.
    pub(crate) health: &'static str,
    /// Its figures; None: it has none.
    pub(crate) figures: Option<Figures>,
}
