//! Entries that are events, and entries that are not.

use super::*;

fn wire() -> UsageEvent {
    UsageEvent {
        request_id: format!("req_{:032x}", 7),
        account: "acme".to_owned(),
        key: "acme-ci".to_owned(),
        plan: "pro".to_owned(),
        model: "demo".to_owned(),
        endpoint: "/v1/chat/completions".to_owned(),
        stream: true,
        price: Some(inferyard_proto::usage::v1::Price {
            version: "0a1b2c3d".to_owned(),
            input: 5_000,
            cached_input: 500,
            output: 5_000,
        }),
        admitted_us: 1_000,
        worker_instance: 0xab,
        prompt_tokens: 10,
        cached_tokens: 4,
        completion_tokens: 7,
        reasoning_tokens: 2,
        cost_nanodollars: 67_000,
        status: 200,
        code: "ok".to_owned(),
        ended_us: 2_000,
        first_token_us: 300,
    }
}

fn entry(wire: &UsageEvent) -> Entry {
    Entry {
        event: wire.encode_to_vec().into(),
        part: 0,
        billed: Bytes::new(),
    }
}

#[test]
fn an_entry_is_read_whole() {
    let event = read(entry(&wire())).unwrap();
    assert_eq!(event.worker_instance, "00000000000000ab");
    assert_eq!(event.time_us(), 2_000);
    assert_eq!(event.requests(), 1);
    assert_eq!(event.price.cached_input, 500);
    let expected = Amounts {
        prompt: 10,
        cached: 4,
        completion: 7,
        reasoning: 2,
        cost: 67_000,
    };
    assert_eq!(event.amounts, expected);
}

#[test]
fn pieces_that_follow_each_other_are_one_event() {
    let whole = wire();
    let first = UsageEvent {
        code: "router_lost".to_owned(),
        status: 0,
        ended_us: 0,
        first_token_us: 0,
        prompt_tokens: 0,
        completion_tokens: 0,
        ..whole.clone()
    };
    let last = UsageEvent {
        prompt_tokens: 10,
        completion_tokens: 7,
        status: 200,
        code: "ok".to_owned(),
        ended_us: 2_000,
        first_token_us: 300,
        ..UsageEvent::default()
    };
    let pieces = [first.encode_to_vec(), last.encode_to_vec()].concat();
    let read_as_one = read(Entry {
        event: pieces.into(),
        part: 0,
        billed: Bytes::new(),
    });
    assert_eq!(read_as_one.unwrap(), read(entry(&whole)).unwrap());
}

#[test]
fn a_further_part_bills_the_difference_and_no_request() {
    let billed = UsageEvent {
        completion_tokens: 5,
        reasoning_tokens: 2,
        cost_nanodollars: 57_000,
        ..wire()
    };
    let event = read(Entry {
        part: 1,
        billed: billed.encode_to_vec().into(),
        ..entry(&wire())
    })
    .unwrap();
    let expected = Amounts {
        completion: 2,
        cost: 10_000,
        ..Amounts::default()
    };
    assert_eq!((event.amounts, event.requests()), (expected, 0));
}

#[test]
fn an_event_without_an_end_counts_when_it_was_admitted() {
    let lost = UsageEvent {
        ended_us: 0,
        code: "router_lost".to_owned(),
        ..wire()
    };
    assert_eq!(read(entry(&lost)).unwrap().time_us(), 1_000);
}

#[test]
fn what_is_no_event_is_kept_with_the_reason() {
    let table: [(&str, UsageEvent); 6] = [
        (
            "request_id",
            UsageEvent {
                request_id: "req_1".to_owned(),
                ..wire()
            },
        ),
        (
            "account is empty",
            UsageEvent {
                account: String::new(),
                ..wire()
            },
        ),
        (
            "model is longer",
            UsageEvent {
                model: "m".repeat(LONGEST_NAME + 1),
                ..wire()
            },
        ),
        (
            "key is longer",
            UsageEvent {
                key: "a\0b".to_owned(),
                ..wire()
            },
        ),
        (
            "prompt_tokens is too large",
            UsageEvent {
                prompt_tokens: u64::MAX,
                ..wire()
            },
        ),
        (
            "ended_us is too large",
            UsageEvent {
                ended_us: u64::MAX,
                ..wire()
            },
        ),
    ];
    for (reason, wrong) in table {
        let entry = entry(&wrong);
        let letter = read(entry.clone()).unwrap_err();
        assert!(letter.reason.contains(reason), "{}", letter.reason);
        assert_eq!(letter.event, entry.event);
    }
}

#[test]
fn noise_is_kept_byte_for_byte() {
    let noise = Entry {
        event: Bytes::from_static(b"\xff\xff"),
        part: 0,
        billed: Bytes::new(),
    };
    assert_eq!(
        read(noise).unwrap_err().reason,
        "the event is no UsageEvent"
    );
    let noise = Entry {
        part: 2,
        billed: Bytes::from_static(b"\xff\xff"),
        ..entry(&wire())
    };
    let letter = read(noise).unwrap_err();
    assert_eq!((&*letter.part, &letter.billed[..]), ("2", &b"\xff\xff"[..]));
}
