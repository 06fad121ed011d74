//! Tests of denials, by kind of limit.
#![expect(clippy::too_many_lines, reason = "tables of cases")]

use std::sync::Arc;

use serde_json::Value;

use super::*;
use crate::error::Error;

/// Returns status, type, code, `Retry-After`, `retry-after-ms` and `x-should-retry`, with `-` for a missing
/// one.
fn answer(error: ReserveError) -> (String, String) {
    let response = Error::from(error).response("req_0");
    let body: Value = serde_json::from_slice(response.body()).unwrap();
    let header = |name: &str| match response.headers().get(name) {
        Some(value) => value.to_str().unwrap().to_owned(),
        None => "-".to_owned(),
    };
    let error = &body["error"];
    assert!(error["param"].is_null());
    let line = format!(
        "{} {} {} {} {} {}",
        response.status().as_u16(),
        error["type"].as_str().unwrap(),
        error["code"].as_str().unwrap(),
        header("retry-after"),
        header("retry-after-ms"),
        header("x-should-retry"),
    );
    (line, error["message"].as_str().unwrap().to_owned())
}

fn status(kind: LimitKind, numbers: [u64; 3], denial: Wait) -> LimitStatus {
    let [limit, used, requested] = numbers;
    LimitStatus {
        kind,
        limit,
        used,
        requested,
        reset: match denial {
            Wait::Exactly(time) => time,
            Wait::ForOthers | Wait::ForEver => Duration::from_hours(24),
        },
        denial: Some(denial),
    }
}

fn denied_by(statuses: &[LimitStatus]) -> (String, String) {
    answer(ReserveError::Denied {
        model: "gpt-4o".into(),
        account: "org-1".into(),
        statuses: Arc::from(statuses),
    })
}

/// Computes the wait of a bucket: until the excess has leaked.
fn bucket(kind: LimitKind, [limit, used, requested]: [u64; 3], window: u64) -> LimitStatus {
    let wait = (used + requested - limit) * window * 1_000_000 / limit;
    let wait = Wait::Exactly(Duration::from_micros(wait));
    status(kind, [limit, used, requested], wait)
}

#[test]
fn messages_are_those_of_recorded_answers() {
    for (numbers, wait, seconds, milliseconds) in [
        ([50_000, 47_949, 3_006], "1.146s", 2, 1_146),
        ([200_000, 195_869, 4_412], "84ms", 1, 85),
        ([30_000, 22_999, 12_528], "11.054s", 12, 11_054),
    ] {
        let (line, message) = denied_by(&[bucket(LimitKind::TokensPerMinute, numbers, 60)]);
        let [limit, used, requested] = numbers;
        assert_eq!(
            message,
            format!(
                "Rate limit reached for gpt-4o in organization org-1 on tokens per min (TPM): \
                 Limit {limit}, Used {used}, Requested {requested}. Please try again in {wait}."
            )
        );
        let expected = format!("429 tokens rate_limit_exceeded {seconds} {milliseconds} -");
        assert_eq!(line, expected);
    }
    let large = status(
        LimitKind::TokensPerMinute,
        [30_000, 0, 34_307],
        Wait::ForEver,
    );
    let (line, message) = denied_by(&[large]);
    assert_eq!(
        message,
        "Request too large for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, \
         Requested 34307. The input or output tokens must be reduced in order to run successfully."
    );
    assert_eq!(line, "429 tokens rate_limit_exceeded - - false");
}

#[test]
fn every_limit_says_when_and_whether_to_come_back() {
    let second = |seconds| Wait::Exactly(Duration::from_secs(seconds));
    let one = [10, 10, 1];
    for (kind, numbers, wait, expected, says) in [
        (
            LimitKind::RequestsPerMinute,
            one,
            second(6),
            "429 requests rate_limit_exceeded 6 6000 -",
            "requests per min (RPM): Limit 10, Used 10, Requested 1. Please try again in 6s.",
        ),
        (
            LimitKind::RequestsPerMinute,
            one,
            Wait::Exactly(Duration::from_micros(1)),
            "429 requests rate_limit_exceeded 1 1 -",
            "Please try again in 1ms.",
        ),
        (
            LimitKind::TokensPerMinute,
            one,
            second(61),
            "429 tokens rate_limit_exceeded 61 61000 false",
            "in 1m1s.",
        ),
        (
            LimitKind::TokensPerMinute,
            one,
            Wait::ForOthers,
            "429 tokens rate_limit_exceeded 1 1000 -",
            "held by requests that are still running",
        ),
        (
            LimitKind::RequestsPerDay,
            one,
            second(8_640),
            "429 requests rate_limit_exceeded 8640 8640000 false",
            "requests per day (RPD)",
        ),
        (
            LimitKind::TokensPerDay,
            one,
            second(9),
            "429 tokens rate_limit_exceeded 9 9000 false",
            "tokens per day (TPD)",
        ),
        (
            LimitKind::RequestsTotal,
            one,
            Wait::ForEver,
            "429 requests rate_limit_exceeded - - false",
            "on requests in total: Limit 10, Used 10, Requested 1. It does not come back",
        ),
        (
            LimitKind::ConcurrentRequests,
            one,
            Wait::ForOthers,
            "429 requests rate_limit_exceeded 1 1000 -",
            "requests at the same time: Limit 10, Used 10, Requested 1. Please try again when one",
        ),
        (
            LimitKind::BudgetPerMonth,
            [5_000_000_000, 4_990_000_000, 20_000_000],
            second(172_800),
            "429 insufficient_quota insufficient_quota 172800 172800000 false",
            "for this month: Limit $5.00, Used $4.99, Left $0.01; this request needs at least $0.02. The \
             budget begins anew in 48h0m0s.",
        ),
        (
            LimitKind::BudgetPerMonth,
            [5_000_000_000, 4_990_000_000, 20_000_000],
            Wait::ForOthers,
            "429 insufficient_quota insufficient_quota 1 1000 -",
            "begins anew in 24h0m0s. A part of it is held by requests that are still running",
        ),
        (
            LimitKind::BudgetPerMonth,
            [5_000, 0, 20_000],
            Wait::ForEver,
            "429 insufficient_quota insufficient_quota - - false",
            "costs more than the whole budget",
        ),
    ] {
        let (line, message) = denied_by(&[status(kind, numbers, wait)]);
        assert_eq!(line, expected, "{kind:?} {wait:?}");
        assert!(message.contains(says), "{message}");
    }
}

#[test]
fn of_several_denials_the_longest_counts() {
    let minute = bucket(LimitKind::RequestsPerMinute, [10, 10, 1], 60);
    let tokens = bucket(LimitKind::TokensPerMinute, [100, 100, 50], 60);
    let others = status(LimitKind::ConcurrentRequests, [1, 1, 1], Wait::ForOthers);
    let (line, message) = denied_by(&[minute.clone(), tokens, others.clone()]);
    assert_eq!(line, "429 tokens rate_limit_exceeded 30 30000 -");
    assert!(message.contains("(TPM)"), "{message}");
    // A short wait does not help if another limit denies permanently.
    let total = status(LimitKind::RequestsTotal, [5, 5, 1], Wait::ForEver);
    let (line, _) = denied_by(&[minute, total, others]);
    assert_eq!(line, "429 requests rate_limit_exceeded - - false");
}

#[test]
fn a_preview_that_ends_says_where_to_go_on() {
    let exhausted = |sign_up: Option<&str>| {
        answer(ReserveError::PreviewExhausted {
            limit: 5,
            sign_up: sign_up.map(Into::into),
            statuses: Arc::default(),
        })
    };
    let (line, message) = exhausted(Some("https://example.com/keys"));
    assert_eq!(line, "401 invalid_request_error preview_exhausted - - -");
    assert_eq!(
        message,
        "You have used the 5 free requests of the preview. To go on, get an API key at \
         https://example.com/keys, and send it in the header `Authorization: Bearer YOUR_KEY`."
    );
    assert!(exhausted(None).1.contains("ask whoever runs this service"));
    let (line, message) = answer(ReserveError::PoolExhausted {
        sign_up: None,
        tomorrow: Duration::from_hours(3),
    });
    assert_eq!(
        line,
        "429 tokens preview_pool_exhausted 10800 10800000 false"
    );
    assert!(message.contains("goes on in 3h0m0s"), "{message}");
}

#[test]
fn who_cannot_be_let_in_is_told_why() {
    let no_room = |why| {
        answer(ReserveError::NoRoom {
            why,
            retry_after: Duration::from_secs(1),
        })
    };
    let damaged = ReserveError::Damaged {
        account: "acme".into(),
    };
    let cases = [
        (no_room(NoRoom::Full), "1 1000 -", "too much of it waits"),
        (no_room(NoRoom::Disk), "1 1000 -", "disk"),
        (no_room(NoRoom::Ledger), "1 1000 -", "the ledger's database"),
        (answer(damaged), "60 60000 false", "account acme"),
    ];
    for ((line, message), retry, says) in cases {
        let expected = format!("503 service_unavailable_error server_is_overloaded {retry}");
        assert_eq!(line, expected);
        assert!(message.contains(says), "{message}");
    }
}

#[test]
fn limits_that_cannot_be_checked_are_nobodys_fault() {
    let (line, _) = answer(ReserveError::Unavailable {
        retry_after: Duration::from_millis(250),
    });
    assert_eq!(
        line,
        "503 service_unavailable_error server_is_overloaded 1 250 -"
    );
}
