//! Tests of what requests reserve.

use std::num::NonZeroU64;
use std::sync::Arc;

use inferyard_proto::worker::v1::generate_request::Prompt;
use inferyard_proto::worker::v1::text_prompt::Content;
use inferyard_proto::worker::v1::{ChatPrompt, TextPrompt, TokenIds};

use super::*;
use crate::request::Estimates;
use inferyard_catalog::Plan;

/// A key with prices of $1 per million prompt tokens and $2 per million answer tokens.
fn key(change: impl FnOnce(&mut Plan)) -> Key {
    let mut plan = Plan {
        price: Price::new("p", 1_000, 500, 2_000),
        output_reserve: 100,
        ..Plan::unrestricted("p")
    };
    change(&mut plan);
    Key {
        name: Some("k".into()),
        account: "a".into(),
        plan: Arc::new(plan),
        expires: None,
        disabled: false,
        limits: None,
    }
}

/// A conversation of 4,000 bytes.
fn request(choices: u32, max_tokens: Option<u32>) -> GenerateRequest {
    let chat = ChatPrompt {
        messages_json: vec![b'0'; 4_000].into(),
        ..ChatPrompt::default()
    };
    GenerateRequest {
        prompt: Some(Prompt::Chat(chat)),
        choices,
        max_tokens,
        ..GenerateRequest::default()
    }
}

fn need(key: &Key, request: &GenerateRequest) -> Need {
    within(8_192, key, request)
}

/// The need with this context length.
fn within(context: u64, key: &Key, request: &GenerateRequest) -> Need {
    let estimate = Estimates::default().of(request, &key.account, &"m".into(), 0);
    let lengths = PromptLengths {
        context: Some(context),
        template: None,
    };
    Need::of(request, &estimate, lengths, key)
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
        // An answer is not longer than the context.
        (1, Some(u32::MAX), 1_000 + 8_192),
    ] {
        let need = need(&key, &request(choices, max_tokens));
        assert_eq!(need.tokens.get(), tokens, "{choices} {max_tokens:?}");
        assert_eq!((need.money.get(), need.least_money.get()), (0, 0));
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
    assert_eq!(need(&key(|_| ()), &request).tokens.get(), 33 + 16);
}

#[test]
fn a_reserve_that_nobody_asked_for_denies_nobody() {
    let limited = |per_minute, per_day| {
        key(|plan| {
            plan.limits.tokens_per_minute = limit(per_minute);
            plan.limits.tokens_per_day = limit(per_day);
        })
    };
    assert_eq!(
        need(&limited(1_050, 0), &request(1, None)).tokens.get(),
        1_050
    );
    assert_eq!(
        need(&limited(9_000, 1_020), &request(1, None)).tokens.get(),
        1_020
    );
    // An explicit `max_tokens` may exceed the limit, and so may the prompt.
    assert_eq!(
        need(&limited(1_050, 0), &request(1, Some(60))).tokens.get(),
        1_060
    );
    assert_eq!(
        need(&limited(900, 0), &request(1, None)).tokens.get(),
        1_001
    );
    let mut narrow = limited(9_000, 0);
    narrow.limits = Some(Limits {
        tokens_per_minute: limit(1_030),
        ..Limits::default()
    });
    assert_eq!(need(&narrow, &request(1, None)).tokens.get(), 1_030);
}

/// A key with a budget.
fn budgeted() -> Key {
    key(|plan| plan.limits.budget_per_month = limit(1))
}

/// The need on workers that count a prompt before computing it; their template adds 24 tokens.
fn counting(key: &Key, request: &GenerateRequest) -> Need {
    let estimate = Estimates::default().of(request, &key.account, &"m".into(), 24);
    let lengths = PromptLengths {
        context: Some(8_192),
        template: Some(24),
    };
    Need::of(request, &estimate, lengths, key)
}

/// The cost of prompt tokens and of tokens of all choices.
fn price(prompt: u64, answers: u64) -> u64 {
    prompt * 1_000 + answers * 2_000
}

#[test]
fn a_budget_holds_the_dearest_course() {
    let key = budgeted();
    let asked = need(&key, &request(2, Some(10)));
    assert_eq!(asked.money.get(), price(5_024, 20));
    assert_eq!(asked.least_money.get(), price(5_024, 2));
    let open = need(&key, &request(1, None));
    assert_eq!(open.money.get(), price(5_024, 8_192));
    let nothing = need(&key, &request(1, Some(0)));
    assert_eq!(nothing.money.get(), price(5_024, 0));
    assert_eq!(nothing.least_money.get(), price(5_024, 0));
    let short = within(64, &key, &request(1, Some(1)));
    assert_eq!(short.money.get(), price(64, 1));
    // A prompt that a worker will count is not denied before it is counted.
    let asked = counting(&key, &request(2, Some(10)));
    assert_eq!(asked.money.get(), price(4_024, 20));
    assert_eq!(asked.least_money.get(), price(1, 2));
}

#[test]
fn a_prompt_that_no_worker_counts_is_paid_by_its_bytes_and_the_answer_made_shorter() {
    let key = budgeted();
    for (granted, longest) in [(4_000, 1), (4_001, 1), (39_999, 9), (40_000, 10)] {
        let mut request = request(2, Some(50));
        let mut need = need(&key, &request);
        need.grant(NanoDollars::new(price(5_024, 0) + granted), &mut request);
        assert_eq!(request.max_tokens, Some(longest), "{granted}");
        assert_eq!(request.max_prompt_tokens, Some(5_024));
        assert_eq!(need.longest, Tokens::from(longest));
        assert!(need.answer <= need.longest.times(2));
    }
    let mut request = request(1, None);
    let mut need = need(&key, &request);
    need.grant(need.money, &mut request);
    assert_eq!(
        (request.max_tokens, request.max_prompt_tokens),
        (None, Some(5_024))
    );
}

#[test]
fn a_prompt_that_a_worker_counts_is_bounded_by_what_the_answer_leaves() {
    let key = budgeted();
    // The estimate is 1,024 tokens.
    for (granted, most_prompt) in [
        (price(4_024, 50), 4_024),
        (price(4_023, 50), 4_023),
        (price(1_024, 50), 1_024),
        // Too little for the request: the worker only counts the prompt.
        (price(1_024, 50) - 1, 0),
        (price(1, 1), 0),
    ] {
        let mut request = request(1, Some(50));
        counting(&key, &request).grant(NanoDollars::new(granted), &mut request);
        assert_eq!(request.max_prompt_tokens, Some(most_prompt), "{granted}");
        assert_eq!(request.max_tokens, Some(50));
    }
}

#[test]
fn a_counted_prompt_is_paid_exactly() {
    let key = budgeted();
    let first = request(2, None);
    for (granted, longest) in [
        (price(700, 2 * 8_192), None),
        (price(700, 2 * 8_192) - 1, Some(8_191)),
        (price(700, 2), Some(1)),
    ] {
        let mut request = first.clone();
        let mut need = counting(&key, &request);
        need.grant(NanoDollars::new(price(1, 2)), &mut request);
        assert_eq!(request.max_prompt_tokens, Some(0));
        need.counted(Tokens::new(700));
        assert_eq!(
            (need.money.get(), need.least_money.get()),
            (price(700, 2 * 8_192), price(700, 2))
        );
        need.grant(NanoDollars::new(granted), &mut request);
        assert_eq!(request.max_prompt_tokens, Some(700));
        assert_eq!(request.max_tokens, longest, "{granted}");
        assert_eq!(need.money.get(), granted);
    }
}

#[test]
fn what_is_allowed_never_costs_more_than_was_granted() {
    let mut worth_it = 0;
    for template in [None, Some(24)] {
        for (input, output) in [(1_000, 2_000), (0, 3), (7, 0), (5_000, 5_000)] {
            for granted in (0..200_000).step_by(997).chain([u64::MAX]) {
                let mut key = budgeted();
                let plan = Arc::make_mut(&mut key.plan);
                plan.price = Price::new("p", input, input / 2, output);
                let mut request = request(2, Some(30));
                let estimate = Estimates::default().of(&request, &key.account, &"m".into(), 24);
                let context = Some(40);
                let lengths = PromptLengths { context, template };
                let mut need = Need::of(&request, &estimate, lengths, &key);
                let granted = granted.min(need.money.get());
                if granted < need.least_money.get() {
                    continue;
                }
                need.grant(NanoDollars::new(granted), &mut request);
                let [prompt, answer] = [request.max_prompt_tokens, request.max_tokens];
                let [prompt, answer] = [prompt, answer].map(|most| u64::from(most.unwrap()));
                let dearest = prompt * input + 2 * answer * output;
                // A prompt bound of 0 means that it is only counted.
                assert!(prompt == 0 || dearest <= granted, "{dearest} of {granted}");
                worth_it += 1;
            }
        }
    }
    assert!(worth_it > 300, "{worth_it}");
}

#[test]
fn shadow_mode_makes_nothing_shorter() {
    let key = key(|plan| {
        plan.limits.budget_per_month = limit(1);
        plan.shadow = true;
    });
    let mut request = request(1, Some(50));
    let mut need = need(&key, &request);
    need.grant(NanoDollars::ZERO, &mut request);
    assert_eq!(
        (request.max_tokens, request.max_prompt_tokens),
        (Some(50), None)
    );
    assert!(!need.may_be_counted());
}
