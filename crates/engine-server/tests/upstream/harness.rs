//! A worker with an engine of the test behind it, and a client that reads its answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use inferyard_engine_server::{self as server_engine, ServerKind};
use inferyard_proto::worker::v1 as wire;
use inferyard_worker::{self as worker, Listen, RunError, Worker};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use wire::generate_event::Event;
use wire::worker_client::WorkerClient;
use wire::worker_state::Phase;

use crate::server::{About, Server};

/// Long enough for anything a healthy worker does here.
const PATIENCE: Duration = Duration::from_mins(5);

/// A model as vLLM names it.
pub(crate) const VLLM: &str = r#"{"object":"list","data":[{"id":"tiny","object":"model","created":1790000000,"owned_by":"vllm","root":"tiny","parent":null,"max_model_len":4096,"permission":[]}]}"#;

/// The id of every request.
const REQUEST_ID: &str = "req_0123456789abcdef0123456789abcdef";

/// A running worker.
pub(crate) struct Fixture {
    client: WorkerClient<Channel>,
    channel: Channel,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), RunError>>,
    _folder: TempDir,
}

/// What a request led to.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) admitted: Option<wire::Admitted>,
    pub(crate) choices: BTreeMap<u32, Choice>,
    pub(crate) usage: Option<wire::Usage>,
    pub(crate) failed: Option<wire::Failed>,
}

/// One choice of an answer.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    pub(crate) content: String,
    pub(crate) reasoning: String,
    /// Id, name, arguments.
    pub(crate) calls: Vec<(String, String, String)>,
    pub(crate) logprobs: Vec<wire::TokenLogprob>,
    pub(crate) tokens: u32,
    pub(crate) reason: Option<wire::FinishReason>,
}

/// The settings of a worker and of its engine.
pub(crate) struct Setup {
    pub(crate) worker: worker::Config,
    pub(crate) engine: server_engine::Config,
}

/// A vLLM and a worker in front of it, ready.
pub(crate) async fn vllm() -> (Server, Fixture) {
    let server = Server::start(about(VLLM)).await;
    let fixture = Fixture::start(server.address, ServerKind::Vllm, |_| ()).await;
    fixture.ready().await;
    (server, fixture)
}

pub(crate) fn about(models: &str) -> About {
    About {
        models: models.to_owned(),
        metrics: None,
    }
}

impl Fixture {
    /// A worker that may still wait for its engine.
    pub(crate) async fn start(
        engine: SocketAddr,
        kind: ServerKind,
        configure: impl FnOnce(&mut Setup),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("worker.sock");
        let url = format!("http://{engine}").parse().unwrap();
        let mut setup = Setup {
            worker: worker::Config::new(Listen::Unix(socket.clone()), "m"),
            engine: server_engine::Config::new(kind, url),
        };
        configure(&mut setup);
        let worker = Worker::bind(setup.worker).await.unwrap();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(worker.run(setup.engine, shutdown.clone()));
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
        let channel = endpoint.connect().await.unwrap();
        Self {
            client: WorkerClient::new(channel.clone()),
            channel,
            shutdown,
            running,
            _folder: folder,
        }
    }

    pub(crate) async fn ready(&self) -> wire::WorkerState {
        self.wait_for(|state| state.phase() == Phase::Ready).await
    }

    /// Waits for a state.
    pub(crate) async fn wait_for(
        &self,
        is: impl Fn(&wire::WorkerState) -> bool,
    ) -> wire::WorkerState {
        let watched = self.client.clone().watch(wire::WatchRequest {}).await;
        let mut states = watched.unwrap().into_inner();
        within(async {
            loop {
                let state = states.message().await.unwrap();
                let state = state.expect("the worker should go on");
                if is(&state) {
                    return state;
                }
            }
        })
        .await
    }

    /// Waits until a health service says so.
    pub(crate) async fn wait_health(&self, service: &str, status: ServingStatus) {
        let mut client = HealthClient::new(self.channel.clone());
        let service = service.to_owned();
        let watched = client.watch(HealthCheckRequest { service }).await;
        let mut health = watched.unwrap().into_inner();
        within(async { while health.message().await.unwrap().unwrap().status() != status {} })
            .await;
    }

    pub(crate) async fn send(
        &self,
        request: wire::GenerateRequest,
    ) -> Streaming<wire::GenerateEvent> {
        let sent = self.client.clone().generate(request).await;
        sent.unwrap().into_inner()
    }

    /// Ends the request that was sent last; its stream tells how.
    pub(crate) async fn cancel(&self) {
        let request_id = REQUEST_ID.to_owned();
        let mut client = self.client.clone();
        let request = wire::CancelRequest { request_id };
        client.cancel(request).await.unwrap();
    }

    /// The whole answer to a request.
    pub(crate) async fn ask(&self, request: wire::GenerateRequest) -> Answer {
        read(self.send(request).await).await
    }

    pub(crate) fn shut_down(&self) {
        self.shutdown.cancel();
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(self) -> Result<(), RunError> {
        drop(self.client);
        drop(self.channel);
        within(self.running).await.unwrap()
    }
}

/// Waits, but not for ever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it should not take this long")
}

/// Reads a stream to its end, and checks that it keeps the contract.
pub(crate) async fn read(mut events: Streaming<wire::GenerateEvent>) -> Answer {
    let mut answer = Answer::default();
    while let Some(event) = within(events.message()).await.unwrap() {
        let event = event.event.unwrap();
        assert!(
            answer.usage.is_none() && answer.failed.is_none(),
            "events after the last one"
        );
        let first = matches!(event, Event::Admitted(_) | Event::Failed(_));
        assert!(first || answer.admitted.is_some(), "`Admitted` comes first");
        answer.take(event);
    }
    assert!(
        answer.usage.is_some() != answer.failed.is_some(),
        "one last event"
    );
    if let Some(usage) = &answer.usage {
        assert!(
            answer
                .choices
                .values()
                .all(|choice| choice.reason.is_some())
        );
        assert!(usage.reasoning_tokens <= usage.completion_tokens);
        let told: u32 = answer.choices.values().map(|choice| choice.tokens).sum();
        assert_eq!(usage.completion_tokens, told, "every token is told");
    }
    answer
}

impl Answer {
    /// The only choice of a complete answer.
    pub(crate) fn only(mut self) -> Choice {
        assert_eq!(self.failed, None);
        assert_eq!(self.choices.len(), 1);
        self.choices.remove(&0).unwrap()
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Admitted(admitted) => {
                assert!(self.admitted.replace(admitted).is_none(), "one `Admitted`");
            }
            Event::Delta(delta) => self.choices.entry(delta.choice).or_default().take(delta),
            Event::ChoiceFinished(finished) => {
                let choice = self.choices.entry(finished.choice).or_default();
                assert!(
                    choice.reason.replace(finished.reason()).is_none(),
                    "it ends once"
                );
            }
            Event::Finished(finished) => self.usage = finished.usage,
            Event::Failed(failed) => self.failed = Some(failed),
        }
    }
}

impl Choice {
    fn take(&mut self, delta: wire::Delta) {
        assert_eq!(self.reason, None, "nothing comes after the end of a choice");
        assert!(delta.token_ids.is_empty(), "the engine tells no ids");
        self.content.push_str(&delta.content);
        self.reasoning.push_str(&delta.reasoning);
        self.logprobs.extend(delta.logprobs);
        self.tokens += delta.token_count;
        for call in delta.tool_calls {
            let at = call.index as usize;
            if at == self.calls.len() {
                assert!(!call.id.is_empty() && !call.name.is_empty());
                self.calls.push((call.id, call.name, call.arguments));
            } else {
                assert_eq!((call.id.as_str(), call.name.as_str()), ("", ""));
                self.calls[at].2.push_str(&call.arguments);
            }
        }
    }
}

/// A chat request with one message of the user.
pub(crate) fn chat(message: &str) -> wire::GenerateRequest {
    let messages = serde_json::json!([{"role": "user", "content": message}]);
    let chat = wire::ChatPrompt {
        messages_json: messages.to_string().into_bytes().into(),
        ..Default::default()
    };
    wire::GenerateRequest {
        request_id: REQUEST_ID.to_owned(),
        model: "m".to_owned(),
        prompt: Some(wire::generate_request::Prompt::Chat(chat)),
        ..Default::default()
    }
}

/// The same with a tool.
pub(crate) fn chat_with_tool(message: &str) -> wire::GenerateRequest {
    let mut request = chat(message);
    if let Some(wire::generate_request::Prompt::Chat(chat)) = &mut request.prompt {
        let tools =
            r#"[{"type":"function","function":{"name":"get_order_status","parameters":{}}}]"#;
        chat.tools_json = tools.as_bytes().into();
    }
    request
}

/// A request for the legacy endpoint.
pub(crate) fn text(prompt: &str, echo: bool) -> wire::GenerateRequest {
    let content = wire::text_prompt::Content::Text(prompt.to_owned());
    let prompt = wire::TextPrompt {
        content: Some(content),
        echo,
    };
    wire::GenerateRequest {
        prompt: Some(wire::generate_request::Prompt::Text(prompt)),
        ..chat("")
    }
}
