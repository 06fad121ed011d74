//! Headers of limits, and the arithmetic of recorded answers.

use super::*;

fn status(kind: LimitKind, limit: u64, used: u64, reset: Duration) -> LimitStatus {
    LimitStatus {
        kind,
        limit,
        used,
        requested: 1,
        reset,
        denial: None,
    }
}

fn shown(statuses: &[LimitStatus]) -> Vec<String> {
    let headers = headers(statuses);
    let lines = headers.map(|(name, value)| {
        let name = name
            .as_str()
            .strip_prefix("x-ratelimit-")
            .unwrap()
            .to_owned();
        format!("{name}: {}", value.to_str().unwrap())
    });
    lines.collect()
}

const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);

/// The status of a bucket that refills evenly over its window.
fn bucket(kind: LimitKind, limit: u32, used: u32, window: Duration) -> LimitStatus {
    let reset = window * used / limit;
    status(kind, limit.into(), used.into(), reset)
}

#[test]
fn resets_are_those_of_recorded_answers() {
    use LimitKind::{RequestsPerDay, RequestsPerMinute, TokensPerMinute};
    for (kind, limit, used, window, recorded) in [
        (RequestsPerMinute, 500, 1, MINUTE, "120ms"),
        (RequestsPerMinute, 3_000, 1, MINUTE, "20ms"),
        (RequestsPerMinute, 3_500, 1, MINUTE, "17ms"),
        (RequestsPerMinute, 100, 1, MINUTE, "600ms"),
        (RequestsPerDay, 10_000, 1, DAY, "8.64s"),
        (TokensPerMinute, 1_000_000, 1_875, MINUTE, "112ms"),
        (TokensPerMinute, 200_000, 4, MINUTE, "1ms"),
    ] {
        let lines = shown(&[bucket(kind, limit, used, window)]);
        assert!(lines[2].ends_with(&format!(": {recorded}")), "{lines:?}");
        let left = format!(": {}", limit - used);
        assert!(lines[1].ends_with(&left), "{lines:?}");
    }
}

#[test]
fn durations_are_written_as_go_does() {
    for (microseconds, text) in [
        (0, "0s"),
        (999, "0s"),
        (1_000, "1ms"),
        (112_500, "112ms"),
        (999_999, "999ms"),
        (1_000_000, "1s"),
        (1_146_000, "1.146s"),
        (8_640_000, "8.64s"),
        (59_999_999, "59.999s"),
        (60_000_000, "1m0s"),
        (90_500_000, "1m30.5s"),
        (360_000_000, "6m0s"),
        (3_600_000_000, "1h0m0s"),
        (86_400_000_000, "24h0m0s"),
    ] {
        assert_eq!(clock(Duration::from_micros(microseconds)), text);
    }
}

#[test]
fn dollars_have_cents_and_what_is_below() {
    for (nanodollars, text) in [
        (0, "0.00"),
        (5_000_000_000, "5.00"),
        (12_340_000_000, "12.34"),
        (1_500_000_000, "1.50"),
        (5_000, "0.000005"),
        (1, "0.000000001"),
    ] {
        assert_eq!(dollars(nanodollars), text);
    }
}

#[test]
fn limits_that_do_not_exist_have_no_headers() {
    assert_eq!(shown(&[]), Vec::<String>::new());
    let total = status(LimitKind::RequestsTotal, 5, 1, Duration::ZERO);
    // A total never refills, so it has no reset header.
    assert_eq!(
        shown(&[total]),
        ["limit-requests: 5", "remaining-requests: 4"]
    );
}

#[test]
fn every_kind_has_its_own_headers() {
    let statuses = [
        status(LimitKind::ConcurrentRequests, 4, 1, Duration::ZERO),
        status(LimitKind::BudgetPerMonth, 5_000_000_000, 1_000, DAY),
        bucket(LimitKind::TokensPerDay, 1_000, 500, DAY),
        bucket(LimitKind::TokensPerMinute, 100, 50, MINUTE),
        bucket(LimitKind::RequestsPerMinute, 10, 1, MINUTE),
    ];
    assert_eq!(
        shown(&statuses),
        [
            "limit-requests: 10",
            "remaining-requests: 9",
            "reset-requests: 6s",
            "limit-tokens: 100",
            "remaining-tokens: 50",
            "reset-tokens: 30s",
            "limit-tokens-day: 1000",
            "remaining-tokens-day: 500",
            "reset-tokens-day: 12h0m0s",
            "limit-spend: 5.00",
            "remaining-spend: 4.999999",
            "reset-spend: 24h0m0s",
            "limit-concurrent: 4",
            "remaining-concurrent: 3",
        ]
    );
}

#[test]
fn the_tightest_limit_of_a_kind_is_told_and_first_the_one_that_denies() {
    let minute = bucket(LimitKind::RequestsPerMinute, 10, 5, MINUTE);
    let day = bucket(LimitKind::RequestsPerDay, 1_000, 900, DAY);
    let key = bucket(LimitKind::RequestsPerMinute, 4, 2, MINUTE);
    assert_eq!(
        shown(&[minute.clone(), day.clone()])[0],
        "limit-requests: 1000"
    );
    assert_eq!(
        shown(&[minute.clone(), key.clone()])[0],
        "limit-requests: 10"
    );
    let denying = LimitStatus {
        denial: Some(Wait::Exactly(MINUTE)),
        ..key
    };
    let all = [minute, day, denying];
    assert_eq!(shown(&all)[0], "limit-requests: 4");
    assert_eq!(denied_by(&all), Some("requests_per_minute"));
}

#[test]
fn more_used_than_the_limit_leaves_nothing() {
    let debt = bucket(LimitKind::TokensPerMinute, 100, 250, MINUTE);
    assert_eq!(
        shown(&[debt]),
        [
            "limit-tokens: 100",
            "remaining-tokens: 0",
            "reset-tokens: 2m30s"
        ]
    );
}
