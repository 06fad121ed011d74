//! A worker on a Unix socket, and a client that checks every stream it reads.

use std::collections::BTreeMap;
use std::time::Duration;

use inferyard_engine_embedded as embedded;
use inferyard_proto::worker::v1 as wire;
use inferyard_worker::{self as worker, Listen, RunError, Worker};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use wire::generate_event::Event;
use wire::worker_client::WorkerClient;
use wire::worker_state::Phase;

/// Long enough for anything a healthy worker does here.
const PATIENCE: Duration = Duration::from_mins(5);

/// What the model repeats without any doubt. The order of the sums in a batch changes the last bits
/// of a logit: where two tokens are equally likely, that decides, and texts can be compared no more.
pub(crate) const CLEAR: [&str; 8] = [
    "alpha",
    "green cloud",
    "4711",
    "stream ready",
    "hello to lazy dog",
    "verified",
    "quick brown",
    "river",
];

/// A running worker.
pub(crate) struct Server {
    /// A client of it.
    pub(crate) client: WorkerClient<Channel>,
    /// Its socket, as tonic names it.
    pub(crate) uri: String,
    metrics: std::net::SocketAddr,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), RunError>>,
    _folder: TempDir,
}

/// The settings of a worker and of its engine.
pub(crate) struct Setup {
    pub(crate) worker: worker::Config,
    pub(crate) engine: embedded::Config,
}

/// What a request led to.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// From `Admitted`.
    pub(crate) admitted: Option<wire::Admitted>,
    /// By index.
    pub(crate) choices: BTreeMap<u32, Choice>,
    /// From `Finished`.
    pub(crate) usage: Option<wire::Usage>,
    /// From `Failed`.
    pub(crate) failed: Option<wire::Failed>,
}

/// One choice of an answer.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    pub(crate) content: String,
    pub(crate) reasoning: String,
    pub(crate) calls: Vec<Call>,
    pub(crate) logprobs: Vec<wire::TokenLogprob>,
    pub(crate) tokens: Vec<u32>,
    pub(crate) deltas: usize,
    pub(crate) reason: Option<wire::FinishReason>,
}

/// A tool call, put together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

impl Server {
    /// A worker with the defaults of a tiny model.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// A worker with room for one request and for one in the queue, both taken: the running one and the waiting
    /// one, which is answered with "waited".
    pub(crate) async fn start_full() -> (Self, [Streaming<wire::GenerateEvent>; 2]) {
        let server = Self::start_with(|setup| {
            setup.engine.limits.max_running = 1;
            setup.engine.limits.max_queued = 1;
        })
        .await;
        let running = server.send(chat("Repeat: tick")).await;
        server.wait_for(|state| state.running == 1).await;
        let waiting = server.send(chat("Reply with: waited")).await;
        server.wait_for(|state| state.queued == 1).await;
        (server, [running, waiting])
    }

    /// A worker, configured.
    pub(crate) async fn start_with(configure: impl FnOnce(&mut Setup)) -> Self {
        let server = Self::launch(configure).await;
        server.wait_for(|state| state.phase() == Phase::Ready).await;
        server
    }

    /// A worker that may still be loading.
    pub(crate) async fn launch(configure: impl FnOnce(&mut Setup)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let gguf = folder.path().join("demo.gguf");
        std::fs::write(&gguf, inferyard_demo_model::GGUF).unwrap();
        let socket = folder.path().join("worker.sock");
        let mut setup = Setup {
            worker: worker::Config::new(Listen::Unix(socket.clone()), "demo"),
            engine: embedded::Config::new(gguf),
        };
        setup.engine.threads = Some(1);
        setup.worker.metrics = Some(([127, 0, 0, 1], 0).into());
        configure(&mut setup);
        let worker = Worker::bind(setup.worker).await.unwrap();
        let metrics = worker.metrics_address().unwrap();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(worker.run(setup.engine, shutdown.clone()));
        let uri = format!("unix://{}", socket.display());
        let channel = connect(&uri).await;
        let client = WorkerClient::new(channel);
        Self {
            client,
            uri,
            metrics,
            shutdown,
            running,
            _folder: folder,
        }
    }

    /// Asks it to end.
    pub(crate) fn shut_down(&self) {
        self.shutdown.cancel();
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(self) -> Result<(), RunError> {
        drop(self.client);
        within(self.running).await.unwrap()
    }

    /// A new stream of its state.
    pub(crate) async fn watch(&self) -> Streaming<wire::WorkerState> {
        self.client
            .clone()
            .watch(wire::WatchRequest {})
            .await
            .unwrap()
            .into_inner()
    }

    /// Waits for a state.
    pub(crate) async fn wait_for(
        &self,
        is: impl Fn(&wire::WorkerState) -> bool,
    ) -> wire::WorkerState {
        let mut states = self.watch().await;
        within(async {
            loop {
                let state = states
                    .message()
                    .await
                    .unwrap()
                    .expect("the worker should go on");
                if is(&state) {
                    return state;
                }
            }
        })
        .await
    }

    /// Waits until nothing runs and nothing waits.
    pub(crate) async fn wait_idle(&self) -> wire::WorkerState {
        self.wait_for(|state| state.running == 0 && state.queued == 0)
            .await
    }

    /// Sends a request.
    pub(crate) async fn send(
        &self,
        request: wire::GenerateRequest,
    ) -> Streaming<wire::GenerateEvent> {
        self.client
            .clone()
            .generate(request)
            .await
            .unwrap()
            .into_inner()
    }

    /// The whole answer to a request.
    pub(crate) async fn ask(&self, request: wire::GenerateRequest) -> Answer {
        read(self.send(request).await).await
    }

    /// The text of the only choice of a complete answer.
    pub(crate) async fn text(&self, request: wire::GenerateRequest) -> String {
        self.ask(request).await.only().content
    }

    /// Bytes of prompts that were given to the tokenizer so far.
    pub(crate) async fn tokenized_bytes(&self) -> u64 {
        let text = scrape(self.metrics).await;
        let name = "inferyard_worker_tokenized_bytes_total ";
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)).unwrap();
        value.parse().unwrap()
    }

    /// How a request failed.
    pub(crate) async fn failure(&self, request: wire::GenerateRequest) -> wire::Failed {
        self.ask(request)
            .await
            .failed
            .expect("the request should fail")
    }
}

impl Answer {
    /// The only choice of a complete answer.
    pub(crate) fn only(mut self) -> Choice {
        assert_eq!(self.failed, None);
        assert_eq!(self.choices.len(), 1);
        self.choices.remove(&0).unwrap()
    }

    /// How much of the prompt was cached.
    pub(crate) fn cached(&self) -> u32 {
        self.admitted.as_ref().unwrap().cached_tokens
    }
}

/// What a worker shows to Prometheus.
pub(crate) async fn scrape(address: std::net::SocketAddr) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    within(stream.read_to_string(&mut text)).await.unwrap();
    text
}

/// A client's connection.
pub(crate) async fn connect(uri: &str) -> Channel {
    Endpoint::from_shared(uri.to_owned())
        .unwrap()
        .connect()
        .await
        .unwrap()
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
        let event = event.event.expect("an event should say something");
        assert!(
            answer.usage.is_none() && answer.failed.is_none(),
            "events after the last one"
        );
        if !matches!(event, Event::Admitted(_) | Event::Failed(_)) {
            assert!(answer.admitted.is_some(), "`Admitted` comes first");
        }
        answer.take(event);
    }
    assert!(
        answer.usage.is_some() != answer.failed.is_some(),
        "one last event"
    );
    if let Some(usage) = &answer.usage {
        let admitted = answer.admitted.as_ref().unwrap();
        assert_eq!(usage.prompt_tokens, admitted.prompt_tokens);
        assert_eq!(usage.cached_tokens, admitted.cached_tokens);
        let produced: usize = answer
            .choices
            .values()
            .map(|choice| choice.tokens.len())
            .sum();
        assert_eq!(
            usage.completion_tokens as usize, produced,
            "every token is told"
        );
        assert!(
            answer
                .choices
                .values()
                .all(|choice| choice.reason.is_some())
        );
    }
    answer
}

impl Answer {
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
        assert_eq!(delta.token_count as usize, delta.token_ids.len());
        self.deltas += 1;
        self.content.push_str(&delta.content);
        self.reasoning.push_str(&delta.reasoning);
        self.logprobs.extend(delta.logprobs);
        self.tokens.extend(delta.token_ids);
        for call in delta.tool_calls {
            if call.index as usize == self.calls.len() {
                assert!(
                    call.id.len() == 29 && call.id.starts_with("call_"),
                    "{}",
                    call.id
                );
                let wire::ToolCallDelta {
                    id,
                    name,
                    arguments,
                    ..
                } = call;
                self.calls.push(Call {
                    id,
                    name,
                    arguments,
                });
            } else {
                assert_eq!((call.id.as_str(), call.name.as_str()), ("", ""));
                self.calls[call.index as usize]
                    .arguments
                    .push_str(&call.arguments);
            }
        }
    }
}

/// Greedy sampling.
pub(crate) fn greedy() -> wire::Sampling {
    wire::Sampling {
        temperature: Some(0.0),
        ..Default::default()
    }
}

/// A greedy chat request with one message of the user.
pub(crate) fn chat(message: &str) -> wire::GenerateRequest {
    chat_of(&serde_json::json!([{"role": "user", "content": message}]))
}

/// A greedy chat request.
pub(crate) fn chat_of(messages: &serde_json::Value) -> wire::GenerateRequest {
    let chat = wire::ChatPrompt {
        messages_json: messages.to_string().into_bytes().into(),
        ..Default::default()
    };
    wire::GenerateRequest {
        request_id: "req_0123456789abcdef0123456789abcdef".to_owned(),
        model: "demo".to_owned(),
        prompt: Some(wire::generate_request::Prompt::Chat(chat)),
        sampling: Some(greedy()),
        ..Default::default()
    }
}

/// A chat request with tools.
pub(crate) fn with_tools(
    message: &str,
    tools: &serde_json::Value,
    choice: wire::ToolChoice,
) -> wire::GenerateRequest {
    let mut request = chat(message);
    if let Some(wire::generate_request::Prompt::Chat(chat)) = &mut request.prompt {
        chat.tools_json = tools.to_string().into_bytes().into();
        chat.tool_choice = Some(choice);
    }
    request
}

/// A request for the legacy endpoint.
pub(crate) fn text(content: wire::text_prompt::Content, echo: bool) -> wire::GenerateRequest {
    let prompt = wire::TextPrompt {
        content: Some(content),
        echo,
    };
    wire::GenerateRequest {
        prompt: Some(wire::generate_request::Prompt::Text(prompt)),
        ..chat("")
    }
}
