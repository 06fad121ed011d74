//! What a new key shall be, checked field by field.

use inferyard_proto::keys::v1::KeyLimits;

/// The largest number that a limit may be, as in manifests.
const LARGEST_COUNT: u64 = 1_000_000_000_000;
/// The largest budget, in nano-dollars: ten million dollars, as in manifests.
const LARGEST_BUDGET: u64 = 10_000_000 * 1_000_000_000 - 1;
/// The last moment that a key may expire at: the end of the year 9999.
const LAST_MOMENT: u64 = 253_402_300_799;

/// What somebody asks for; nothing is checked yet.
#[derive(Debug, Clone, Default)]
pub struct KeyFields {
    /// What people call it.
    pub name: String,
    /// The account that pays.
    pub account: String,
    /// Name of its plan.
    pub plan: String,
    /// Refused from then on, in Unix seconds.
    pub expires: Option<u64>,
    /// Limits of this key alone.
    pub limits: KeyLimits,
}

/// A key that can be made.
#[derive(Debug, Clone)]
pub struct WantedKey(KeyFields);

/// Why a key cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FieldError {
    /// Which field is wrong: `name`, `limits.requests_per_minute`.
    pub field: &'static str,
    /// What was expected.
    pub message: String,
}

// === impl WantedKey ===

impl WantedKey {
    /// Checks every field; `now` is in Unix seconds.
    pub fn new(fields: KeyFields, now: u64) -> Result<Self, FieldError> {
        text("name", &fields.name, 128)?;
        text("account", &fields.account, 128)?;
        plan(&fields.plan)?;
        if let Some(end) = fields.expires
            && !(now + 1..=LAST_MOMENT).contains(&end)
        {
            let message = format!(
                "expected a moment in the future in Unix seconds, found {end}: now is {now}"
            );
            return Err(wrong("expires_at", message));
        }
        for (field, limit) in counts(&fields.limits) {
            if limit.is_some_and(|limit| !(1..=LARGEST_COUNT).contains(&limit)) {
                let message = format!(
                    "expected a number from 1 to {LARGEST_COUNT}; leave it out for no limit"
                );
                return Err(wrong(field, message));
            }
        }
        let budget = fields.limits.budget_nanodollars;
        if budget.is_some_and(|budget| !(1..=LARGEST_BUDGET).contains(&budget)) {
            let message =
                "expected more than 0 and less than 10 million dollars; leave it out for no budget";
            return Err(wrong("limits.budget_per_month", message.to_owned()));
        }
        Ok(Self(fields))
    }

    pub(crate) fn into_fields(self) -> KeyFields {
        self.0
    }
}

/// The limits that count something, by name.
fn counts(limits: &KeyLimits) -> [(&'static str, Option<u64>); 6] {
    [
        ("limits.requests_per_minute", limits.requests_per_minute),
        ("limits.requests_per_day", limits.requests_per_day),
        ("limits.requests_total", limits.requests_total),
        ("limits.tokens_per_minute", limits.tokens_per_minute),
        ("limits.tokens_per_day", limits.tokens_per_day),
        ("limits.concurrent_requests", limits.concurrent_requests),
    ]
}

fn text(field: &'static str, text: &str, longest: usize) -> Result<(), FieldError> {
    let length = text.chars().count();
    if !(1..=longest).contains(&length) {
        let message = format!("expected 1 to {longest} characters, found {length}");
        return Err(wrong(field, message));
    }
    if text.chars().any(char::is_control) || text.trim() != text {
        let message = "expected no control characters, and no spaces at the ends".to_owned();
        return Err(wrong(field, message));
    }
    Ok(())
}

fn plan(name: &str) -> Result<(), FieldError> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    if (1..=253).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    let message = "expected the name of a Plan: lower-case letters, digits and hyphens".to_owned();
    Err(wrong("plan", message))
}

fn wrong(field: &'static str, message: String) -> FieldError {
    FieldError { field, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(change: impl FnOnce(&mut KeyFields)) -> Result<WantedKey, FieldError> {
        let mut fields = KeyFields {
            name: "Production".into(),
            account: "acme".into(),
            plan: "team".into(),
            ..KeyFields::default()
        };
        change(&mut fields);
        WantedKey::new(fields, 1_000)
    }

    #[test]
    fn a_good_key_passes() {
        assert!(fields(|_| ()).is_ok());
        assert!(fields(|wanted| wanted.expires = Some(1_001)).is_ok());
        assert!(fields(|wanted| wanted.limits.requests_total = Some(5)).is_ok());
    }

    #[test]
    fn every_wrong_field_is_named() {
        type Change = fn(&mut KeyFields);
        let table: [(Change, &str); 10] = [
            (|wanted| wanted.name.clear(), "name: expected 1 to 128"),
            (|wanted| wanted.name = "x".repeat(129), "found 129"),
            (|wanted| wanted.name = "a\nb".into(), "no control"),
            (|wanted| wanted.account.clear(), "account: expected"),
            (|wanted| wanted.account = " a".into(), "no spaces at the"),
            (|wanted| wanted.plan = "Team!".into(), "plan: expected the"),
            (|wanted| wanted.plan.clear(), "plan: expected the name"),
            (|wanted| wanted.expires = Some(1_000), "expires_at: "),
            (
                |wanted| wanted.limits.tokens_per_day = Some(0),
                "limits.tokens_per_day: expected a number from 1",
            ),
            (
                |wanted| wanted.limits.budget_nanodollars = Some(u64::MAX),
                "limits.budget_per_month",
            ),
        ];
        for (change, expected) in table {
            let error = fields(change).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
