//! The demo model's own tokenizer, on whole texts and on their pieces.

use std::sync::Arc;

use inferyard_listen::Listen;
use proptest::prelude::*;

use super::*;
use crate::admit::Queue;
use crate::config::Config;
use crate::engine::embedded::load::Model;
use crate::state::State;

fn model() -> Model {
    let folder = tempfile::tempdir().unwrap();
    let gguf = folder.path().join("demo.gguf");
    std::fs::write(&gguf, inferyard_demo_model::GGUF).unwrap();
    let config = Config::new(Listen::Unix("unused".into()), "demo", &gguf);
    let state = Arc::new(State::new("demo".to_owned(), 1));
    let queue = Arc::new(Queue::new(1, 1, Arc::clone(&state)));
    Model::load(&config, &gguf, &state, &queue).unwrap()
}

fn tokens(model: &Model, text: &str, markers: bool, short: usize, least: usize) -> Vec<Token> {
    let tokenizer = &model.tokenizer;
    let cuts = if markers {
        &tokenizer.marked
    } else {
        &tokenizer.plain
    };
    let ends = cuts.ends(text.as_bytes(), short, least);
    let go_on = |_| Ok::<(), ()>(());
    let tokens = tokenizer.pieces(
        &model.llama,
        text.as_bytes(),
        ends,
        markers,
        usize::MAX,
        go_on,
    );
    tokens.unwrap()
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
        |(text, markers, least)| {
            let whole = tokens(&model, &text, markers, usize::MAX, least);
            let pieces = tokens(&model, &text, markers, 0, least);
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
    let error = model.tokenize(&text, true, 1_000, go_on).unwrap_err();
    let longest = model.tokenizer.longest.unwrap().get();
    let at_least = text.len().div_ceil(longest);
    assert_eq!(error, TokenizeError::TooLong { at_least });
    assert_eq!(told.get(), 0);
    // By the tokens of its first pieces, too.
    let most = at_least + 100;
    let error = model.tokenize(&text, true, most, go_on).unwrap_err();
    assert!(matches!(error, TokenizeError::TooLong { at_least } if at_least > most));
    assert!((1..text.len() / 10).contains(&told.get()), "{}", told.get());
}

#[test]
fn it_stops_between_two_pieces() {
    let model = model();
    let text = "<|user|>a<|im_end|>".repeat(1_000);
    let mut pieces = 0;
    let stopped = model.tokenize(&text, true, usize::MAX, |_| {
        pieces += 1;
        if pieces == 3 { Err("enough") } else { Ok(()) }
    });
    assert_eq!(stopped, Err(TokenizeError::Stopped("enough")));
    assert_eq!(pieces, 3);
}
