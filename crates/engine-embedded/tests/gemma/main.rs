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

use harness::{Server, chat};
use inferyard_proto::worker::v1 as wire;

/// A base model goes on with a text, so the texts of the messages are the prompt.
const TEMPLATE: &str = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}";

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
    Server::start_with(|setup| {
        setup.engine.gguf = gguf();
        setup.engine.chat_template = Some(TEMPLATE.to_owned());
        setup.engine.kv_tokens = Some(kv_tokens);
        setup.engine.limits.context_length = Some(u32::try_from(kv_tokens).unwrap());
        setup.engine.limits.max_running = max_running;
        setup.engine.threads = Some(2);
    })
    .await
}

/// A prompt of about six tokens for each line. How it goes on is clear: where two tokens are nearly equally
/// likely, the rounding of sums decides, and greedy texts need not be equal.
fn counting(word: &str, lines: usize, max_tokens: u32) -> wire::GenerateRequest {
    let lines: String = (1..=lines)
        .map(|line| format!("{word} number {line}\n"))
        .collect();
    wire::GenerateRequest {
        max_tokens: Some(max_tokens),
        ..chat(&format!("{lines}{word} number"))
    }
}

/// Longer than the window of 512 tokens.
fn long(word: &str) -> wire::GenerateRequest {
    counting(word, 130, 24)
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

/// The greedy texts of these requests, one after the other, each in an empty cache.
async fn cold(requests: &[wire::GenerateRequest]) -> Vec<String> {
    let mut texts = Vec::new();
    for request in requests {
        let server = server(4_096, 1).await;
        let answer = server.ask(request.clone()).await;
        assert_eq!(answer.cached(), 0);
        texts.push(answer.only().content);
    }
    assert!(
        texts.iter().all(|text| !text.trim().is_empty()),
        "{texts:?}"
    );
    texts
}

#[tokio::test]
async fn a_prefix_that_is_kept_or_shared_does_not_change_a_greedy_text() {
    let requests = [long("apple"), counting("apple", 100, 24)];
    let texts = cold(&requests).await;
    let server = server(4_096, 4).await;
    let [whole, part] = requests;
    let first = server.ask(whole.clone()).await;
    let shared = server.ask(part).await;
    let again = server.ask(whole).await;
    assert!(first.usage.as_ref().unwrap().prompt_tokens > 700);
    assert!(
        shared.cached() > 500,
        "{} tokens are shared",
        shared.cached()
    );
    assert!(again.cached() > 500, "{} tokens are kept", again.cached());
    let warm = [first, shared, again].map(|answer| answer.only().content);
    assert_eq!(warm, [&*texts[0], &*texts[1], &*texts[0]]);
}

#[tokio::test]
async fn a_prefix_that_was_evicted_does_not_change_a_greedy_text() {
    let requests = ["apple", "river", "stone"].map(long);
    let texts = cold(&requests).await;
    let server = server(2_048, 4).await;
    for (request, text) in requests.iter().zip(&texts) {
        assert_eq!(server.text(request.clone()).await, *text);
    }
    let [apple, ..] = requests;
    let again = server.ask(apple).await;
    assert!(again.cached() < 100, "{} tokens were kept", again.cached());
    assert_eq!(again.only().content, texts[0]);
}

#[tokio::test]
async fn an_answer_that_gives_way_goes_on_as_it_would_have() {
    let requests = ["apple", "river", "stone", "cloud"].map(|word| counting(word, 85, 80));
    let texts = cold(&requests).await;
    // The four prompts fit together, their answers do not: the youngest gives way and is computed again.
    let narrow = server(2_048, 4).await;
    let answers = requests.map(|request| narrow.ask(request));
    let [apple, river, stone, cloud] = answers;
    let (apple, river, stone, cloud) = tokio::join!(apple, river, stone, cloud);
    let answers = [apple, river, stone, cloud];
    let cells = |answer: &harness::Answer| {
        let usage = answer.usage.as_ref().unwrap();
        usage.prompt_tokens + usage.completion_tokens
    };
    assert!(answers.iter().map(cells).sum::<u32>() > 2_048 + 100);
    assert_eq!(
        answers.map(|answer| answer.only().content).as_slice(),
        texts
    );
}

#[tokio::test]
async fn a_prefix_that_the_windows_have_lost_is_computed_anew() {
    let question = counting("apple", 50, 12);
    let texts = cold(std::slice::from_ref(&question)).await;
    let server = server(4_096, 4).await;
    let short = counting("zebra", 1, 64);
    server.text(short.clone()).await;
    server.text(counting("apple", 130, 12)).await;
    // Its first sequence is freed, which leaves a hole before the long one. The next prompt is longer than the
    // hole and takes cells behind it that the window of the long one has left.
    server.text(short).await;
    server.text(counting("river", 13, 30)).await;
    let answer = server.ask(question).await;
    assert!(
        answer.cached() < 10,
        "{} tokens were taken",
        answer.cached()
    );
    assert_eq!(answer.only().content, texts[0]);
}
