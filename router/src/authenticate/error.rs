//! Why a caller is not authenticated.

/// The caller cannot be authenticated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthenticateError {
    /// No `Authorization` header, or an empty one.
    #[error("no key")]
    NoKey,
    /// `Authorization` is not `Bearer …`.
    #[error("not a bearer key")]
    NotBearer,
    /// The key does not exist; contains its masked form, see [`super::masked`].
    #[error("unknown key")]
    UnknownKey {
        /// The first and last characters, or `***`.
        masked: String,
    },
    /// The key has expired.
    #[error("expired key")]
    Expired,
    /// The key is disabled.
    #[error("disabled key")]
    Disabled,
    /// The key is valid, but its plan is not declared any more.
    #[error("a key on the plan {plan}, which does not exist")]
    NoPlan {
        /// Name of the plan.
        plan: String,
    },
    /// The key is valid, but its plan sets fields that only plans of the platform may set.
    #[error("a key on the plan {plan}, which is refused")]
    PlanRefused {
        /// Name of the plan.
        plan: String,
    },
    /// The key store did not answer, and no cached answer can be used.
    #[error("the key store cannot be reached")]
    StoreAway,
    /// The router has just started and has no catalog yet.
    #[error("nothing is known yet of what is declared")]
    Pending,
}
