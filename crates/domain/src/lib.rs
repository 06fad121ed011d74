//! Domain types that all programs share: identifiers, token counts and money.
//!
//! Each value has one type from the edge where it is read to the edge where it is written, so that an account cannot
//! stand where a plan is meant, nor tokens where money is meant.

mod instance;
mod money;
mod name;
mod request_id;
mod tokens;

pub use instance::InstanceId;
pub use money::{NanoDollars, TokenPrice};
pub use name::{Account, KeyName, ModelId, PlanName};
pub use request_id::RequestId;
pub use tokens::Tokens;
