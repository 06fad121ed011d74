//! The output of `inferyard keys`.

use std::io::{self, Write};

use inferyard_keys::{KeyLimits, StoredKey, dollars};
use serde_json::{Map, Value, json};

use super::Output;
use crate::calendar::moment_text;
use crate::failure::Failure;

/// Column heads.
const HEAD: [&str; 7] = ["ID", "NAME", "ACCOUNT", "PLAN", "KEY", "EXPIRES", "STATE"];

/// A key in a list.
pub(super) struct Row {
    /// The id in a key store, the resource name in a manifest.
    pub(super) id: Option<String>,
    pub(super) name: String,
    pub(super) account: String,
    pub(super) plan: String,
    /// Enough to recognize the key: its redacted form, or the start of its hash.
    pub(super) key: String,
    pub(super) expires: Option<String>,
    pub(super) state: &'static str,
    pub(super) limits: Value,
}

/// A list of any length, printed page by page, so that only one page is in memory.
pub(super) struct Listing {
    output: Output,
    /// Width of each column so far; `None`: nothing was printed yet.
    widths: Option<Vec<usize>>,
    with_ids: bool,
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
            expires: key.expires.map(moment_text),
            state: match (key.disabled, expired) {
                (true, _) => "disabled",
                (_, true) => "expired",
                _ => "active",
            },
            limits: key.limits.as_ref().map_or(Value::Null, limits),
        }
    }

    fn cells(&self) -> [String; HEAD.len()] {
        let expires = self.expires.clone();
        [
            self.id.clone().unwrap_or_default(),
            self.name.clone(),
            self.account.clone(),
            self.plan.clone(),
            self.key.clone(),
            expires.unwrap_or_else(|| "never".to_owned()),
            self.state.to_owned(),
        ]
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

// === impl Listing ===

impl Listing {
    pub(super) fn new(output: Output) -> Self {
        Self {
            output,
            widths: None,
            with_ids: false,
        }
    }

    /// Prints the next rows; `false`: standard output is closed.
    pub(super) fn page(&mut self, rows: &[Row]) -> Result<bool, Failure> {
        let text = match self.output {
            Output::Text => self.table(rows),
            Output::Json => rows
                .iter()
                .flat_map(|row| [row.json().to_string(), "\n".to_owned()])
                .collect(),
        };
        match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(Failure::failed(format!("cannot print: {error}"))),
        }
    }

    /// The rows, under a head above the first page. Columns grow if a later page needs it, and never shrink.
    fn table(&mut self, rows: &[Row]) -> String {
        let mut lines = Vec::new();
        if self.widths.is_none() {
            self.with_ids = rows.iter().any(|row| row.id.is_some());
            lines.push(HEAD.map(str::to_owned));
        }
        lines.extend(rows.iter().map(Row::cells));
        let widths = self.widths.get_or_insert_with(|| vec![0; HEAD.len()]);
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let hidden = usize::from(!self.with_ids);
        let mut text = String::new();
        for line in &lines {
            let cells = line.iter().zip(widths.iter()).skip(hidden);
            let cells = cells.map(|(cell, &width)| format!("{cell:width$}"));
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// Limits by their names in manifests.
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

/// Prints a line to standard output.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    write(text).and_then(|()| write("\n"))
}

/// Prints a text to standard output.
pub(super) fn write(text: &str) -> Result<(), Failure> {
    let wrote = io::stdout().write_all(text.as_bytes());
    wrote.map_err(|error| Failure::failed(format!("cannot print: {error}")))
}

/// Prints a remark to standard error, so that standard output has only the result.
pub(super) fn note(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: Option<&str>, name: &str) -> Row {
        Row {
            id: id.map(str::to_owned),
            name: name.to_owned(),
            account: "acme".to_owned(),
            plan: "team".to_owned(),
            key: "iy-a…wxyz".to_owned(),
            expires: None,
            state: "active",
            limits: Value::Null,
        }
    }

    #[test]
    fn columns_stay_over_pages_and_grow_where_they_must() {
        let mut listing = Listing::new(Output::Text);
        let first = "\
ID     NAME  ACCOUNT  PLAN  KEY        EXPIRES  STATE
key_1  ci    acme     team  iy-a…wxyz  never    active
";
        assert_eq!(listing.table(&[row(Some("key_1"), "ci")]), first);
        let second = "\
key_2  nightly  acme     team  iy-a…wxyz  never    active
key_3  b        acme     team  iy-a…wxyz  never    active
";
        let rows = [row(Some("key_2"), "nightly"), row(Some("key_3"), "b")];
        assert_eq!(listing.table(&rows), second);
        let manifest = "\
NAME  ACCOUNT  PLAN  KEY        EXPIRES  STATE
ci    acme     team  iy-a…wxyz  never    active
";
        assert_eq!(
            Listing::new(Output::Text).table(&[row(None, "ci")]),
            manifest
        );
    }
}
