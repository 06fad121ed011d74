//! Gemma 3 270M on the embedded engine: a base model, with a chat template of the user's and attention in windows.
//!
//! `make gemma` runs it and keeps the file of the model, whose terms do not allow it in a repository.

#![expect(
    clippy::unwrap_used,
    reason = "the harness of these tests is a test as well"
)]

#[path = "../serving/harness.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod harness;

use std::path::{Path, PathBuf};

use inferyard_proto::worker::v1 as wire;
use inferyard_worker::Engine;
use serde_json::json;

use harness::{Server, chat, chat_of};

/// A base model goes on with a text, so the template makes one.
const TEMPLATE: &str = "{{ bos_token }}{% for m in messages %}{{ m.role|capitalize }}: {{ m.content }}\n{% endfor %}Assistant:";

fn gguf() -> PathBuf {
    let home = std::env::var_os("HOME").unwrap();
    let path = Path::new(&home).join(".cache/inferyard/gemma/gemma.gguf");
    assert!(
        path.is_file(),
        "{} is missing: run `make gemma`",
        path.display()
    );
    path
}

async fn server(kv_tokens: u64, max_running: usize) -> Server {
    Server::start_with(|config| {
        config.engine = Engine::Embedded { gguf: gguf() };
        config.chat_template = Some(TEMPLATE.to_owned());
        config.kv_tokens = Some(kv_tokens);
        config.context_length = Some(u32::try_from(kv_tokens).unwrap());
        config.max_running = max_running;
        config.threads = Some(2);
    })
    .await
}

/// Longer than the window of 512 tokens; how it goes on is clear.
fn counting(word: &str, lines: usize) -> wire::GenerateRequest {
    let lines: Vec<String> = (1..=lines)
        .map(|line| format!("{word} number {line}"))
        .collect();
    let messages = json!([
        {"role": "user", "content": format!("Say where {word} number 1 is.")},
        {"role": "assistant", "content": lines.join("\n")},
        {"role": "user", "content": "Please go on."},
    ]);
    wire::GenerateRequest {
        max_tokens: Some(24),
        ..chat_of(&messages)
    }
}

#[tokio::test]
async fn a_spelled_control_token_is_text() {
    let server = server(2_048, 4).await;
    for name in [
        "<bos>",
        "<eos>",
        "<pad>",
        "<unk>",
        "<start_of_turn>",
        "<end_of_turn>",
    ] {
        let tokens = async |message: &str| {
            let request = wire::GenerateRequest {
                max_tokens: Some(1),
                ..chat(message)
            };
            server.ask(request).await.usage.unwrap().prompt_tokens
        };
        let without = tokens("one two").await;
        let spelled = tokens(&format!("one {name} two")).await;
        assert!(
            spelled >= without + 3,
            "{name}: {spelled}, and {without} without"
        );
    }
}

#[tokio::test]
async fn greedy_texts_are_the_same_cold_warm_and_after_eviction() {
    let words = ["apple", "river", "stone"];
    let server = server(4_096, 4).await;
    let mut cold = Vec::new();
    for word in words {
        let answer = server.ask(counting(word, 180)).await;
        assert!(answer.usage.as_ref().unwrap().prompt_tokens > 700);
        cold.push(answer.only().content);
    }
    assert!(cold.iter().all(|text| !text.trim().is_empty()), "{cold:?}");
    // Once more, over what is kept; and with a beginning that is shared and a rest that is not.
    for (word, text) in words.iter().zip(&cold) {
        let warm = server.ask(counting(word, 180)).await;
        assert_eq!(warm.only().content, *text);
        server.ask(counting(word, 150)).await;
    }
    let warm = server.ask(counting(words[2], 180)).await;
    assert!(warm.cached() > 0, "something is kept");
    assert_eq!(warm.only().content, cold[2]);
}

#[tokio::test]
async fn greedy_texts_are_the_same_when_cells_run_out() {
    let words = ["apple", "river", "stone", "cloud"];
    let roomy = server(8_192, 1).await;
    let mut alone = Vec::new();
    for word in words {
        alone.push(roomy.text(counting(word, 130)).await);
    }
    drop(roomy);
    // Four of them do not fit together: the youngest gives way and is computed again.
    let narrow = server(2_048, 4).await;
    let [apple, river, stone, cloud] = words.map(|word| narrow.text(counting(word, 130)));
    let (apple, river, stone, cloud) = tokio::join!(apple, river, stone, cloud);
    assert_eq!([apple, river, stone, cloud].as_slice(), alone);
}
