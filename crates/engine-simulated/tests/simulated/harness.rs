//! A simulated worker, called in this process, over gRPC and over HTTP.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use inferyard_engine_simulated as simulated;
use inferyard_proto::worker::v1 as proto;
use inferyard_worker::{self as worker, Listen, RunError, Worker};
use proto::generate_event::Event;
use proto::worker_server::Worker as Service;
use proto::worker_state::Phase;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;

/// Long enough for anything a healthy worker does here; more than any virtual time of these tests.
const PATIENCE: Duration = Duration::from_hours(1);

/// A running worker.
pub(crate) struct Running<S> {
    /// Its service, without a wire.
    pub(crate) service: S,
    /// Its socket, as tonic names it.
    pub(crate) uri: String,
    /// Where it answers OpenAI's API.
    pub(crate) http: SocketAddr,
    shutdown: CancellationToken,
    life: JoinHandle<Result<(), RunError>>,
    _folder: TempDir,
}

/// What a request led to.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// From `Admitted`.
    pub(crate) admitted: Option<proto::Admitted>,
    /// When `Admitted` came.
    pub(crate) begun: Option<Instant>,
    /// When each delta came.
    pub(crate) told: Vec<Instant>,
    /// By index: text, tokens and why it ended.
    pub(crate) choices: BTreeMap<u32, Choice>,
    /// From `Finished`.
    pub(crate) usage: Option<proto::Usage>,
    /// From `Failed`.
    pub(crate) failed: Option<proto::Failed>,
}

/// One choice of an answer.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    pub(crate) content: String,
    pub(crate) tokens: Vec<u32>,
    pub(crate) reason: Option<proto::FinishReason>,
}

/// The settings of a worker and of its engine.
pub(crate) struct Setup {
    pub(crate) worker: worker::Config,
    pub(crate) engine: simulated::Config,
}

/// Starts a worker; its prompts cost a millisecond for each token, its tokens ten.
pub(crate) async fn start(configure: impl FnOnce(&mut Setup)) -> Running<impl Service + Clone> {
    let engine = simulated::Config {
        prefill_tokens_per_second: 1_000.0,
        step: Duration::from_millis(10),
        step_per_sequence: Duration::from_millis(1),
        ..simulated::Config::default()
    };
    start_as(engine, configure).await
}

/// Starts a worker, and waits until it serves.
pub(crate) async fn start_as(
    engine: simulated::Config,
    configure: impl FnOnce(&mut Setup),
) -> Running<impl Service + Clone> {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("worker.sock");
    let uri = format!("unix://{}", socket.display());
    let mut setup = Setup {
        worker: worker::Config::new(Listen::Unix(socket), "m"),
        engine: simulated::Config {
            http: Some(([127, 0, 0, 1], 0).into()),
            ..engine
        },
    };
    configure(&mut setup);
    let worker = Worker::bind(setup.worker).await.unwrap();
    let engine = setup.engine.bind().await.unwrap();
    let (service, http) = (worker.service(), engine.http_address().unwrap());
    let shutdown = CancellationToken::new();
    let running = Running {
        service,
        uri,
        http,
        life: tokio::spawn(worker.run(engine, shutdown.clone())),
        shutdown,
        _folder: folder,
    };
    running
        .wait_for(|state| state.phase() == Phase::Ready)
        .await;
    running
}

impl<S: Service + Clone> Running<S> {
    /// Asks it to end.
    pub(crate) fn shut_down(&self) {
        self.shutdown.cancel();
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(self) {
        within(self.life).await.unwrap().unwrap();
    }

    /// Sends a request.
    pub(crate) async fn send(&self, request: proto::GenerateRequest) -> S::GenerateStream {
        let sent = self.service.generate(tonic::Request::new(request)).await;
        sent.unwrap().into_inner()
    }

    /// The whole answer to a request.
    pub(crate) async fn ask(&self, request: proto::GenerateRequest) -> Answer {
        read(self.send(request).await).await
    }

    /// Ends a request; false: it is not there.
    pub(crate) async fn cancel(&self, id: &str) -> bool {
        let request_id = id.to_owned();
        let request = tonic::Request::new(proto::CancelRequest { request_id });
        self.service.cancel(request).await.is_ok()
    }

    /// A new stream of its state.
    pub(crate) async fn watch(&self) -> S::WatchStream {
        let request = tonic::Request::new(proto::WatchRequest {});
        self.service.watch(request).await.unwrap().into_inner()
    }

    /// Waits for a state.
    pub(crate) async fn wait_for(
        &self,
        is: impl Fn(&proto::WorkerState) -> bool,
    ) -> proto::WorkerState {
        let mut states = Box::pin(self.watch().await);
        within(async {
            loop {
                let state = states.next().await.expect("the worker should go on");
                let state = state.unwrap();
                if is(&state) {
                    return state;
                }
            }
        })
        .await
    }

    /// Waits until nothing runs and nothing waits.
    pub(crate) async fn wait_idle(&self) -> proto::WorkerState {
        self.wait_for(|state| state.running == 0 && state.queued == 0 && state.open_requests == 0)
            .await
    }
}

/// Waits, but not for ever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    let patient = tokio::time::timeout(PATIENCE, future).await;
    patient.expect("it should not take this long")
}

/// Reads a stream to its end, and checks that it keeps the contract.
pub(crate) async fn read<E: std::fmt::Debug>(
    events: impl Stream<Item = Result<proto::GenerateEvent, E>>,
) -> Answer {
    let mut events = Box::pin(events);
    let mut answer = Answer::default();
    while let Some(event) = within(events.next()).await {
        let event = event.unwrap().event.expect("an event should say something");
        let over = answer.usage.is_some() || answer.failed.is_some();
        assert!(!over, "events after the last one");
        answer.take(event);
    }
    assert!(
        answer.usage.is_some() != answer.failed.is_some(),
        "one last event"
    );
    if let Some(usage) = &answer.usage {
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
        let admitted = answer
            .admitted
            .as_ref()
            .expect("`Admitted` should come first");
        assert_eq!(usage.cached_tokens, admitted.cached_tokens);
    }
    answer
}

impl Answer {
    /// The only choice of a complete answer.
    pub(crate) fn only(mut self) -> Choice {
        assert_eq!((self.failed, self.choices.len()), (None, 1));
        self.choices.remove(&0).unwrap()
    }

    /// How it failed.
    pub(crate) fn kind(&self) -> proto::failed::Kind {
        self.failed.as_ref().expect("it should fail").kind()
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Admitted(admitted) => {
                assert!(self.admitted.replace(admitted).is_none(), "one `Admitted`");
                self.begun = Some(Instant::now());
            }
            Event::Delta(delta) => {
                assert!(self.admitted.is_some(), "`Admitted` comes first");
                assert_eq!(delta.token_count as usize, delta.token_ids.len());
                self.told.push(Instant::now());
                let choice = self.choices.entry(delta.choice).or_default();
                assert_eq!(
                    choice.reason, None,
                    "nothing comes after the end of a choice"
                );
                choice.content += &delta.content;
                choice.tokens.extend(delta.token_ids);
            }
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

/// A request with a prompt of so many tokens.
pub(crate) fn prompt(tokens: usize) -> proto::GenerateRequest {
    let text = proto::TextPrompt {
        content: Some(proto::text_prompt::Content::Text("x".repeat(4 * tokens))),
        echo: false,
    };
    proto::GenerateRequest {
        model: "m".to_owned(),
        prompt: Some(proto::generate_request::Prompt::Text(text)),
        ..Default::default()
    }
}

/// A request with a prompt and an answer of so many tokens.
pub(crate) fn with_answer(tokens: usize, answer: u32) -> proto::GenerateRequest {
    proto::GenerateRequest {
        max_tokens: Some(answer),
        ..prompt(tokens)
    }
}
