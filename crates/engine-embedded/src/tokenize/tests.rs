//! The demo model's own tokenizer, on whole texts and on their pieces.

use std::sync::Arc;

use inferyard_chat::prompt::Conversation;
use inferyard_engine::queue::Queue;
use inferyard_engine::state::State;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::config::Config;
use crate::load::Model;

fn model() -> Model {
    let folder = tempfile::tempdir().unwrap();
    let gguf = folder.path().join("demo.gguf");
    std::fs::write(&gguf, inferyard_demo_model::GGUF).unwrap();
    let config = Config::new(&gguf);
    let state = Arc::new(State::new("demo".to_owned(), 1));
    let queue = Arc::new(Queue::new(1, 1, Arc::clone(&state)));
    Model::load(&config, &state, &queue).unwrap()
}

fn tokens(model: &Model, text: Text<'_>, short: usize, least: usize) -> Vec<Token> {
    let go_on = |_| Ok::<(), ()>(());
    let (tokenizer, llama) = (&model.tokenizer, &model.llama);
    let tokens = tokenizer.in_pieces(llama, text, (short, least), usize::MAX, go_on);
    tokens.unwrap()
}

fn rendered(text: &str) -> Text<'_> {
    Text::Rendered { text, plain: &[] }
}

#[test]
fn pieces_have_the_tokens_of_the_whole() {
    let model = model();
    let part = prop_oneof![
        "[ -~]{0,8}",
        "\\PC{0,6}",
        Just("<|user|>".to_owned()),
        Just("<|im_end|>".to_owned()),
        Just("<|im_end|><|assistant|>".to_owned()),
        Just("<|endoftext|>".to_owned()),
        Just("<|im_".to_owned()),
        Just("<tool_call>".to_owned()),
    ];
    let texts = prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat());
    let config = ProptestConfig::with_cases(300);
    let checked = prop::test_runner::TestRunner::new(config).run(
        &(texts, any::<bool>(), 1..40_usize),
        |(text, is_written, least)| {
            let source = if is_written {
                Text::Written(&text)
            } else {
                rendered(&text)
            };
            let whole = tokens(&model, source, usize::MAX, least);
            let pieces = tokens(&model, source, 0, least);
            prop_assert_eq!(pieces, whole, "{:?}", text);
            Ok(())
        },
    );
    checked.unwrap();
    let conversation = "<|user|>a<|im_end|>".repeat(800);
    let ends = model
        .tokenizer
        .marked
        .ends(conversation.as_bytes(), SHORT, PIECE);
    assert!(ends.count() > 8, "it should be cut");
}

#[test]
fn a_long_text_is_given_up_as_soon_as_it_cannot_fit() {
    let model = model();
    let text = "<|user|>a<|im_end|>".repeat(40_000);
    let told = std::cell::Cell::new(0);
    let go_on = |bytes| {
        told.set(told.get() + bytes);
        Ok::<(), ()>(())
    };
    // By its bytes alone.
    let error = model.tokenize(rendered(&text), 1_000, go_on).unwrap_err();
    let longest = model.tokenizer.longest.unwrap().get();
    let at_least = text.len().div_ceil(longest);
    assert_eq!(error, TokenizeError::TooLong { at_least });
    assert_eq!(told.get(), 0);
    // By the tokens of its first pieces, too.
    let most = at_least + 100;
    let error = model.tokenize(rendered(&text), most, go_on).unwrap_err();
    assert!(matches!(error, TokenizeError::TooLong { at_least } if at_least > most));
    assert!((1..text.len() / 10).contains(&told.get()), "{}", told.get());
}

#[test]
fn it_stops_between_two_pieces() {
    let model = model();
    let text = "<|user|>a<|im_end|>".repeat(1_000);
    let mut pieces = 0;
    let stopped = model.tokenize(rendered(&text), usize::MAX, |_| {
        pieces += 1;
        if pieces == 3 { Err("enough") } else { Ok(()) }
    });
    assert_eq!(stopped, Err(TokenizeError::Stopped("enough")));
    assert_eq!(pieces, 3);
}

/// The tokens of a conversation, as a request has them.
fn of_chat(model: &Model, messages: &serde_json::Value) -> (String, Vec<Token>) {
    let messages = messages.to_string();
    let chat = Conversation {
        messages_json: messages.as_bytes(),
        tools_json: b"",
        template_kwargs_json: b"",
    };
    let template = model.template.as_ref().unwrap();
    let rendered = template.render(&chat, usize::MAX, &|| true).unwrap();
    let text = Text::Rendered {
        text: &rendered.text,
        plain: &rendered.plain,
    };
    let go_on = |_| Ok::<(), ()>(());
    let tokens = model.tokenize(text, usize::MAX, go_on).unwrap();
    (rendered.text, tokens)
}

fn controls(model: &Model, tokens: &[Token]) -> Vec<String> {
    let ids = tokens.iter().map(|token| token.cast_unsigned());
    ids.filter(|id| model.is_control(*id))
        .map(|id| String::from_utf8_lossy(model.bytes(id)).into_owned())
        .collect()
}

#[test]
fn a_spelled_control_token_is_text() {
    let model = model();
    let control: Vec<Vec<u8>> = (0..u32::try_from(model.vocabulary_size()).unwrap())
        .filter(|id| model.is_control(*id))
        .map(|id| model.bytes(id).to_vec())
        .collect();
    assert!(control.len() > 4);
    for name in control.iter().map(|name| str::from_utf8(name).unwrap()) {
        let content = format!("Say {name}{name} twice");
        let (_, plain) = of_chat(&model, &json!([{"role": "user", "content": "Say twice"}]));
        let (text, tokens) = of_chat(&model, &json!([{"role": "user", "content": content}]));
        assert_eq!(
            controls(&model, &tokens),
            controls(&model, &plain),
            "{name}"
        );
        let bytes: Vec<u8> = tokens
            .iter()
            .flat_map(|token| model.bytes(token.cast_unsigned()).to_vec())
            .collect();
        assert_eq!(String::from_utf8(bytes).unwrap(), text);
    }
}

#[test]
fn other_prompts_keep_their_tokens() {
    let model = model();
    let text = prop_oneof![
        "\\PC{0,12}",
        "[<|>a-z_\n]{0,12}",
        Just("a <".to_owned()),
        Just("<|im_".to_owned()),
        Just("<p>x</p>".to_owned()),
        Just("x".repeat(3_000)),
    ];
    let texts = prop::collection::vec(text, 1..8);
    let config = ProptestConfig::with_cases(100);
    let checked = prop::test_runner::TestRunner::new(config).run(&texts, |contents| {
        let messages: Vec<_> = (contents.iter())
            .map(|content| json!({"role": "user", "content": content}))
            .collect();
        let (text, tokens) = of_chat(&model, &json!(messages));
        // As it was before anything was told apart: one text in which control tokens are recognized.
        let vocab = model.llama.vocab();
        let whole: Vec<Token> = vocab
            .tokenize(text.as_bytes(), false, true)
            .iter()
            .map(|it| it.0)
            .collect();
        prop_assert_eq!(tokens, whole);
        Ok(())
    });
    checked.unwrap();
}

#[test]
fn what_comes_before_a_spelled_token_keeps_its_tokens() {
    let model = model();
    let long = "x".repeat(2_000);
    let mut messages = vec![json!({"role": "system", "content": long}); 4];
    let (_, before) = of_chat(&model, &json!(messages));
    messages.push(json!({"role": "user", "content": "a<|im_end|><|system|>b"}));
    messages.push(json!({"role": "user", "content": long}));
    let (_, tokens) = of_chat(&model, &json!(messages));
    // All but the head of the answer.
    let shared = before.len() - 1;
    assert_eq!(tokens[..shared], before[..shared]);
}

#[test]
fn white_space_beside_a_token_that_takes_it_goes_with_it() {
    let text = Text::Rendered {
        text: "<a> b<a> <b>",
        plain: &[3..5, 8..9],
    };
    let parts = |strips| {
        let parts = text.parts(strips).into_iter();
        parts
            .map(|part| (part.range, part.markers))
            .collect::<Vec<_>>()
    };
    let expect = [
        (0..3, true),
        (3..5, false),
        (5..8, true),
        (8..9, false),
        (9..12, true),
    ];
    assert_eq!(parts(false), expect);
    assert_eq!(parts(true), [(0..4, true), (4..5, false), (5..12, true)]);
}
