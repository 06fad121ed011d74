//! What `inferyard keys` prints.

use std::io::{self, Write};

use inferyard_keys::{KeyLimits, StoredKey, dollars};
use serde_json::{Map, Value, json};

use super::moment;
use crate::failure::Failure;

/// A key as it is listed, wherever it is.
pub(super) struct Row {
    /// What it is called where it is: an id in Redis, a name in a manifest.
    pub(super) id: Option<String>,
    pub(super) name: String,
    pub(super) account: String,
    pub(super) plan: String,
    /// Enough to recognize it: its redacted form, or the start of its hash.
    pub(super) key: String,
    pub(super) expires: Option<String>,
    pub(super) state: &'static str,
    pub(super) limits: Value,
}

// === impl Row ===

impl Row {
    pub(super) fn of(key: StoredKey, now: u64) -> Self {
        let expired = key.expires.is_some_and(|end| end <= now);
        Self {
            id: Some(key.id),
            name: key.name,
            account: key.account,
            plan: key.plan,
            key: key.redacted,
            expires: key.expires.map(moment::write),
            state: match (key.disabled, expired) {
                (true, _) => "disabled",
                (_, true) => "expired",
                _ => "active",
            },
            limits: key.limits.as_ref().map_or(Value::Null, limits),
        }
    }

    fn json(&self) -> Value {
        let mut fields = Map::new();
        if let Some(id) = &self.id {
            fields.insert("id".to_owned(), id.as_str().into());
        }
        let rest = json!({
            "name": self.name, "account": self.account, "plan": self.plan, "key": self.key,
            "expires_at": self.expires, "state": self.state, "limits": self.limits,
        });
        if let Value::Object(rest) = rest {
            fields.extend(rest);
        }
        fields.into()
    }
}

/// Limits by the names that manifests have.
pub(super) fn limits(limits: &KeyLimits) -> Value {
    let fields = [
        ("requestsPerMinute", limits.requests_per_minute),
        ("requestsPerDay", limits.requests_per_day),
        ("requestsTotal", limits.requests_total),
        ("tokensPerMinute", limits.tokens_per_minute),
        ("tokensPerDay", limits.tokens_per_day),
        ("concurrentRequests", limits.concurrent_requests),
    ];
    let mut named: Map<_, _> = fields
        .into_iter()
        .filter_map(|(name, limit)| Some((name.to_owned(), limit?.into())))
        .collect();
    if let Some(budget) = limits.budget_nanodollars {
        named.insert("budgetPerMonth".to_owned(), dollars(budget).into());
    }
    named.into()
}

/// One object in each line.
pub(super) fn json_lines(rows: &[Row]) -> Result<(), Failure> {
    for row in rows {
        line(&row.json().to_string())?;
    }
    Ok(())
}

/// A table with a head.
pub(super) fn table(rows: &[Row]) -> Result<(), Failure> {
    let head = ["ID", "NAME", "ACCOUNT", "PLAN", "KEY", "EXPIRES", "STATE"];
    let mut cells = vec![head.map(str::to_owned)];
    cells.extend(rows.iter().map(|row| {
        let expires = row.expires.clone();
        [
            row.id.clone().unwrap_or_default(),
            row.name.clone(),
            row.account.clone(),
            row.plan.clone(),
            row.key.clone(),
            expires.unwrap_or_else(|| "never".to_owned()),
            row.state.to_owned(),
        ]
    }));
    let with_ids = rows.iter().any(|row| row.id.is_some());
    let columns = usize::from(!with_ids)..head.len();
    let width = |column: usize| {
        let widths = cells.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: Vec<_> = columns.clone().map(width).collect();
    for row in &cells {
        let padded = columns.clone().zip(&widths).map(|(column, &width)| {
            let text = &row[column];
            format!("{text:width$}")
        });
        line(padded.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// A line on standard output.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    write(text).and_then(|()| write("\n"))
}

/// A text on standard output.
pub(super) fn write(text: &str) -> Result<(), Failure> {
    let wrote = io::stdout().write_all(text.as_bytes());
    wrote.map_err(|error| Failure::failed(format!("cannot print: {error}")))
}

/// A remark on standard error, so that standard output holds nothing but the answer.
pub(super) fn note(text: &str) {
    eprintln!("{text}");
}
