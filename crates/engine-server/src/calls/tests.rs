//! Fragments in the forms of many servers, and the calls that become of them.

use super::*;

/// Index, name and arguments of the calls that the fragments make.
fn calls(fragments: &[&str]) -> Vec<(String, String)> {
    read(fragments, true)
        .into_iter()
        .map(|(_, name, arguments)| (name, arguments))
        .collect()
}

fn read(fragments: &[&str], parallel: bool) -> Vec<(String, String, String)> {
    let options = ReadOptions {
        parallel_tool_calls: parallel,
        ..ReadOptions::default()
    };
    read_as(fragments, &options)
}

fn read_as(fragments: &[&str], options: &ReadOptions) -> Vec<(String, String, String)> {
    let mut calls = Calls::default();
    let mut said = Vec::new();
    for fragment in fragments {
        calls.push(serde_json::from_str(fragment).unwrap(), options, &mut said);
    }
    calls.finish(&mut said);
    let mut whole: Vec<(String, String, String)> = Vec::new();
    for fragment in said {
        let at = fragment.index as usize;
        if at == whole.len() {
            assert!(!fragment.id.is_empty() && !fragment.name.is_empty());
            whole.push((fragment.id, fragment.name, fragment.arguments));
        } else {
            assert_eq!((fragment.id.as_str(), fragment.name.as_str()), ("", ""));
            whole[at].2.push_str(&fragment.arguments);
        }
    }
    whole
}

fn expect(fragments: &[&str], expected: &[(&str, &str)]) {
    let found = calls(fragments);
    let found: Vec<_> = found
        .iter()
        .map(|(n, a)| (n.as_str(), a.as_str()))
        .collect();
    assert_eq!(found, expected, "{fragments:?}");
}

#[test]
fn fragments_and_whole_calls() {
    expect(
        &[
            r#"{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":""}}"#,
            r#"{"index":0,"function":{"arguments":"{\"a\":"}}"#,
            r#"{"index":0,"function":{"arguments":"1}"}}"#,
            r#"{"index":1,"id":"call_2","type":"function","function":{"name":"g","arguments":"{}"}}"#,
        ],
        &[("f", r#"{"a":1}"#), ("g", "{}")],
    );
}

#[test]
fn one_index_for_every_call() {
    // By their ids, by their names, and by nothing but a whole object.
    expect(
        &[
            r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"a\":1}"}}"#,
            r#"{"index":0,"id":"b","function":{"name":"f","arguments":"{\"a\":2}"}}"#,
        ],
        &[("f", r#"{"a":1}"#), ("f", r#"{"a":2}"#)],
    );
    expect(
        &[
            r#"{"index":0,"function":{"name":"f","arguments":"{}"}}"#,
            r#"{"index":0,"function":{"name":"g","arguments":"{}"}}"#,
            r#"{"index":0,"function":{"name":"g","arguments":"{\"b\":1}"}}"#,
        ],
        &[("f", "{}"), ("g", "{}"), ("g", r#"{"b":1}"#)],
    );
}

#[test]
fn an_id_that_changes_is_the_same_call() {
    expect(
        &[
            r#"{"index":0,"id":"functions.read:0","function":{"name":"read","arguments":""}}"#,
            r#"{"index":0,"id":"x","function":{"name":null,"arguments":"{\"p\":"}}"#,
            r#"{"index":0,"id":"y","function":{"name":null,"arguments":"1}"}}"#,
        ],
        &[("read", r#"{"p":1}"#)],
    );
}

#[test]
fn a_name_in_every_fragment() {
    expect(
        &[
            r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{\"a\""}}"#,
            r#"{"index":0,"id":"a","function":{"name":"f","arguments":":\"}\\\"\""}}"#,
            r#"{"index":0,"id":"a","function":{"name":"f","arguments":"}"}}"#,
        ],
        &[("f", r#"{"a":"}\""}"#)],
    );
}

#[test]
fn a_name_that_comes_late() {
    expect(
        &[
            r#"{"index":0,"id":"a","function":{"arguments":"{"}}"#,
            r#"{"index":0,"function":{"name":"f"}}"#,
            r#"{"index":0,"function":{"arguments":"}"}}"#,
        ],
        &[("f", "{}")],
    );
}

#[test]
fn no_index_and_no_id() {
    expect(
        &[
            r#"{"id":"a","function":{"name":"f","arguments":"{"}}"#,
            r#"{"function":{"arguments":"}"}}"#,
            r#"{"id":"b","function":{"name":"f","arguments":"{}"}}"#,
            r#"{"function":{"name":"g","arguments":{"x": [1]}}}"#,
        ],
        &[("f", "{}"), ("f", "{}"), ("g", r#"{"x": [1]}"#)],
    );
}

#[test]
fn no_arguments_are_an_empty_object() {
    expect(
        &[r#"{"index":3,"function":{"name":"f","arguments":null}}"#],
        &[("f", "{}")],
    );
    expect(&[r#"{"index":0,"id":null,"function":null}"#], &[]);
}

#[test]
fn a_character_may_be_cut_in_half() {
    expect(
        &[
            r#"{"index":0,"function":{"name":"f","arguments":"{\"x\":\"\ud83d"}}"#,
            r#"{"index":0,"function":{"arguments":"\ude00\"}"}}"#,
            r#"{"index":1,"function":{"name":"g","arguments":"\"\ud83d\""}}"#,
            r#"{"index":2,"function":{"name":"h","arguments":"\ud83d"}}"#,
        ],
        &[
            ("f", r#"{"x":"😀"}"#),
            ("g", "\"\u{fffd}\""),
            ("h", "\u{fffd}"),
        ],
    );
}

#[test]
fn ids_are_kept_where_they_can_be() {
    let found = read(
        &[
            r#"{"index":0,"id":"chatcmpl-tool-1","function":{"name":"f","arguments":"{}"}}"#,
            r#"{"index":1,"id":"","function":{"name":"f","arguments":"{}"}}"#,
            r#"{"index":2,"id":"with space","function":{"name":"f","arguments":"{}"}}"#,
        ],
        true,
    );
    assert_eq!(found[0].0, "chatcmpl-tool-1");
    for made in &found[1..] {
        assert!(
            made.0.starts_with("call_") && made.0.len() == 29,
            "{}",
            made.0
        );
    }
}

#[test]
fn calls_that_are_not_allowed_are_left_out() {
    let fragments = [
        r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}"#,
        r#"{"index":0,"function":{"arguments":"}"}}"#,
        r#"{"index":1,"id":"b","function":{"name":"g","arguments":"{}"}}"#,
        r#"{"index":2,"id":"c","function":{"arguments":"{"}}"#,
        r#"{"index":2,"function":{"name":"f","arguments":"}"}}"#,
    ];
    for parallel_tool_calls in [true, false] {
        let options = ReadOptions {
            parallel_tool_calls,
            allowed: Some(["g".to_owned()].into()),
            ..ReadOptions::default()
        };
        let call = |id: &str, name: &str| (id.to_owned(), name.to_owned(), "{}".to_owned());
        assert_eq!(read_as(&fragments, &options), [call("b", "g")]);
    }
}

#[test]
fn only_one_call_where_only_one_is_allowed() {
    let found = read(
        &[
            r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}"#,
            r#"{"index":1,"id":"b","function":{"name":"g","arguments":""}}"#,
            r#"{"index":1,"function":{"arguments":"{}"}}"#,
        ],
        false,
    );
    assert_eq!(found.len(), 1);
}
