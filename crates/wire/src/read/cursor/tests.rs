//! The cursor accepts exactly what `serde_json` accepts, except duplicate keys.
#![expect(clippy::too_many_lines, reason = "tables of cases")]

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn verdict(text: &[u8]) -> Result<(), Broken> {
    let mut cursor = Cursor::new(text);
    cursor.skip()?;
    cursor.finish()
}

fn agrees(text: &[u8]) {
    let ours = verdict(text);
    if ours.is_err_and(|broken| broken.what == TWICE) {
        return;
    }
    let theirs = serde_json::from_slice::<Value>(text);
    assert_eq!(
        ours.is_ok(),
        theirs.is_ok(),
        "{:?}: {ours:?}, serde_json: {theirs:?}",
        String::from_utf8_lossy(text)
    );
}

#[test]
fn edges_agree_with_serde_json() {
    let cases: &[&[u8]] = &[
        b"",
        b" ",
        b"nul",
        b"null",
        b"nulll",
        b"true",
        b"tru",
        b"false ",
        b"falsy",
        b"-",
        b"-0",
        b"00",
        b"01",
        b"1.",
        b"1.0",
        b".5",
        b"1e",
        b"1e+",
        b"1e5",
        b"1E-5",
        b"1e308",
        b"1e309",
        b"-1e400",
        b"0e999",
        b"1e-999",
        b"+1",
        b"0x1",
        b"NaN",
        b"Infinity",
        b"\"",
        b"\"a",
        b"\"a\"",
        b"\"\\\"",
        b"\"\\x\"",
        b"\"\\u00e9\"",
        b"\"\\u00g9\"",
        b"\"\\u12\"",
        b"\"\\ud83d\\ude00\"",
        b"\"\\ud83d\"",
        b"\"\\ude00\"",
        b"\"\\ud83d\\u0041\"",
        b"\"\\ud83dx\"",
        b"\"\\u0000\"",
        b"\"\x00\"",
        b"\"\n\"",
        b"\"\x1f\"",
        b"\"\x7f\"",
        b"\"\xff\"",
        b"\"\xc3\xa9\"",
        b"\"\xc3\"",
        b"\xc3\xa9",
        b"\"\xed\xa0\x80\"",
        b"[",
        b"[]",
        b"[ ]",
        b"[1,]",
        b"[,1]",
        b"[1 2]",
        b"[1]]",
        b"{",
        b"{}",
        b"{ }",
        b"{\"a\"}",
        b"{\"a\":}",
        b"{\"a\":1,}",
        b"{\"a\":1 \"b\":2}",
        b"{a:1}",
        b"{1:1}",
        b"{\"a\":1}{}",
        b"{\"a\":1}\n",
        b"\xef\xbb\xbf{}",
        b"/**/1",
        b"{\"a\":[{\"b\":null},\"c\"]}",
        b"\x0b1",
        b"'a'",
        b"\"\\\n\"",
    ];
    for case in cases {
        agrees(case);
    }
    agrees("9".repeat(308).as_bytes());
    agrees("9".repeat(400).as_bytes());
    agrees(format!("0.{}", "9".repeat(400)).as_bytes());
}

#[test]
fn nesting_ends_at_the_limit() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(verdict(nested(64).as_bytes()), Ok(()));
    let error = verdict(nested(65).as_bytes()).unwrap_err();
    assert_eq!(error.at, 64);
    // Deep nesting does not overflow the stack.
    assert!(verdict("[".repeat(1 << 20).as_bytes()).is_err());
    assert!(verdict("{\"a\":".repeat(1 << 20).as_bytes()).is_err());
}

#[test]
fn errors_point_at_the_byte() {
    assert_eq!(
        verdict(b"{\"a\": tru}"),
        Err(Broken {
            at: 6,
            what: "expected a value"
        })
    );
    assert_eq!(
        verdict(b"[\"ab\ncd\"]"),
        Err(Broken {
            at: 4,
            what: "expected control characters in strings to be escaped"
        })
    );
}

#[test]
fn a_key_stands_once_in_each_object() {
    let many = |last: &str| {
        let keys: Vec<String> = (0..20).map(|key| format!("\"k{key}\":0")).collect();
        format!("[{{{},\"{last}\":0}}]", keys.join(","))
    };
    for (text, at) in [
        (r#"{"a":1,"a":1}"#.to_owned(), Some(7)),
        (r#"{"a":1,"b":{"a":1,"b":2}}"#.to_owned(), None),
        (r#"[{"b":{"a":1,"a":2}}]"#.to_owned(), Some(13)),
        // The same key, written with escapes.
        (r#"{"a":1,"\u0061":1}"#.to_owned(), Some(7)),
        (r#"{"\u0061":1,"a":1}"#.to_owned(), Some(12)),
        (r#"{"":1,"A":2,"a":3," a":4}"#.to_owned(), None),
        (many("k20"), None),
        (many("k3"), Some(many("k3").rfind("\"k3").unwrap())),
        (many("\\u006b19"), Some(many("").rfind("\"\"").unwrap())),
    ] {
        let broken = at.map(|at| Broken { at, what: TWICE });
        assert_eq!(verdict(text.as_bytes()).err(), broken, "{text}");
    }
}

/// JSON values of every type, nested a few levels.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn all_json_is_accepted(value in value(), pretty: bool) {
        let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) };
        prop_assert_eq!(verdict(&text.unwrap()), Ok(()));
    }

    #[test]
    fn damaged_json_gets_the_verdict_of_serde_json(
        value in value(),
        cut in any::<prop::sample::Index>(),
        with in prop::sample::select(&b"\"\\{}[],:0-e.u n\x00\x1f\x80\xc3\xff"[..]),
        how in 0..3_u8,
    ) {
        let mut text = serde_json::to_vec(&value).unwrap();
        let at = cut.index(text.len());
        match how {
            0 => text[at] = with,
            1 => text.truncate(at),
            _ => text.insert(at, with),
        }
        agrees(&text);
    }

    #[test]
    fn tokens_in_any_order_get_the_verdict_of_serde_json(
        tokens in prop::collection::vec(
            prop::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"a\"", "\"", "\\", "\\u00", "\\ud800", "\\udc00",
                "1", "-", "0", ".5", "e9", "E+", "null", "true", "fals", " ", "\n", "é", "\u{0}",
            ]),
            0..12,
        ),
    ) {
        agrees(tokens.concat().as_bytes());
    }
}
