//! What is wrong with a body, as rows of the error table.

use http::StatusCode;

use super::row::Row;
use crate::read::{Length, NumberKind, Param, ReadError};

/// The row of a body that is no request.
pub(super) fn row(error: &ReadError) -> Row<'_> {
    let (code, param): (Option<&'static str>, Option<&Param>) = match error {
        ReadError::NotJson { .. } => (None, None),
        ReadError::NotAnObject { .. } => (Some("invalid_type"), None),
        ReadError::Twice { param } | ReadError::Conflict { param, .. } => (None, Some(param)),
        ReadError::UnknownModel { .. } => (Some("model_not_found"), None),
        ReadError::Missing { param } => (Some("missing_required_parameter"), Some(param)),
        ReadError::Type { param, .. } => (Some("invalid_type"), Some(param)),
        ReadError::OutOfRange {
            param,
            number,
            below,
            ..
        } => {
            let code = match (number, below) {
                (NumberKind::Integer, true) => "integer_below_min_value",
                (NumberKind::Integer, false) => "integer_above_max_value",
                (NumberKind::Decimal, true) => "decimal_below_min_value",
                (NumberKind::Decimal, false) => "decimal_above_max_value",
            };
            (Some(code), Some(param))
        }
        ReadError::Length { param, of, .. } => {
            let code = match of {
                Length::EmptyArray => "empty_array",
                Length::LongArray => "array_above_max_length",
                Length::EmptyString => "empty_string",
                Length::LongString => "string_above_max_length",
                Length::ManyProperties => "object_above_max_properties",
            };
            (Some(code), Some(param))
        }
        ReadError::Value { param, .. } => (Some("invalid_value"), Some(param)),
        ReadError::UnsupportedParameter { param, .. } => {
            (Some("unsupported_parameter"), Some(param))
        }
        ReadError::UnsupportedValue { param, .. } => (Some("unsupported_value"), Some(param)),
    };
    let param = match error {
        ReadError::UnknownModel { .. } => Some("model"),
        _ => param.map(|param| param.0.as_str()),
    };
    Row {
        code,
        param,
        ..Row::invalid(
            StatusCode::BAD_REQUEST,
            code.unwrap_or("invalid_request"),
            error.to_string(),
        )
    }
}
