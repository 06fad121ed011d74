//! Why a caller is not known.

/// The caller cannot be authenticated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthenticateError {
    /// No `Authorization` header, or an empty one.
    #[error("no key")]
    NoKey,
    /// `Authorization` is not `Bearer …`.
    #[error("not a bearer key")]
    NotBearer,
    /// No such key; holds what may be shown of it, see [`super::masked`].
    #[error("unknown key")]
    UnknownKey {
        /// First and last characters only.
        masked: String,
    },
    /// The key is past its date.
    #[error("expired key")]
    Expired,
    /// The key is disabled.
    #[error("disabled key")]
    Disabled,
    /// The key is good, but its plan is not declared any more.
    #[error("a key on the plan {plan}, which does not exist")]
    NoPlan {
        /// Its name.
        plan: String,
    },
    /// The key is good, but its plan grants what only the platform's plans may.
    #[error("a key on the plan {plan}, which is refused")]
    PlanRefused {
        /// Its name.
        plan: String,
    },
    /// Whether there is such a key cannot be found out at the moment.
    #[error("the key store cannot be reached")]
    StoreAway,
    /// The router has just started and knows of no key.
    #[error("nothing is known yet of what is declared")]
    Pending,
}
