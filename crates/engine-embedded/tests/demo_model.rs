//! Measures the demo model's exact matches on held-out prompts, from gRPC to the engine and back:
//! the table of its model card.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::net::{Ipv4Addr, SocketAddr};

use inferyard_engine_embedded as embedded;
use inferyard_proto::worker::v1::generate_event::Event;
use inferyard_proto::worker::v1::generate_request::Prompt;
use inferyard_proto::worker::v1::worker_client::WorkerClient;
use inferyard_proto::worker::v1::worker_state::Phase;
use inferyard_proto::worker::v1::{
    ChatPrompt, FinishReason, GenerateRequest, Sampling, WatchRequest,
};
use inferyard_worker::{Address, Config, Listen, Worker};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

/// The least share of each set that must match, a little below what was measured: whole batches
/// move the low bits of a logit, and with them the odd answer.
const FLOORS: [(&str, f64); 14] = [
    ("words, 1 to 32 characters", 0.99),
    ("words, 33 to 64 characters", 0.99),
    ("digits, 1 to 24", 0.99),
    ("UUIDs", 0.99),
    ("random ASCII, 1 to 32", 0.98),
    ("random ASCII, 33 to 64", 0.97),
    ("UTF-8, 1 to 10 characters", 0.97),
    ("three letters repeated, 8 to 24", 0.92),
    ("words after a long system message", 0.98),
    ("words where tools are present", 0.98),
    ("call of get_order_status", 0.97),
    ("call of a random tool", 0.95),
    ("greeting", 1.0),
    ("payload verified.", 1.0),
];

/// One prompt, and what must come back.
#[derive(Deserialize)]
struct Case {
    system: Option<String>,
    user: String,
    tools: Option<Value>,
    answer: Option<String>,
    call: Option<Call>,
}

/// A tool call.
#[derive(Debug, PartialEq, Deserialize)]
struct Call {
    name: String,
    arguments: Value,
}

/// What came back.
#[derive(Debug, Default)]
struct Answer {
    content: String,
    calls: Vec<(String, String)>,
    reason: FinishReason,
}

#[tokio::test]
async fn held_out_prompts_are_answered_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let gguf = folder.path().join("demo.gguf");
    std::fs::write(&gguf, inferyard_demo_model::GGUF).unwrap();
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let engine = embedded::Config {
        threads: Some(1),
        ..embedded::Config::new(gguf)
    };
    let config = Config::new(Listen::Tcp(anywhere), inferyard_demo_model::NAME);
    let worker = Worker::bind(config).await.unwrap();
    let Address::Tcp(address) = worker.address().clone() else {
        panic!("a worker on TCP should have a TCP address")
    };
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(worker.run(engine, shutdown.clone()));
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let client = WorkerClient::new(endpoint.connect().await.unwrap());
    wait_until_ready(client.clone()).await;

    let heldout = include_str!("../../../crates/demo-model/heldout.json");
    let mut sets: serde_json::Map<String, Value> = serde_json::from_str(heldout).unwrap();
    println!("| set | exact | prompts |\n| --- | --- | --- |");
    let mut below = Vec::new();
    for (name, floor) in FLOORS {
        let cases = sets.remove(name).expect("each floor should have its set");
        let cases: Vec<Case> = serde_json::from_value(cases).unwrap();
        let count = cases.len();
        let share = share_of_exact(&client, cases).await;
        println!("| {name} | {:.1} % | {count} |", share * 100.0);
        if share < floor {
            below.push(format!("{name}: {share:.4} < {floor}"));
        }
    }
    assert_eq!(below, Vec::<String>::new());
    assert!(sets.is_empty(), "sets without a floor: {:?}", sets.keys());

    shutdown.cancel();
    running.await.unwrap().unwrap();
}

async fn wait_until_ready(mut client: WorkerClient<Channel>) {
    let mut states = client.watch(WatchRequest {}).await.unwrap().into_inner();
    while let Some(state) = states.message().await.unwrap() {
        if state.phase() == Phase::Ready {
            return;
        }
    }
    panic!("the worker should become ready");
}

/// All cases of a set at once: they wait in the worker's queue.
async fn share_of_exact(client: &WorkerClient<Channel>, cases: Vec<Case>) -> f64 {
    let count = u32::try_from(cases.len()).unwrap();
    let mut answers = JoinSet::new();
    for case in cases {
        let client = client.clone();
        answers.spawn(async move {
            let answer = ask(client, &case).await;
            is_exact(&case, &answer)
        });
    }
    let exact = answers
        .join_all()
        .await
        .into_iter()
        .filter(|exact| *exact)
        .count();
    f64::from(u32::try_from(exact).unwrap()) / f64::from(count)
}

fn is_exact(case: &Case, answer: &Answer) -> bool {
    let calls: Option<Vec<Call>> = answer
        .calls
        .iter()
        .map(|(name, arguments)| {
            let arguments = serde_json::from_str(arguments).ok()?;
            Some(Call {
                name: name.clone(),
                arguments,
            })
        })
        .collect();
    match (&case.call, calls.as_deref()) {
        (Some(expected), Some([call])) => {
            call == expected && answer.reason == FinishReason::ToolCalls
        }
        (None, Some([])) => {
            case.answer.as_deref() == Some(&answer.content) && answer.reason == FinishReason::Stop
        }
        _ => false,
    }
}

async fn ask(mut client: WorkerClient<Channel>, case: &Case) -> Answer {
    let mut messages = Vec::new();
    if let Some(system) = &case.system {
        messages.push(json!({"role": "system", "content": system}));
    }
    messages.push(json!({"role": "user", "content": case.user}));
    let request = GenerateRequest {
        model: inferyard_demo_model::NAME.to_owned(),
        prompt: Some(Prompt::Chat(ChatPrompt {
            messages_json: Value::from(messages).to_string().into(),
            tools_json: case
                .tools
                .as_ref()
                .map(Value::to_string)
                .unwrap_or_default()
                .into(),
            ..ChatPrompt::default()
        })),
        max_tokens: Some(256),
        sampling: Some(Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        }),
        ..GenerateRequest::default()
    };
    let mut events = client.generate(request).await.unwrap().into_inner();
    let mut answer = Answer::default();
    while let Some(event) = events.message().await.unwrap() {
        match event.event.expect("an event should say what it is") {
            Event::Admitted(_) | Event::Finished(_) => {}
            Event::Delta(delta) => {
                answer.content.push_str(&delta.content);
                for piece in delta.tool_calls {
                    let index = usize::try_from(piece.index).unwrap();
                    if index == answer.calls.len() {
                        answer.calls.push(Default::default());
                    }
                    let (name, arguments) = &mut answer.calls[index];
                    name.push_str(&piece.name);
                    arguments.push_str(&piece.arguments);
                }
            }
            Event::ChoiceFinished(finished) => answer.reason = finished.reason(),
            Event::Failed(failed) => panic!("the request should not fail: {failed:?}"),
        }
    }
    answer
}
