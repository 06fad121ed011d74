//! Rows of the error table for callers that are not authenticated.

use http::StatusCode;
use http::header::WWW_AUTHENTICATE;

use super::row::Row;
use crate::authenticate::AuthenticateError;

/// The hint that all responses about missing or unknown keys share.
const SET_THE_KEY: &str = "Check that your API key is set and sent as a Bearer token, in the header \
                           `Authorization: Bearer YOUR_KEY`.";

/// The row of an authentication error.
pub(super) fn row(error: &AuthenticateError) -> Row<'_> {
    match error {
        AuthenticateError::NoKey => unauthorized(
            "no_key",
            format!(
                "You didn't provide an API key. You need to provide your API key in an \
                 Authorization header using Bearer auth. {SET_THE_KEY}"
            ),
        ),
        AuthenticateError::NotBearer => unauthorized(
            "not_bearer",
            format!("The Authorization header does not hold a Bearer token. {SET_THE_KEY}"),
        ),
        AuthenticateError::UnknownKey { masked } => wrong(
            "unknown_key",
            format!("Incorrect API key provided: {masked}. {SET_THE_KEY}"),
        ),
        AuthenticateError::Expired => wrong(
            "expired_key",
            "Your API key has expired. Ask whoever gave it to you for a new one.".to_owned(),
        ),
        AuthenticateError::Disabled => wrong(
            "disabled_key",
            "Your API key is disabled. Ask whoever gave it to you why.".to_owned(),
        ),
        AuthenticateError::NoPlan { plan } => wrong(
            "no_plan",
            format!(
                "Your API key is on the plan '{plan}', which does not exist. Ask whoever \
                 gave it to you for one on another plan."
            ),
        ),
        AuthenticateError::PlanRefused { plan } => wrong(
            "plan_refused",
            format!(
                "Your API key is on the plan '{plan}', which is refused here: its status says why. Ask \
                 whoever gave it to you to change the plan, or for a key on another one."
            ),
        ),
        AuthenticateError::StoreAway => Row::unavailable(
            "key_store_unavailable",
            "1",
            "Your API key cannot be checked at the moment. Try again in a second.",
        ),
        AuthenticateError::Pending => Row::unavailable(
            "router_starting",
            "1",
            "The router has just started and does not know yet what is declared. Try again in a second.",
        ),
    }
}

/// A key was sent, but it is not accepted.
fn wrong(label: &'static str, message: String) -> Row<'static> {
    Row {
        code: Some("invalid_api_key"),
        ..unauthorized(label, message)
    }
}

fn unauthorized(label: &'static str, message: String) -> Row<'static> {
    Row {
        code: None,
        header: Some((WWW_AUTHENTICATE, "Bearer")),
        ..Row::invalid(StatusCode::UNAUTHORIZED, label, message)
    }
}
