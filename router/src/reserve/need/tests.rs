//! What requests set aside.

use std::num::NonZeroU64;
use std::sync::Arc;

use inferyard_proto::worker::v1::{TextPrompt, TokenIds};

use super::*;
use crate::catalog::Plan;

/// $1 per million tokens of the prompt, $2 per million of the answer.
fn key(change: impl FnOnce(&mut Plan)) -> Key {
    let mut plan = Plan {
        price: Price::new("p", 1_000, 500, 2_000),
        output_reserve: 100,
        ..Plan::unrestricted("p")
    };
    change(&mut plan);
    Key {
        name: "k".into(),
        account: "a".into(),
        plan: Arc::new(plan),
        expires: None,
        disabled: false,
        limits: None,
    }
}

fn request(choices: u32, max_tokens: Option<u32>) -> GenerateRequest {
    GenerateRequest {
        choices,
        max_tokens,
        ..GenerateRequest::default()
    }
}

fn need(key: &Key, request: &GenerateRequest) -> Need {
    Need::of(request, 4_000, &Ratio::default(), Some(8_192), key)
}

fn limit(value: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(value)
}

#[test]
fn tokens_are_the_guessed_prompt_and_the_answers() {
    let key = key(|_| ());
    for (choices, max_tokens, tokens) in [
        (0, None, 1_000 + 100),
        (1, None, 1_000 + 100),
        (3, None, 1_000 + 300),
        (3, Some(50), 1_000 + 150),
        (1, Some(0), 1_000),
        // No answer is longer than the context.
        (1, Some(u32::MAX), 1_000 + 8_192),
    ] {
        let need = need(&key, &request(choices, max_tokens));
        assert_eq!(need.tokens, tokens, "{choices} {max_tokens:?}");
        assert_eq!((need.money, need.least_money), (0, 0));
    }
}

#[test]
fn a_prompt_of_token_ids_is_counted() {
    let ids = TokenIds { ids: vec![7; 33] };
    let prompt = TextPrompt {
        content: Some(Content::Tokens(ids)),
        echo: false,
    };
    let request = GenerateRequest {
        prompt: Some(Prompt::Text(prompt)),
        ..request(1, Some(16))
    };
    assert_eq!(need(&key(|_| ()), &request).tokens, 33 + 16);
}

#[test]
fn a_reserve_that_nobody_asked_for_denies_nobody() {
    let limited = |per_minute, per_day| {
        key(|plan| {
            plan.limits.tokens_per_minute = limit(per_minute);
            plan.limits.tokens_per_day = limit(per_day);
        })
    };
    assert_eq!(need(&limited(1_050, 0), &request(1, None)).tokens, 1_050);
    assert_eq!(
        need(&limited(9_000, 1_020), &request(1, None)).tokens,
        1_020
    );
    // What was asked for does, and so does the prompt.
    assert_eq!(
        need(&limited(1_050, 0), &request(1, Some(60))).tokens,
        1_060
    );
    assert_eq!(need(&limited(900, 0), &request(1, None)).tokens, 1_001);
    let mut narrow = limited(9_000, 0);
    narrow.limits = Some(Limits {
        tokens_per_minute: limit(1_030),
        ..Limits::default()
    });
    assert_eq!(need(&narrow, &request(1, None)).tokens, 1_030);
}

#[test]
fn a_budget_holds_the_dearest_course() {
    let key = key(|plan| plan.limits.budget_per_month = limit(1));
    let prompt = (4_000 + 1_024) * 1_000;
    let asked = need(&key, &request(2, Some(10)));
    assert_eq!(asked.money, prompt + 2 * 10 * 2_000);
    assert_eq!(asked.least_money, prompt + 2 * 2_000);
    let open = need(&key, &request(1, None));
    assert_eq!(open.money, prompt + 8_192 * 2_000);
    let nothing = need(&key, &request(1, Some(0)));
    assert_eq!((nothing.money, nothing.least_money), (prompt, prompt));
    let short = Need::of(
        &request(1, Some(1)),
        4_000,
        &Ratio::default(),
        Some(64),
        &key,
    );
    assert_eq!(short.money, 64 * 1_000 + 2_000);
}

#[test]
fn what_is_granted_makes_the_answer_shorter() {
    let key = key(|plan| plan.limits.budget_per_month = limit(1));
    let prompt = (4_000 + 1_024) * 1_000;
    for (granted, longest) in [(4_000, 1), (4_001, 1), (39_999, 9), (40_000, 10)] {
        let mut request = request(2, Some(50));
        let mut need = need(&key, &request);
        need.grant(prompt + granted, &mut request);
        assert_eq!(request.max_tokens, Some(longest), "{granted}");
        assert_eq!(need.longest, u64::from(longest));
        assert!(need.answer <= 2 * need.longest);
    }
    let mut request = request(1, None);
    let mut need = need(&key, &request);
    need.grant(need.money, &mut request);
    assert_eq!(request.max_tokens, None);
}

#[test]
fn shadow_mode_makes_nothing_shorter() {
    let key = key(|plan| {
        plan.limits.budget_per_month = limit(1);
        plan.shadow = true;
    });
    let mut request = request(1, Some(50));
    need(&key, &request).grant(0, &mut request);
    assert_eq!(request.max_tokens, Some(50));
}
