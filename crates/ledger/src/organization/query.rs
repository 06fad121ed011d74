//! The query parameters of the usage endpoints, checked.

use std::time::SystemTime;

use super::answer::ApiError;
use crate::store::{Dimension, Period};

/// Most values of one list.
const MOST_VALUES: usize = 100;
/// Most results of a page.
pub(super) const MOST_RESULTS: i64 = 50_000;
/// The last moment that makes sense: in the year 2255.
const LAST_SECOND: i64 = 9_000_000_000;
const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;
pub(super) const DAY: i64 = 86_400;

/// What differs between the endpoints.
pub(super) struct EndpointSpec {
    /// Names of widths, their seconds, the default of `limit` and its maximum; the default is last.
    pub(super) widths: &'static [(&'static str, i64, i64, i64)],
    /// Names of `group_by` and what they mean.
    pub(super) groups: &'static [(&'static str, Dimension)],
}

/// A checked query for one page of buckets.
#[derive(Debug)]
pub(super) struct UsageQuery {
    /// The query to the store.
    pub(super) period: Period,
    /// Start of the next page, in seconds since the Unix epoch; `None`: this is the last one.
    pub(super) next: Option<i64>,
}

#[derive(Default)]
struct Parameters {
    start: Option<i64>,
    end: Option<i64>,
    width: Option<String>,
    limit: Option<i64>,
    page: Option<i64>,
    groups: Vec<String>,
    accounts: Vec<String>,
    keys: Vec<String>,
    models: Vec<String>,
}

/// Completions by minutes, hours or days.
pub(super) const USAGE: EndpointSpec = EndpointSpec {
    widths: &[
        ("1m", MINUTE, 60, 1_440),
        ("1h", HOUR, 24, 168),
        ("1d", DAY, 7, 31),
    ],
    groups: &[
        ("project_id", Dimension::Account),
        ("api_key_id", Dimension::Key),
        ("model", Dimension::Model),
    ],
};

/// Costs by days.
pub(super) const COSTS: EndpointSpec = EndpointSpec {
    widths: &[("1d", DAY, 7, 180)],
    groups: &[
        ("project_id", Dimension::Account),
        ("api_key_id", Dimension::Key),
        ("line_item", Dimension::Model),
    ],
};

// === impl EndpointSpec ===

impl EndpointSpec {
    pub(super) fn read(&self, pairs: Vec<(String, String)>) -> Result<UsageQuery, ApiError> {
        let asked = Parameters::read(pairs)?;
        let start = asked.start.ok_or(ApiError::Missing("start_time"))?;
        let (width, limit) = self.width(asked.width.as_deref(), asked.limit)?;
        let end = asked.end.unwrap_or_else(now);
        if end <= start {
            return Err(ApiError::Invalid {
                param: "end_time",
                expected: "it must be after 'start_time'".to_owned(),
            });
        }
        let first = asked.page.unwrap_or(start) / width * width;
        let last = (first + limit * width).min((end + width - 1) / width * width);
        let mut groups = Vec::new();
        for name in &asked.groups {
            let group = self.group(name)?;
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        let mut filters = Vec::new();
        for (group, values) in [
            (Dimension::Account, asked.accounts),
            (Dimension::Key, asked.keys),
            (Dimension::Model, asked.models),
        ] {
            if !values.is_empty() {
                filters.push((group, values));
            }
        }
        Ok(UsageQuery {
            period: Period {
                from: first,
                to: last,
                width,
                group_by: groups,
                filters,
                limit: MOST_RESULTS + 1,
            },
            next: (last < end).then_some(last),
        })
    }

    fn width(&self, name: Option<&str>, limit: Option<i64>) -> Result<(i64, i64), ApiError> {
        let found = match name {
            Some(name) => self.widths.iter().find(|(known, ..)| *known == name),
            None => self.widths.last(),
        };
        let Some((name, width, default, most)) = found else {
            let names: Vec<_> = self.widths.iter().map(|(name, ..)| *name).collect();
            return Err(ApiError::Invalid {
                param: "bucket_width",
                expected: format!("expected {}", names.join(", ")),
            });
        };
        let limit = limit.unwrap_or(*default);
        if !(1..=*most).contains(&limit) {
            return Err(ApiError::Invalid {
                param: "limit",
                expected: format!("expected 1 to {most} for buckets of {name}"),
            });
        }
        Ok((*width, limit))
    }

    fn group(&self, name: &str) -> Result<Dimension, ApiError> {
        let found = self.groups.iter().find(|(known, _)| *known == name);
        found.map(|(_, group)| *group).ok_or_else(|| {
            let names: Vec<_> = self.groups.iter().map(|(name, _)| *name).collect();
            ApiError::Invalid {
                param: "group_by",
                expected: format!("expected {}", names.join(", ")),
            }
        })
    }
}

// === impl Parameters ===

impl Parameters {
    fn read(pairs: Vec<(String, String)>) -> Result<Self, ApiError> {
        let mut read = Self::default();
        for (name, value) in pairs {
            // OpenAI's libraries write lists as `models[]=a&models[]=b`, people as `models=a,b`.
            match name.strip_suffix("[]").unwrap_or(&name) {
                "start_time" => read.start = Some(moment("start_time", &value)?),
                "end_time" => read.end = Some(moment("end_time", &value)?),
                "bucket_width" => read.width = Some(value),
                "limit" => read.limit = Some(number("limit", &value)?),
                "page" => read.page = Some(page(&value)?),
                "group_by" => extend("group_by", &mut read.groups, &value)?,
                "project_ids" => extend("project_ids", &mut read.accounts, &value)?,
                "api_key_ids" => extend("api_key_ids", &mut read.keys, &value)?,
                "models" => extend("models", &mut read.models, &value)?,
                "user_ids" => {
                    return Err(ApiError::Invalid {
                        param: "user_ids",
                        expected: "who asked is not recorded, only the account and the key".into(),
                    });
                }
                // There are no batches, so that leaves everything as it is.
                "batch" if value == "false" => {}
                "batch" => {
                    return Err(ApiError::Invalid {
                        param: "batch",
                        expected: "there are no batches: expected false".to_owned(),
                    });
                }
                _ => {
                    return Err(ApiError::UnknownParameter(name.chars().take(100).collect()));
                }
            }
        }
        Ok(read)
    }
}

/// How a page is named in `next_page`.
pub(super) fn page_name(first: i64) -> String {
    format!("page_{first:x}")
}

fn page(value: &str) -> Result<i64, ApiError> {
    value
        .strip_prefix("page_")
        .and_then(|digits| i64::from_str_radix(digits, 16).ok())
        .filter(|first| (0..=LAST_SECOND).contains(first))
        .ok_or_else(|| ApiError::Invalid {
            param: "page",
            expected: "expected the 'next_page' of the page before".to_owned(),
        })
}

fn moment(param: &'static str, value: &str) -> Result<i64, ApiError> {
    value
        .parse()
        .ok()
        .filter(|second| (0..=LAST_SECOND).contains(second))
        .ok_or_else(|| ApiError::Invalid {
            param,
            expected: "expected seconds since the Unix epoch".to_owned(),
        })
}

fn number(param: &'static str, value: &str) -> Result<i64, ApiError> {
    value.parse().map_err(|_| ApiError::Invalid {
        param,
        expected: "expected a whole number".to_owned(),
    })
}

fn extend(param: &'static str, list: &mut Vec<String>, value: &str) -> Result<(), ApiError> {
    list.extend(value.split(',').map(str::to_owned));
    if list.len() > MOST_VALUES {
        return Err(ApiError::Invalid {
            param,
            expected: format!("expected at most {MOST_VALUES} values"),
        });
    }
    Ok(())
}

fn now() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|now| i64::try_from(now.as_secs()).ok())
        .unwrap_or(0)
}
