//! A chat template that is given in place of the model's own.

use std::error::Error as _;

use inferyard_engine_embedded as embedded;
use inferyard_worker::{Config, Listen, Worker};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::harness::{Server, chat, chat_of, within};

const GIVEN: &str = "{{ bos_token }}{% for m in messages %}<|user|>Reply with: {{ m.content|upper }}<|im_end|>{% endfor %}<|assistant|>";

#[tokio::test]
async fn a_given_template_makes_the_prompts() {
    let server =
        Server::start_with(|setup| setup.engine.chat_template = Some(GIVEN.to_owned())).await;
    assert_eq!(server.text(chat("verified")).await, "VERIFIED");
    let state = server.wait_idle().await;
    let empty = server.ask(chat("")).await.admitted.unwrap();
    let told = state.capacity.unwrap().template_tokens;
    assert_eq!(told, empty.prompt_tokens, "routers are told of it");
    // What it does not teach the model is not looked for: this one knows no tools.
    let unread = json!([{"role": "tool", "content": "x", "tool_call_id": "1"}]);
    assert!(server.ask(chat_of(&unread)).await.failed.is_none());
}

#[tokio::test]
async fn what_is_no_template_ends_the_worker_with_its_line() {
    let bad = "{{ bos_token }}\n{% for m in messages %}";
    let folder = tempfile::tempdir().unwrap();
    let listen = Listen::Unix(folder.path().join("worker.sock"));
    // It is looked at before the weights are.
    let mut engine = embedded::Config::new(folder.path().join("none.gguf"));
    engine.chat_template = Some(bad.to_owned());
    let worker = Worker::bind(Config::new(listen, "demo")).await.unwrap();
    let ended = within(worker.run(engine, CancellationToken::new())).await;
    let error = ended.unwrap_err();
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        said = format!("{said}: {error}");
        cause = error.source();
    }
    assert!(
        said.contains(
            "--chat-template: this is no chat template, in line 2: unexpected end of input"
        ),
        "{said}"
    );
}
