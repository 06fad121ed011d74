//! Numbers come out as they went in.

use proptest::prelude::*;

use super::*;

/// What `tojson` makes of a text.
fn again(json: &str) -> String {
    let value = read(json.as_bytes()).unwrap();
    serde_json::to_string(&Json(&value)).unwrap()
}

#[test]
fn numbers_beyond_a_double_stay_as_they_are() {
    for number in [
        "9007199254740993",
        "-9007199254740993",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775809",
        "1234567890123456789012",
        "340282366920938463463374607431768211455",
        "340282366920938463463374607431768211456",
        "-170141183460469231731687303715884105729",
        "0.12345678901234567890",
        "-123456789.12345678901",
        "1.00000000000000000001",
        "12345678901234567890.5e-3",
        "1e-400",
        "10000000000000013e-1",
    ] {
        assert_eq!(again(number), number);
        let json = format!(r#"{{"a\"1":[{number},2.5,"{number}",{{"b":{number}}}],"c":{number}}}"#);
        assert_eq!(again(&json), json);
        let printed = read(number.as_bytes()).unwrap().to_string();
        assert_eq!(printed, number);
    }
}

#[test]
fn numbers_that_are_held_are_numbers_of_the_engine() {
    for (number, value) in [
        ("1", Value::from(1)),
        (
            "-12345678901234567",
            Value::from(-12_345_678_901_234_567_i64),
        ),
        ("0.1", Value::from(0.1)),
        ("0.10000000000000000000", Value::from(0.1)),
        ("100000000000000000000.0", Value::from(1e20)),
        ("1e300", Value::from(1e300)),
        ("0.000000000000000000", Value::from(0.0)),
        ("18446744073709551616", Value::from(1_i128 << 64)),
    ] {
        let read = read(number.as_bytes()).unwrap();
        assert!(read.is_number() && read == value, "{number}: {read}");
    }
}

#[test]
fn a_number_that_is_text_is_a_number() {
    let kinds = |json: &str| {
        let value = read(json.as_bytes()).unwrap();
        (is_number(&value), is_integer(&value), is_float(&value))
    };
    let huge = "9".repeat(60);
    assert_eq!(kinds(&huge), (true, true, false));
    assert_eq!(kinds("1.00000000000000000001"), (true, false, true));
    assert_eq!(kinds("5"), (true, true, false));
    assert_eq!(kinds("5.5"), (true, false, true));
    assert_eq!(kinds("\"5\""), (false, false, false));
    assert_eq!(kinds("[5]"), (false, false, false));
}

#[test]
fn what_is_no_json_is_refused() {
    for json in [
        "",
        "[1",
        "1234567890123456789012 5",
        "[1234567890123456789012,]",
        "01234567890123456789",
        "-",
        "1234567890123456789012.",
        "{\"a\":1234567890123456789012",
        "\"\\",
        "1e999",
    ] {
        assert!(read(json.as_bytes()).is_err(), "{json}");
    }
}

proptest! {
    #[test]
    fn decimals_keep_their_value(
        whole in "(0|[1-9][0-9]{0,30})", fraction in "(\\.[0-9]{1,30})?", exponent in "(e-?[0-9]{1,2})?",
        sign in "-?",
    ) {
        let number = format!("{sign}{whole}{fraction}{exponent}");
        let json = format!(r#"[1.5,"9{number}",{number},{{"x":{number}}},7]"#);
        let back = again(&json);
        let back: Vec<&RawValue> = serde_json::from_str(&back).unwrap();
        prop_assert_eq!(back[0].get(), "1.5");
        prop_assert_eq!(Decimal::parse(back[2].get()), Decimal::parse(&number));
        prop_assert_eq!(back[4].get(), "7");
    }

    #[test]
    fn the_same_json_comes_back(text in "[\\[\\]{},:\"\\\\a0-9.e -]{0,40}") {
        let ours = read(text.as_bytes()).ok();
        let theirs: Option<Value> = serde_json::from_str(&text).ok();
        prop_assert_eq!(ours.is_some(), theirs.is_some());
    }
}
