//! `inferyard audit` compares what a real worker counted with what was billed.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use inferyard_ledger::{Config, Ledger, Source};
use inferyard_proto::usage::v1::UsageEvent;
use inferyard_proto::worker::v1::generate_event::Event;
use inferyard_proto::worker::v1::generate_request::Prompt;
use inferyard_proto::worker::v1::response_format::Format;
use inferyard_proto::worker::v1::worker_client::WorkerClient;
use inferyard_proto::worker::v1::worker_state::Phase;
use inferyard_proto::worker::v1::{
    GenerateRequest, JsonSchema, ResponseFormat, TextPrompt, Usage, WatchRequest, WorkerState,
    text_prompt,
};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::events::{entry, event};
use crate::{Process, inferyard};

async fn dial(path: String) -> WorkerClient<Channel> {
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://worker")
        .connect_with_connector(connector)
        .await
        .unwrap();
    WorkerClient::new(channel)
}

/// The first state of which something is true.
async fn wait_for(
    worker: &mut WorkerClient<Channel>,
    is: impl Fn(&WorkerState) -> bool,
) -> WorkerState {
    let mut states = worker.watch(WatchRequest {}).await.unwrap().into_inner();
    let wait = async {
        loop {
            let state = states.message().await.unwrap().unwrap();
            if is(&state) {
                return state;
            }
        }
    };
    timeout(Duration::from_mins(5), wait)
        .await
        .expect("the worker should come to that state")
}

fn request(max_tokens: u32) -> GenerateRequest {
    GenerateRequest {
        request_id: "req_test".to_owned(),
        model: "demo".to_owned(),
        prompt: Some(Prompt::Text(TextPrompt {
            content: Some(text_prompt::Content::Text("Once upon a time".to_owned())),
            echo: false,
        })),
        max_tokens: Some(max_tokens),
        ..GenerateRequest::default()
    }
}

/// A whole answer.
async fn answer(worker: &mut WorkerClient<Channel>) -> Usage {
    let mut events = worker.generate(request(8)).await.unwrap().into_inner();
    while let Some(event) = events.message().await.unwrap() {
        if let Some(Event::Finished(finished)) = event.event {
            return finished.usage.unwrap();
        }
    }
    panic!("an answer should finish");
}

/// An answer that nobody reads past its beginning. Its shape keeps it from ending before it is dropped.
async fn drop_one(worker: &mut WorkerClient<Channel>) {
    let schema = r#"{"type": "array", "items": {"type": "integer"}, "minItems": 1000}"#;
    let request = GenerateRequest {
        response_format: Some(ResponseFormat {
            format: Some(Format::JsonSchema(JsonSchema {
                name: "long".to_owned(),
                schema_json: schema.into(),
                strict: false,
            })),
        }),
        ..request(4_000)
    };
    let mut events = worker.generate(request).await.unwrap().into_inner();
    let first = events.message().await.unwrap().unwrap();
    assert!(matches!(first.event, Some(Event::Admitted(_))), "{first:?}");
}

async fn bill(store: &str, number: u32, instance: u64, usage: Usage) {
    let (sender, receiver) = mpsc::channel(1);
    let config = Config {
        store: store.to_owned(),
        source: Source::Channel {
            entries: receiver,
            leftover: None,
        },
        listen: None,
        admin_keys: Vec::new(),
        key_store: None,
        drain_timeout: inferyard_ledger::DRAIN_TIMEOUT,
    };
    let ledger = Ledger::open(config).await.unwrap();
    let event = UsageEvent {
        worker_instance: instance,
        prompt_tokens: usage.prompt_tokens.into(),
        cached_tokens: usage.cached_tokens.into(),
        completion_tokens: usage.completion_tokens.into(),
        ..event(number, "acme")
    };
    sender.send(entry(&event)).await.unwrap();
    drop(sender);
    ledger.run(CancellationToken::new()).await.unwrap();
}

fn audit(store: &str, worker: &str, wait: &str) -> (Option<i32>, Vec<Value>) {
    let output = inferyard(&[
        "audit", "--store", store, "--worker", worker, "--wait", wait, "--output", "json",
    ]);
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    (output.status.code(), lines.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sums_agree_but_for_what_nobody_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}/ledger.sqlite", folder.path().display());
    let path = format!("{}/worker.sock", folder.path().display());
    let listen = format!("unix:{path}");
    let scratch = folder.path().to_str().unwrap();
    let (_worker, _) = Process::start(&[
        "worker",
        "--model",
        "demo",
        "--builtin",
        "demo",
        "--listen",
        &listen,
        "--scratch",
        scratch,
    ]);
    let mut worker = dial(path).await;
    let ready = wait_for(&mut worker, |state| state.phase() == Phase::Ready).await;

    let usage = answer(&mut worker).await;
    bill(&store, 1, ready.instance_id, usage).await;
    // Of a worker that is gone, long ago or in time.
    bill(&store, 2, 7, usage).await;
    let (code, lines) = audit(&store, &listen, "60s");
    assert_eq!(
        (code, &lines[0]["verdict"]),
        (Some(0), &Value::from("equal")),
        "{lines:?}"
    );
    assert_eq!(lines[0]["counted"], lines[0]["billed"]);
    assert_eq!(lines[0]["counted"]["completion"], usage.completion_tokens);

    drop_one(&mut worker).await;
    wait_for(&mut worker, |state| {
        state.dropped_prompt_tokens_total > 0 && state.open_requests == 0
    })
    .await;
    let (code, lines) = audit(&store, &listen, "0");
    assert_eq!(
        (code, &lines[0]["verdict"]),
        (Some(0), &Value::from("dropped")),
        "{lines:?}"
    );
    assert_eq!(
        lines[0]["difference"]["completion"],
        lines[0]["dropped"]["completion"]
    );

    answer(&mut worker).await;
    let (code, lines) = audit(&store, &listen, "0");
    assert_eq!(
        (code, &lines[0]["verdict"]),
        (Some(1), &Value::from("differs")),
        "{lines:?}"
    );
}
