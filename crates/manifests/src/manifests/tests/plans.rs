//! Plans, prices, limits and rotated keys become what the router counts.

use inferyard_catalog::{Limits, ONE_SCOPE, OnLoss, Preview, Price, Queue};
use std::num::NonZeroU64;
use std::time::Duration;

use super::*;

pub(super) fn plan_named(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: inferyard.dev/v1alpha1\nkind: Plan\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

pub(super) fn plan(spec: &str) -> String {
    plan_named("basic", spec)
}

pub(super) fn key_with(fields: &str) -> String {
    key(&format!("{{plan: basic, hash: {}, {fields}}}", hash()))
}

fn some(count: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(count)
}

#[test]
fn every_field_of_a_plan_is_read() {
    let text = plan(
        "{models: [demo], namespaceSelector: {any: true}, priority: 100, weight: 300, queue: {maxRequests: 0, maxWait: 1m30s}, defaultOutputReserve: 512, whenRedisIsLost: closed,
          shadow: true, preview: {signUpUrl: 'https://example.com/keys', tokensPerDay: 7},
          limits: {requestsPerMinute: 1, requestsPerDay: 2, requestsTotal: 3, tokensPerMinute: 4,
                   tokensPerDay: 5, concurrentRequests: 6, budgetPerMonth: '25.50'},
          price: {perMillionInputTokens: '3', perMillionCachedInputTokens: '0.30',
                  perMillionOutputTokens: '15'}}",
    );
    let manifests = parse(&[MODEL, &text]).unwrap();
    let expected = Plan {
        name: "basic".into(),
        scopes: vec![ONE_SCOPE.into()],
        models: Some(vec!["demo".into()]),
        priority: 100,
        weight: 300,
        queue: Queue {
            max_requests: 0,
            max_wait: Duration::from_secs(90),
        },
        limits: Limits {
            requests_per_minute: some(1),
            requests_per_day: some(2),
            requests_total: some(3),
            tokens_per_minute: some(4),
            tokens_per_day: some(5),
            concurrent_requests: some(6),
            budget_per_month: some(25_500_000_000),
        },
        price: Price::new("basic", 3_000, 300, 15_000),
        output_reserve: 512,
        on_loss: OnLoss::Closed,
        shadow: true,
        preview: Some(Preview {
            sign_up: Some("https://example.com/keys".into()),
            tokens_per_day: some(7),
        }),
    };
    let catalog = manifests.catalog(&BTreeMap::new(), []);
    assert_eq!(*catalog.plans["basic"], expected);
}

#[test]
fn a_plan_that_says_nothing_is_one_without_restrictions() {
    for spec in ["{}", "{limits: {}, price: null, preview: null, queue: {}}"] {
        let manifests = parse(&[MODEL, &plan(spec)]).unwrap();
        assert_eq!(*manifests.plans["basic"], Plan::unrestricted("basic"));
    }
}

#[test]
fn one_price_is_that_of_every_token_and_a_cached_one_may_be_left_out() {
    for (price, expected) in [
        ("{perMillionTokens: '0'}", (0, 0, 0)),
        ("{perMillionTokens: '5.00'}", (5_000, 5_000, 5_000)),
        (
            "{perMillionInputTokens: '3', perMillionOutputTokens: '0.001'}",
            (3_000, 3_000, 1),
        ),
    ] {
        let manifests = parse(&[MODEL, &plan(&format!("{{price: {price}}}"))]).unwrap();
        let price = &manifests.plans["basic"].price;
        let prices = (
            price.input.get(),
            price.cached_input.get(),
            price.output.get(),
        );
        assert_eq!(prices, expected);
    }
}

#[test]
fn a_key_has_limits_of_its_own_and_its_text_before_the_rotation_until_that_ends() {
    let before = "cd".repeat(32);
    for (expires, end) in [("", "2030"), (", expiresAt: 2029-01-01T00:00:00Z", "2029")] {
        let key = key_with(&format!(
            "account: acme, limits: {{requestsPerMinute: 3}}, previousHash: {before}, \
             previousHashExpiresAt: 2030-01-01T00:00:00Z{expires}"
        ));
        let keys = parse(&[MODEL, PLAN, &key]).unwrap().keys;
        let now = &keys[&KeyHash([0xab; 32])];
        let previous = &keys[&KeyHash([0xcd; 32])];
        let limits = Limits {
            requests_per_minute: some(3),
            ..Limits::default()
        };
        assert_eq!(
            (now.limits, now.expires.is_none()),
            (Some(limits), expires.is_empty())
        );
        let years = end.parse::<u64>().unwrap() - 1970;
        let leap_days = (years + 1) / 4;
        let moment = UNIX_EPOCH + Duration::from_hours(24 * (365 * years + leap_days));
        let expected = Key {
            expires: Some(moment),
            ..Key::clone(now)
        };
        assert_eq!(**previous, expected, "all but the end is the same");
    }
}

/// The preview is for callers without a key.
#[test]
fn the_preview_is_no_default_plan() {
    let preview = plan_named("free", "{preview: {}}");
    let default = |documents: &[&str]| parse(documents).unwrap().default_plan().name.clone();
    assert_eq!(&*default(&[MODEL, &preview]), "unrestricted");
    assert_eq!(&*default(&[MODEL, &preview, PLAN]), "basic");
}

/// The examples that ship are the first manifests that users read and copy.
#[test]
fn the_examples_are_right() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let read = |names: &[&str]| {
        let paths: Vec<_> = names.iter().map(|name| folder.join(name)).collect();
        Manifests::parse(&crate::read(&paths).unwrap()).unwrap()
    };
    assert!(read(&["quickstart.yaml"]).plans.is_empty());
    let plans = read(&["quickstart.yaml", "plans.yaml"]).plans;
    let names: Vec<_> = plans.keys().map(|name| &**name).collect();
    assert_eq!(names, ["free", "starter", "team"]);
    assert_eq!(plans["free"].limits.requests_total, some(5));
    assert!(plans["free"].preview.is_some());
    assert_eq!(
        plans["starter"].price,
        Price::new("starter", 5_000, 5_000, 5_000)
    );
    assert!(plans["team"].priority > plans["starter"].priority);
}
