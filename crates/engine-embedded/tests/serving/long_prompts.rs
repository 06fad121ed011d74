//! Prompts that cost more to prepare than they may: refused before the work, or as soon as it shows.

use inferyard_proto::worker::v1 as wire;
use serde_json::json;
use wire::failed::Kind;
use wire::text_prompt::Content;

use crate::harness::{Server, chat, chat_of, read, text};

fn lines(bytes: usize) -> wire::GenerateRequest {
    text(Content::Text("a line\n".repeat(bytes / 7)), false)
}

fn conversation(messages: usize) -> wire::GenerateRequest {
    chat_of(&json!(vec![
        json!({"role": "user", "content": "a"});
        messages
    ]))
}

fn too_long(failed: &wire::Failed, param: &str) {
    assert_eq!(
        (failed.kind(), failed.param.as_str()),
        (Kind::ContextLengthExceeded, param)
    );
    let count = format!(" in at least {} tokens.", failed.prompt_tokens);
    assert!(failed.message.contains(&count), "{}", failed.message);
    assert!(failed.prompt_tokens >= 4_096);
}

#[tokio::test]
async fn what_no_tokenizer_could_fit_is_not_tokenized() {
    let server = Server::start().await;
    too_long(&server.failure(lines(240_000)).await, "prompt");
    too_long(&server.failure(conversation(120_000)).await, "messages");
    let ids = wire::TokenIds {
        ids: vec![0; 5_000],
    };
    let failed = server.failure(text(Content::Tokens(ids), true)).await;
    assert_eq!(
        (failed.kind(), failed.prompt_tokens),
        (Kind::ContextLengthExceeded, 5_000)
    );
    assert_eq!(server.tokenized_bytes().await, 0);
    server.wait_idle().await;
}

#[tokio::test]
async fn tokenizing_ends_where_the_context_does() {
    let server = Server::start().await;
    // By its bytes it could fit; but each message has three tokens.
    let failed = server.failure(conversation(2_000)).await;
    too_long(&failed, "messages");
    let tokenized = server.tokenized_bytes().await;
    assert!((4_096..24_000).contains(&tokenized), "{tokenized}");
}

#[tokio::test]
async fn a_long_conversation_that_fits_is_answered() {
    let server = Server::start_with(|setup| {
        setup.engine.kv_tokens = Some(8_192);
        setup.engine.limits.context_length = Some(8_192);
    })
    .await;
    let request = wire::GenerateRequest {
        max_tokens: Some(1),
        ..conversation(2_500)
    };
    let usage = server.ask(request).await.usage.unwrap();
    // Of one message and the head of the answer; each further one has as many as the first.
    let template = |count| wire::GenerateRequest {
        max_tokens: Some(1),
        ..conversation(count)
    };
    let one = server.ask(template(1)).await.usage.unwrap().prompt_tokens;
    let two = server.ask(template(2)).await.usage.unwrap().prompt_tokens;
    assert_eq!(usage.prompt_tokens, one + 2_499 * (two - one));
}

#[tokio::test]
async fn nothing_is_prepared_for_whom_the_queue_refuses() {
    let (server, [running, waiting]) = Server::start_full().await;
    let before = server.tokenized_bytes().await;
    let fits = chat(&"x".repeat(2_000));
    assert_eq!(server.failure(fits.clone()).await.kind(), Kind::Overloaded);
    assert_eq!(server.failure(lines(20_000)).await.kind(), Kind::Overloaded);
    drop(running);
    assert_eq!(read(waiting).await.only().content, "waited");
    let overdue = wire::GenerateRequest {
        deadline_ms: Some(0),
        ..fits
    };
    assert_eq!(server.failure(overdue).await.kind(), Kind::DeadlineExceeded);
    assert_eq!(server.tokenized_bytes().await, before);
}
