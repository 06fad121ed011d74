//! Large requests that wait to be prepared: they count as queued, their number is bounded, and a request ends when
//! its client leaves.

use std::time::Duration;

use inferyard_engine::event::FailureKind;
use inferyard_engine::request::{Prompt, TextSource};
use tokio_stream::StreamExt;

use super::*;
use crate::config::Config;

/// Long enough for anything that is not broken.
const PATIENCE: Duration = Duration::from_mins(1);

struct Fixture {
    model: Arc<Model>,
    queue: Arc<Queue<Job>>,
    state: Arc<State>,
    intake: Intake,
}

impl Fixture {
    /// An intake before an engine that is not there, with room for this many requests.
    fn new(max_queued: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let gguf = folder.path().join("demo.gguf");
        std::fs::write(&gguf, inferyard_demo_model::GGUF).unwrap();
        let mut config = Config::new(&gguf);
        config.kv_tokens = Some(32_768);
        config.limits.context_length = Some(32_768);
        let state = Arc::new(State::new("demo".to_owned(), 1));
        let queue = Arc::new(Queue::new(max_queued, 0, Arc::clone(&state)));
        let model = Model::load(&config, &state, &queue).unwrap();
        let intake = Intake::new(Arc::clone(&queue), Arc::clone(&state), Sandbox::new(None));
        Self {
            model: Arc::new(model),
            queue,
            state,
            intake,
        }
    }

    fn take(&self, request: Request) -> Result<Events, Failure> {
        self.intake.take(&self.model, request)
    }

    /// Takes all turns, so that nothing is prepared until they are dropped.
    fn take_turns(&self) -> tokio::sync::OwnedSemaphorePermit {
        let workers = Arc::clone(&self.intake.workers);
        let all = u32::try_from(workers.available_permits()).unwrap();
        workers.try_acquire_many_owned(all).unwrap()
    }

    async fn wait_for(&self, queued: usize) {
        let mut changes = self.state.changes();
        let reached = async {
            while self.state.snapshot().queued != queued {
                changes.changed().await.unwrap();
            }
        };
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        reached.expect("the queue should get there");
    }
}

fn big() -> Request {
    let text = "a line\n".repeat(3_000);
    Request::new(Prompt::Text {
        source: TextSource::Text(text),
        echo: false,
    })
}

async fn failure(events: Events) -> FailureKind {
    let events = tokio::time::timeout(PATIENCE, events.collect::<Vec<_>>()).await;
    match events.expect("it should end").as_slice() {
        [Event::Failed(failure)] => failure.kind,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_prepared_counts_as_queued_and_ends_as_a_job() {
    let fixture = Fixture::new(4);
    let turns = fixture.take_turns();
    let _events = [fixture.take(big()).unwrap(), fixture.take(big()).unwrap()];
    let snapshot = fixture.state.snapshot();
    assert_eq!((snapshot.queued, snapshot.queued_tokens), (2, 2 * 5_250));
    drop(turns);
    let mut jobs = Vec::new();
    let mut changes = fixture.state.changes();
    while jobs.len() < 2 {
        match fixture.queue.take(1, |_| true) {
            Some(job) => jobs.push(job),
            None => tokio::time::timeout(PATIENCE, changes.changed())
                .await
                .unwrap()
                .unwrap(),
        }
    }
    assert_eq!(jobs[0].prepared.tokens.len(), 21_000);
    assert_eq!(fixture.state.tokenized_bytes(), 2 * 21_000);
    assert_eq!(fixture.state.snapshot().queued, 0);
}

#[tokio::test]
async fn nothing_is_done_for_who_leaves_is_cancelled_overdue_or_shut_out() {
    let fixture = Fixture::new(64);
    let _turns = fixture.take_turns();
    let take = |deadline| {
        let request = Request { deadline, ..big() };
        fixture.take(request).unwrap()
    };
    let leavers: Vec<Events> = (0..20).map(|_| take(None)).collect();
    assert_eq!(fixture.state.snapshot().queued, 20);
    drop(leavers);
    fixture.wait_for(0).await;

    let events = take(None);
    events.cancel().cancel();
    assert_eq!(failure(events).await, FailureKind::Cancelled);

    let soon = Instant::now() + Duration::from_millis(10);
    assert_eq!(
        failure(take(Some(soon))).await,
        FailureKind::DeadlineExceeded
    );

    fixture.wait_for(0).await;
    assert_eq!(fixture.state.tokenized_bytes(), 0);
    let ended = fixture.state.ended();
    assert_eq!(ended[&Outcome::Disconnected], 20);
    assert_eq!(ended[&Outcome::Failed(FailureKind::Cancelled)], 1);
}

#[tokio::test]
async fn nothing_is_done_for_whom_the_queue_refuses() {
    let fixture = Fixture::new(1);
    let turns = fixture.take_turns();
    let waits = fixture.take(big()).unwrap();
    let kind = |request| fixture.take(request).err().unwrap().kind;
    assert_eq!(kind(big()), FailureKind::Overloaded);
    let overdue = Request {
        deadline: Some(Instant::now()),
        ..big()
    };
    assert_eq!(kind(overdue), FailureKind::DeadlineExceeded);
    fixture.queue.set_run_state(RunState::Drain);
    assert_eq!(kind(big()), FailureKind::Draining);
    drop(turns);
    assert_eq!(failure(waits).await, FailureKind::Draining);
    tokio::time::timeout(PATIENCE, fixture.intake.ended())
        .await
        .unwrap();
    assert_eq!(fixture.state.tokenized_bytes(), 0);
}

#[tokio::test]
async fn who_leaves_while_the_job_joins_leaves_no_job() {
    let fixture = Fixture::new(4);
    // A small one is prepared at once: it is in the queue when its reader leaves.
    let small = Request {
        prompt: Prompt::Text {
            source: TextSource::Text("a".to_owned()),
            echo: false,
        },
        ..big()
    };
    let events = fixture.take(small).unwrap();
    assert_eq!(fixture.state.snapshot().queued, 1);
    drop(events);
    assert_eq!(fixture.state.snapshot().queued, 0);
}
