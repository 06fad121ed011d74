//! What a request gets: texts, ends, limits, and clear refusals.

use inferyard_proto::worker::v1 as wire;
use serde_json::json;
use wire::FinishReason;
use wire::failed::Kind;
use wire::text_prompt::Content;

use crate::harness::{Server, chat, chat_of, text};

#[tokio::test]
async fn the_model_answers() {
    let server = Server::start().await;
    let answer = server.ask(chat("Reply with: payload verified.")).await;
    let usage = answer.usage.unwrap();
    assert!(usage.prompt_tokens > 20);
    let choice = answer.only();
    assert_eq!(choice.content, "payload verified.");
    assert_eq!(choice.reason, Some(FinishReason::Stop));
    // One token for each byte, and the one that ends the turn.
    assert_eq!(choice.tokens.len(), "payload verified.".len() + 1);
    assert!(choice.deltas > 10, "it comes token by token");
}

#[tokio::test]
async fn a_conversation_with_several_messages_is_answered() {
    let server = Server::start().await;
    let messages = json!([
        {"role": "user", "content": "Reply with: one"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "Reply with: 4711"},
    ]);
    assert_eq!(server.text(chat_of(&messages)).await, "4711");
}

#[tokio::test]
async fn max_tokens_ends_with_length() {
    let server = Server::start().await;
    let mut request = chat("Reply with: payload verified.");
    request.max_tokens = Some(7);
    let choice = server.ask(request).await.only();
    assert_eq!(
        (choice.content.as_str(), choice.reason),
        ("payload", Some(FinishReason::Length))
    );
    assert_eq!(choice.tokens.len(), 7);
}

#[tokio::test]
async fn an_empty_prompt_begins_a_document() {
    let server = Server::start().await;
    let mut request = text(Content::Text(String::new()), true);
    request.max_tokens = Some(3);
    let answer = server.ask(request).await;
    assert_eq!(answer.usage.unwrap().prompt_tokens, 1);
    assert_eq!(answer.only().tokens.len(), 3);
}

#[tokio::test]
async fn no_tokens_are_an_answer_too() {
    let server = Server::start().await;
    let mut request = text(Content::Text("Hello".to_owned()), true);
    request.max_tokens = Some(0);
    let answer = server.ask(request).await;
    assert_eq!(answer.usage.unwrap().completion_tokens, 0);
    let choice = answer.only();
    assert_eq!(
        (choice.content.as_str(), choice.reason),
        ("Hello", Some(FinishReason::Length))
    );
}

#[tokio::test]
async fn a_stop_text_ends_the_answer_and_is_not_part_of_it() {
    let server = Server::start().await;
    let mut request = chat("Reply with: payload verified.");
    request.stop = vec!["zzz".to_owned(), "d v".to_owned()];
    request.top_logprobs = Some(0);
    let choice = server.ask(request).await.only();
    assert_eq!(
        (choice.content.as_str(), choice.reason),
        ("payloa", Some(FinishReason::Stop))
    );
    assert_eq!(
        choice.tokens.len(),
        "payload v".len(),
        "tokens of the stop text are billed"
    );
    let told: String = choice
        .logprobs
        .iter()
        .map(|one| one.token.as_ref().unwrap().text.as_str())
        .collect();
    assert_eq!(
        told, choice.content,
        "log probabilities are of what is said"
    );
}

#[tokio::test]
async fn characters_of_several_bytes_come_whole() {
    let server = Server::start().await;
    let choice = server.ask(chat("Reply with: Zürich")).await.only();
    assert!(!choice.content.contains('\u{fffd}'), "{}", choice.content);
    assert_eq!(choice.content, "Zürich");
}

#[tokio::test]
async fn the_end_of_the_context_is_the_end_of_the_answer() {
    let server = Server::start_with(|setup| setup.engine.limits.context_length = Some(256)).await;
    let answer = server.ask(chat("Repeat: tick")).await;
    let usage = answer.usage.unwrap();
    assert_eq!(usage.prompt_tokens + usage.completion_tokens, 256);
    assert_eq!(answer.only().reason, Some(FinishReason::Length));
}

#[tokio::test]
async fn a_prompt_that_is_too_long_is_refused_with_the_numbers() {
    let server = Server::start_with(|setup| setup.engine.limits.context_length = Some(128)).await;
    let failed = server.failure(chat(&"x".repeat(300))).await;
    assert_eq!(
        (failed.kind(), failed.param.as_str()),
        (Kind::ContextLengthExceeded, "messages")
    );
    assert!(
        failed.message.starts_with(
            "This model's maximum context length is 128 tokens. However, your messages resulted in "
        ),
        "{}",
        failed.message
    );
    assert!(
        failed
            .message
            .ends_with(" tokens. Please reduce the length of the messages.")
    );
    let failed = server
        .failure(text(Content::Text("x".repeat(128)), false))
        .await;
    assert_eq!(
        (failed.kind(), failed.param.as_str()),
        (Kind::ContextLengthExceeded, "prompt")
    );
    // One less fits, and leaves room for one token.
    let choice = server
        .ask(text(Content::Text("x".repeat(127)), false))
        .await
        .only();
    assert_eq!(choice.tokens.len(), 1);
}

#[tokio::test]
async fn a_prompt_above_its_limit_is_refused_with_its_count_and_computes_nothing() {
    let server = Server::start().await;
    let limited = |most| wire::GenerateRequest {
        max_prompt_tokens: Some(most),
        ..chat("Reply with: x")
    };
    let failed = server.failure(limited(3)).await;
    assert_eq!(failed.kind(), Kind::PromptTooExpensive);
    assert_eq!(failed.usage, Some(wire::Usage::default()));
    let state = server.wait_idle().await;
    assert_eq!(
        (state.worked_tokens_total, state.prompt_tokens_total),
        (0, 0)
    );
    let enough = server.ask(limited(failed.prompt_tokens)).await;
    assert_eq!(enough.usage.unwrap().prompt_tokens, failed.prompt_tokens);
}

#[tokio::test]
async fn a_prompt_of_tokens_is_the_same_as_its_text() {
    let server = Server::start().await;
    let text_answer = {
        let mut request = text(Content::Text("Reply".to_owned()), true);
        request.max_tokens = Some(20);
        server.ask(request).await.only()
    };
    assert!(text_answer.content.starts_with("Reply"));
    let ids = {
        // What the model itself says for this text: its tokens are bytes.
        let mut request = chat("Reply with: Reply");
        request.max_tokens = Some(5);
        server.ask(request).await.only().tokens
    };
    let mut request = text(Content::Tokens(wire::TokenIds { ids }), true);
    request.max_tokens = Some(20);
    assert_eq!(
        server.ask(request).await.only().content,
        text_answer.content
    );
}

/// Makes a request wrong.
type Change = fn(&mut wire::GenerateRequest);

#[tokio::test]
async fn wrong_requests_are_refused_with_the_field() {
    let server = Server::start().await;
    let cases: [(&str, Change); 5] = [
        ("n", |request| request.choices = 17),
        ("temperature", |request| {
            request.sampling.as_mut().unwrap().temperature = Some(3.0);
        }),
        ("logit_bias", |request| {
            let bias = wire::LogitBias {
                token: 99_999,
                bias: 1.0,
            };
            request.sampling.as_mut().unwrap().logit_bias = vec![bias];
        }),
        ("prompt", |request| {
            *request = text(Content::Tokens(wire::TokenIds { ids: vec![99_999] }), false);
        }),
        ("prompt", |request| {
            *request = text(Content::Tokens(wire::TokenIds::default()), false);
        }),
    ];
    for (param, change) in cases {
        let mut request = chat("Reply with: x");
        change(&mut request);
        let failed = server.failure(request).await;
        assert_eq!(
            (failed.kind(), failed.param.as_str()),
            (Kind::InvalidRequest, param)
        );
        assert!(!failed.message.is_empty());
    }
    let mut request = chat("Reply with: x");
    "another".clone_into(&mut request.model);
    assert_eq!(server.failure(request).await.kind(), Kind::UnknownModel);
    assert_eq!(
        server.text(chat("Reply with: still here")).await,
        "still here"
    );
}
