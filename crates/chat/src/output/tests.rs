//! Answers of real shapes, cut in every way.

use proptest::prelude::*;

use super::{Output, OutputFormat, Piece, Progress};
use crate::prompt::{ReasoningFormat, ToolFormat};

/// The pieces of an answer: neighbours joined, ids left out.
fn read(format: &OutputFormat, tokens: &[&[u8]]) -> String {
    let mut output = Output::new(format);
    let mut pieces = Vec::new();
    for token in tokens {
        // Each token's pieces begin anew, as for a reader that takes them at once.
        let mut new = Vec::new();
        let progress = output.push(token, &mut new);
        pieces.append(&mut new);
        if progress == Progress::Stopped {
            break;
        }
    }
    output.finish(&mut pieces);
    let called = pieces
        .iter()
        .any(|piece| matches!(piece, Piece::ToolCallStart { .. }));
    assert_eq!(output.called_tools(), called);
    write(&pieces)
}

fn write(pieces: &[Piece]) -> String {
    let mut written = String::new();
    let mut last = String::new();
    for piece in pieces {
        let (part, text) = match piece {
            Piece::Content(text) => ("content".to_owned(), text.clone()),
            Piece::Reasoning(text) => ("reasoning".to_owned(), text.clone()),
            Piece::ToolCallStart { index, id, name } => {
                assert!(id.len() == 29 && id.starts_with("call_"), "{id}");
                (format!("call {index} {name}"), String::new())
            }
            Piece::ToolCallArguments { index, text } => {
                assert!(
                    last.starts_with(&format!("call {index} ")),
                    "{last} {index}"
                );
                (last.clone(), text.clone())
            }
        };
        if part != last {
            written.extend(["[", &part, "]"]);
            last = part;
        }
        written += &text;
    }
    written
}

fn whole_and_split(format: &OutputFormat, answer: &str) -> String {
    let whole = read(format, &[answer.as_bytes()]);
    let bytes: Vec<_> = answer.as_bytes().chunks(1).collect();
    assert_eq!(read(format, &bytes), whole, "byte by byte");
    for cut in 0..answer.len() {
        let (first, second) = answer.as_bytes().split_at(cut);
        assert_eq!(read(format, &[first, second]), whole, "cut at {cut}");
    }
    whole
}

#[track_caller]
fn check(format: &OutputFormat, answer: &str, expect: &str) {
    assert_eq!(whole_and_split(format, answer), expect);
}

fn tools(format: ToolFormat) -> OutputFormat {
    OutputFormat {
        tools: Some(format),
        parallel_tool_calls: true,
        ..OutputFormat::default()
    }
}

fn stop(texts: &[&str]) -> OutputFormat {
    OutputFormat {
        stop: texts.iter().map(ToString::to_string).collect(),
        ..OutputFormat::default()
    }
}

#[test]
fn text_is_passed_on() {
    let plain = OutputFormat::default();
    check(&plain, "", "");
    check(&plain, "a \n b", "[content]a \n b");
    check(&plain, "größer 漢字 🙂", "[content]größer 漢字 🙂");
    check(
        &plain,
        "<tool_call>{\"name\": \"f\"}",
        "[content]<tool_call>{\"name\": \"f\"}",
    );
    check(&plain, "<think>x</think>", "[content]<think>x</think>");
}

#[test]
fn bytes_that_are_no_text_are_replaced_at_once() {
    let plain = OutputFormat::default();
    let mut pieces = Vec::new();
    let mut output = Output::new(&plain);
    output.push(b"a\xff", &mut pieces);
    assert_eq!(write(&pieces), "[content]a\u{FFFD}");
    output.push(b"\xe6\xbc", &mut pieces);
    assert_eq!(
        write(&pieces),
        "[content]a\u{FFFD}",
        "may become a character"
    );
    output.push(b"\xa2", &mut pieces);
    assert_eq!(write(&pieces), "[content]a\u{FFFD}漢");
    output.push(b"\xf0\x9f", &mut pieces);
    output.finish(&mut pieces);
    assert_eq!(write(&pieces), "[content]a\u{FFFD}漢\u{FFFD}");
}

#[test]
fn a_stop_text_ends_the_answer() {
    check(&stop(&["END"]), "one END two", "[content]one ");
    check(&stop(&["END"]), "one EN two EEND", "[content]one EN two E");
    check(&stop(&["END"]), "one EN", "[content]one EN");
    check(&stop(&["aab"]), "aaaab", "[content]aa");
    check(&stop(&["abab"]), "abaabab", "[content]aba");
    check(&stop(&["abcd", "bc"]), "xabcd", "[content]xa");
    check(&stop(&["cd", "abcd"]), "xabcd", "[content]x");
    check(&stop(&["ß", "字"]), "漢字ß", "[content]漢");
    check(&stop(&["a"]), "abc", "");
}

#[test]
fn stop_texts_are_looked_for_in_the_content_only() {
    let format = |texts: &[&str]| OutputFormat {
        stop: stop(texts).stop,
        reasoning: Some(ReasoningFormat::Think),
        ..tools(ToolFormat::Hermes)
    };
    let call = "<tool_call>{\"name\": \"get_order\", \"arguments\": {\"a\": \"X\"}}</tool_call>";
    let whole = "[call 0 get_order]{\"a\": \"X\"}";
    check(&format(&["order", "X", "tool", "{"]), call, whole);
    let answer = format!("<think>X</think>\n\nYX {call}");
    check(&format(&["X"]), &answer, "[reasoning]X[content]Y");
    check(
        &format(&["\n\n", "think"]),
        &answer,
        &format!("[reasoning]X[content]YX {whole}"),
    );
    check(
        &format(&["END"]),
        &format!("EN{call} D {call} END {call}"),
        &format!(
            "[content]EN{whole}[content] D {}[content] ",
            whole.replace('0', "1")
        ),
    );
    check(&format(&["b"]), "a<tool_call>ab", "[content]a<tool_call>a");
    check(&format(&["_c"]), "a <tool_c", "[content]a <tool");
    let open = OutputFormat {
        reasoning_open: true,
        ..format(&["X"])
    };
    check(&open, "aXb", "[reasoning]aXb");
}

#[test]
fn held_back_text_is_no_longer_than_what_may_become_a_stop_text() {
    let mut output = Output::new(&stop(&["abc", "bx"]));
    let mut pieces = Vec::new();
    for (token, expect) in [
        ("xa", "x"),
        ("b", "x"),
        ("a", "xab"),
        ("b", "xab"),
        ("y", "xababy"),
    ] {
        assert_eq!(
            output.push(token.as_bytes(), &mut pieces),
            Progress::Continue
        );
        assert_eq!(
            write(&pieces),
            format!("[content]{expect}"),
            "after {token}"
        );
    }
    assert_eq!(output.push(b"bx rest", &mut pieces), Progress::Stopped);
    output.finish(&mut pieces);
    assert_eq!(write(&pieces), "[content]xababy");
}

#[test]
fn reasoning_is_told_apart() {
    let format = OutputFormat {
        reasoning: Some(ReasoningFormat::Think),
        ..OutputFormat::default()
    };
    check(
        &format,
        "<think>\nwhy\n</think>\n\nSo.",
        "[reasoning]why\n[content]So.",
    );
    check(
        &format,
        "\n<think>why</think>So. <think>x",
        "[reasoning]why[content]So. <think>x",
    );
    check(&format, "So.", "[content]So.");
    check(&format, " <thin", "[content] <thin");
    check(&format, " <thing>", "[content] <thing>");
    check(&format, "<think>a < b </thin", "[reasoning]a < b </thin");
    check(&format, "<think>\n\n</think>\n\nSo.", "[content]So.");
    let open = OutputFormat {
        reasoning_open: true,
        ..format
    };
    check(&open, "why</think>So.", "[reasoning]why[content]So.");
    check(
        &open,
        "\n<think>\nwhy</think>So.",
        "[reasoning]why[content]So.",
    );
    check(&open, "</think>So.", "[content]So.");
    check(&open, " why", "[reasoning]why");
    let hermes = OutputFormat {
        tools: Some(ToolFormat::Hermes),
        ..open
    };
    check(
        &hermes,
        "I call <tool_call>.</think>\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>",
        "[reasoning]I call <tool_call>.[call 0 f]{}",
    );
}

#[test]
fn reasoning_tokens_can_be_counted() {
    let format = OutputFormat {
        reasoning: Some(ReasoningFormat::Think),
        ..OutputFormat::default()
    };
    let mut output = Output::new(&format);
    let states: Vec<_> = ["<think>", "why", "</think>", "So"]
        .map(|token| {
            output.push(token.as_bytes(), &mut Vec::new());
            output.in_reasoning()
        })
        .into();
    assert_eq!(states, [true, true, false, false]);
}

#[test]
fn hermes_calls() {
    let format = tools(ToolFormat::Hermes);
    let one = "<tool_call>{\"name\": \"get\", \"arguments\": {\"a\": [1, \"}\\\"\"]}}</tool_call>";
    check(&format, one, "[call 0 get]{\"a\": [1, \"}\\\"\"]}");
    let qwen = "Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"city\": \"Köln\"}}\n\
                </tool_call>\n<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>\n";
    check(
        &format,
        qwen,
        "[content]Let me see.\n[call 0 f]{\"city\": \"Köln\"}[call 1 g]{}",
    );
    let cases = [
        (
            "<tool_call>{\"arguments\": {\"a\": 1}, \"name\": \"f\"}",
            "[call 0 f]{\"a\": 1}",
        ),
        ("<tool_call>{\"name\": \"f\"}</tool_call>", "[call 0 f]{}"),
        (
            "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\"}",
            "[call 0 f]{\"a\": 1}",
        ),
        (
            "<tool_call>{\"id\": \"1\", \"name\": \"f\", \"parameters\": {}}",
            "[call 0 f]{}",
        ),
        (
            "\n <tool_call>{\"name\": \"f\"}</tool_call> done",
            "[call 0 f]{}[content] done",
        ),
        // The closing mark is missing.
        (
            "<tool_call>{\"name\": \"f\"}\n<tool_call>{\"name\": \"g\"}",
            "[call 0 f]{}[call 1 g]{}",
        ),
        // Cut off.
        (
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"x",
            "[call 0 f]{\"a\": \"x",
        ),
        ("<tool_call>{\"name\": \"f\", \"arg", "[call 0 f]"),
        (
            "<tool_call>{\"name\": \"f",
            "[content]<tool_call>{\"name\": \"f",
        ),
        ("<tool_call>{\"name\": \"f\"}</tool", "[call 0 f]{}"),
    ];
    for (answer, expect) in cases {
        check(&format, answer, expect);
    }
}

#[test]
fn what_only_looks_like_a_hermes_call_is_content() {
    let format = tools(ToolFormat::Hermes);
    let cases = [
        ("a <tool_call> b", "[content]a <tool_call> b"),
        (" <tool_call>", "[content] <tool_call>"),
        ("<tool_cal", "[content]<tool_cal"),
        (
            "<tool_call>{\"a\": 1}</tool_call>",
            "[content]<tool_call>{\"a\": 1}</tool_call>",
        ),
        (
            "<tool_call>{}</tool_call>",
            "[content]<tool_call>{}</tool_call>",
        ),
        (
            "<tool_call><tool_call>{\"name\": \"f\"}</tool_call>",
            "[content]<tool_call>[call 0 f]{}",
        ),
        (
            "<tool_call>{\"name\": \"f\", \"arguments\": [1]}",
            "[content]<tool_call>{\"name\": \"f\", \"arguments\": [1]}",
        ),
        (
            "<tool_call>{\"name\": \"f\", \"arguments\": {]}",
            "[call 0 f]{[content]]}",
        ),
    ];
    for (answer, expect) in cases {
        check(&format, answer, expect);
    }
}

#[test]
fn llama_calls() {
    let format = tools(ToolFormat::Llama);
    let cases = [
        (
            "{\"name\": \"f\", \"parameters\": {\"a\": 1}}",
            "[call 0 f]{\"a\": 1}",
        ),
        (
            "<|python_tag|>{\"type\": \"function\", \"name\": \"f\", \"parameters\": {\"a\": 1}}",
            "[call 0 f]{\"a\": 1}",
        ),
        (
            " {\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"parameters\": {}}",
            "[call 0 f]{}[call 1 g]{}",
        ),
        ("{\"name\": \"f\", \"parameters\": {}}\n", "[call 0 f]{}"),
        (
            "{\"name\": \"f\", \"parameters\": {}} ok",
            "[call 0 f]{}[content] ok",
        ),
        ("{\"name\": \"Bob\"}", "[content]{\"name\": \"Bob\"}"),
        ("{\"answer\": 42}", "[content]{\"answer\": 42}"),
        (
            "Hello {\"name\": \"f\", \"parameters\": {}}",
            "[content]Hello {\"name\": \"f\", \"parameters\": {}}",
        ),
        ("<|python_tag|>print(1)", "[content]<|python_tag|>print(1)"),
        (" \n", "[content] \n"),
    ];
    for (answer, expect) in cases {
        check(&format, answer, expect);
    }
}

#[test]
fn mistral_calls() {
    let cases = [
        (
            "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": 1}}]",
            "[call 0 f]{\"a\": 1}",
        ),
        (
            "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}, \"id\": \"123456789\"}, {\"name\": \"g\"}] ",
            "[call 0 f]{}[call 1 g]{}",
        ),
        (
            "[TOOL_CALLS]f[ARGS]{\"a\": {}}[TOOL_CALLS]g[ARGS]{}",
            "[call 0 f]{\"a\": {}}[call 1 g]{}",
        ),
        (
            "[TOOL_CALLS]f[CALL_ID]a1B2[ARGS]{\"a\": 1}",
            "[call 0 f]{\"a\": 1}",
        ),
        (
            "See: [TOOL_CALLS]f{\"a\": 1}",
            "[content]See: [call 0 f]{\"a\": 1}",
        ),
        (
            "[TOOL_CALLS]f[TOOL_CALLS]g{}",
            "[content][TOOL_CALLS]f[call 0 g]{}",
        ),
        ("[TOOL_CALLS][1]", "[content][TOOL_CALLS][1]"),
        ("[TOOL_CALLS]f", "[content][TOOL_CALLS]f"),
        ("[TOOL_CALLS][{\"name\": \"f\"},", "[call 0 f]{}"),
    ];
    for (answer, expect) in cases {
        check(&tools(ToolFormat::Mistral), answer, expect);
        check(&tools(ToolFormat::MistralNamed), answer, expect);
    }
}

#[test]
fn arguments_come_as_they_are_written() {
    let mut output = Output::new(&tools(ToolFormat::Hermes));
    let mut seen = Vec::new();
    for token in [
        "<tool_call>",
        "{\"name\": \"f",
        "\", \"arguments\": ",
        "{\"a\"",
        ": 1",
        "}",
        "}",
    ] {
        let mut pieces = Vec::new();
        output.push(token.as_bytes(), &mut pieces);
        seen.push(write_arguments(&pieces));
    }
    assert_eq!(seen, ["", "", "", "f{\"a\"", ": 1", "}", ""]);
}

fn write_arguments(pieces: &[Piece]) -> String {
    let text = pieces.iter().map(|piece| match piece {
        Piece::Content(text)
        | Piece::Reasoning(text)
        | Piece::ToolCallStart { name: text, .. }
        | Piece::ToolCallArguments { text, .. } => text,
    });
    text.cloned().collect()
}

#[test]
fn without_parallel_calls_the_first_ends_the_answer() {
    let format = OutputFormat {
        tools: Some(ToolFormat::Hermes),
        ..OutputFormat::default()
    };
    let two = "<tool_call>{\"name\": \"f\"}</tool_call><tool_call>{\"name\": \"g\"}</tool_call>";
    check(&format, two, "[call 0 f]{}");
}

const PARTS: &[&str] = &[
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "<think>",
    "</think>",
    "<|python_tag|>",
    "{\"name\": \"f\", \"arguments\": {\"a\": \"x\"}}",
    "{\"name\": \"f\", \"parameters\": {}}",
    "{\"name\": \"g\"}",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    ",",
    ";",
    ":",
    " ",
    "\n",
    "f",
    "ab",
    "aab",
    "ß",
    "漢字",
    "🙂",
    "<",
    "name",
    "\"arguments\"",
];

#[test]
fn a_call_of_a_tool_that_is_not_allowed_is_content() {
    let format = |tools, parallel| OutputFormat {
        parallel_tool_calls: parallel,
        allowed_tools: Some(["g".to_owned()].into()),
        ..self::tools(tools)
    };
    let calls = [
        (
            ToolFormat::Hermes,
            r#"<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>"#,
        ),
        (
            ToolFormat::Hermes,
            r#"<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>"#,
        ),
        (
            ToolFormat::Hermes,
            r#"<tool_call>{"name": "f"}</tool_call>"#,
        ),
        (ToolFormat::Hermes, r#"<tool_call>{"name": "f""#),
        (
            ToolFormat::Llama,
            r#"{"name": "f", "parameters": {"a": 1}}"#,
        ),
        (
            ToolFormat::Mistral,
            r#"[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}]"#,
        ),
        (ToolFormat::MistralNamed, r#"[TOOL_CALLS]f[ARGS]{"a": 1}"#),
    ];
    for (tools, call) in calls {
        for parallel in [true, false] {
            check(&format(tools, parallel), call, &format!("[content]{call}"));
        }
    }
    check(
        &format(ToolFormat::Hermes, true),
        r#"<tool_call>{"name": "g", "arguments": {"a": 1}}</tool_call>"#,
        r#"[call 0 g]{"a": 1}"#,
    );
}

#[test]
fn what_begins_as_content_has_no_call_where_it_is_one_or_the_other() {
    let format = OutputFormat {
        calls_or_content: true,
        ..tools(ToolFormat::Hermes)
    };
    let call = r#"<tool_call>{"name": "f", "arguments": {}}</tool_call>"#;
    let quoted = format!(r#"{{"a": "{call}"}}"#);
    check(&format, &quoted, &format!("[content]{quoted}"));
    check(&format, call, "[call 0 f]{}");
    let two = format!("{call}\n{call}");
    check(&format, &two, "[call 0 f]{}[call 1 f]{}");
    check(&format, "<tool_cat>", "[content]<tool_cat>");
    check(&format, "a<tool_c", "[content]a<tool_c");
}

fn any_format() -> impl Strategy<Value = OutputFormat> {
    let tools = prop_oneof![
        Just(None),
        Just(Some(ToolFormat::Hermes)),
        Just(Some(ToolFormat::Llama)),
        Just(Some(ToolFormat::Mistral)),
        Just(Some(ToolFormat::MistralNamed)),
    ];
    let stops = proptest::collection::vec(proptest::sample::select(PARTS), 0..3);
    (tools, any::<bool>(), any::<bool>(), any::<bool>(), stops).prop_map(
        |(tools, parallel, thinks, open, stops)| OutputFormat {
            stop: stops.into_iter().map(ToOwned::to_owned).collect(),
            tools,
            parallel_tool_calls: parallel,
            reasoning: thinks.then_some(ReasoningFormat::Think),
            reasoning_open: open,
            ..OutputFormat::default()
        },
    )
}

fn any_answer() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        9 => proptest::sample::select(PARTS).prop_map(|text| text.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    proptest::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn any_split_says_the_same(
        format in any_format(),
        answer in any_answer(),
        cuts in proptest::collection::vec(0..100_usize, 0..8),
    ) {
        let whole = read(&format, &[&answer]);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut * answer.len() / 100).collect();
        cuts.extend([0, answer.len()]);
        cuts.sort_unstable();
        let tokens: Vec<_> = cuts.windows(2).map(|cut| &answer[cut[0]..cut[1]]).collect();
        prop_assert_eq!(read(&format, &tokens), whole.as_str());
        let bytes: Vec<_> = answer.chunks(1).collect();
        prop_assert_eq!(read(&format, &bytes), whole.as_str());
    }

    #[test]
    fn without_formats_an_answer_is_its_text(answer in any_answer(), cut in 0..100_usize) {
        let (first, second) = answer.split_at(cut * answer.len() / 100);
        let expect = String::from_utf8_lossy(&answer);
        let read = read(&OutputFormat::default(), &[first, second]);
        prop_assert_eq!(read.strip_prefix("[content]").unwrap_or(&read), expect);
    }

    #[test]
    fn a_stop_text_is_found_where_it_is_complete_first(
        stops in proptest::collection::vec("[ab]{1,4}", 1..4),
        answer in "[abc]{0,24}",
    ) {
        let format = OutputFormat { stop: stops.clone(), ..OutputFormat::default() };
        let ends = (1..=answer.len()).find_map(|end| {
            let found = stops.iter().filter(|stop| answer[..end].ends_with(stop.as_str()));
            found.map(String::len).max().map(|length| end - length)
        });
        let bytes: Vec<_> = answer.as_bytes().chunks(1).collect();
        let read = read(&format, &bytes);
        let expect = &answer[..ends.unwrap_or(answer.len())];
        prop_assert_eq!(read.strip_prefix("[content]").unwrap_or(&read), expect);
    }

    #[test]
    fn a_call_is_read_as_a_json_parser_would(name in "\\PC{1,20}", key in "\\PC{0,10}", value in "\\PC{0,20}") {
        let arguments = serde_json::json!({ key: [value, { "n": null }] });
        let call = serde_json::json!({ "name": name, "arguments": arguments });
        let answer = format!("<tool_call>{call}</tool_call>");
        let tokens: Vec<_> = answer.as_bytes().chunks(3).collect();
        let expect = format!("[call 0 {name}]{arguments}");
        prop_assert_eq!(read(&tools(ToolFormat::Hermes), &tokens), expect);
    }
}
