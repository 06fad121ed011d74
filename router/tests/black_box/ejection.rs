//! Workers that fail several requests in a row are ejected while others answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use inferyard_proto::worker::v1::failed::Kind;
use inferyard_proto::worker::v1::worker_state::Phase;
use tokio::task::JoinSet;

use crate::support::{
    Call, STREAMED, ScriptedWorker, TestRouter, WHOLE, delta, eventually, failed, request,
};

const REQUESTS: usize = 200;
const CLIENTS: usize = 8;

/// How a worker answers all its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Answers,
    Fails,
    BreaksOff,
    Refuses,
}

async fn answer(call: Call, way: Way) {
    match way {
        Way::Answers => call.say_hello().await,
        Way::Fails => call.say(failed(Kind::Internal, "500", "")).await,
        Way::BreaksOff => {
            call.say(delta("Hel")).await;
            call.say(failed(Kind::Internal, "broke off", "")).await;
        }
        Way::Refuses => {
            call.say(failed(Kind::InvalidRequest, "No.", "messages"))
                .await;
        }
    }
}

/// Runs a worker, and returns the counter of its calls.
fn serve(mut worker: ScriptedWorker, way: Way, serving: &mut JoinSet<()>) -> Arc<AtomicUsize> {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    serving.spawn(async move {
        loop {
            let call = worker.next_call().await;
            counted.fetch_add(1, Ordering::Relaxed);
            answer(call, way).await;
        }
    });
    calls
}

/// Returns how many requests failed, and how many calls each worker got.
async fn crowd(ways: &[Way]) -> (usize, Vec<usize>) {
    let mut workers = Vec::new();
    for _ in ways {
        workers.push(ScriptedWorker::start().await);
    }
    let router = Arc::new(TestRouter::start(&workers.iter().collect::<Vec<_>>()).await);
    let mut serving = JoinSet::new();
    let ways = workers.into_iter().zip(ways);
    let calls: Vec<_> = ways
        .map(|(worker, way)| serve(worker, *way, &mut serving))
        .collect();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let router = Arc::clone(&router);
        clients.spawn(async move {
            let mut connection = router.connect().await;
            let mut failures = 0;
            for _ in 0..REQUESTS / CLIENTS {
                connection
                    .send(&request("POST", "/v1/chat/completions", WHOLE))
                    .await;
                failures += usize::from(connection.answer().await.head.status != 200);
            }
            failures
        });
    }
    let failures = clients.join_all().await.into_iter().sum();
    serving.abort_all();
    let calls = calls.iter().map(|calls| calls.load(Ordering::Relaxed));
    (failures, calls.collect())
}

#[tokio::test]
async fn workers_that_fail_everything_cost_few_requests() {
    use Way::{Answers, BreaksOff, Fails};
    for (ways, most) in [
        (&[Answers, Fails][..], 0),
        (&[Answers, Answers, Fails], 0),
        (&[Answers, Fails, Fails], 6),
        (&[Answers, Answers, Fails, Fails], 6),
        // Three failures in a row, and the requests that ran at the same time.
        (&[Answers, Answers, BreaksOff], 2 + CLIENTS),
    ] {
        let (failures, calls) = crowd(ways).await;
        assert!(
            failures <= most,
            "{failures} of {REQUESTS} failed: {ways:?} had {calls:?}"
        );
        let (good, bad): (Vec<_>, Vec<_>) = ways
            .iter()
            .zip(calls)
            .partition(|(way, _)| **way == Answers);
        let bad: usize = bad.iter().map(|(_, calls)| calls).sum();
        assert!(
            bad <= 4 * CLIENTS,
            "{bad} calls of workers that fail beside {good:?}"
        );
    }
}

#[tokio::test]
async fn refusals_of_the_callers_fault_eject_nobody() {
    let (failures, calls) = crowd(&[Way::Refuses, Way::Answers]).await;
    assert!(failures > REQUESTS / 4, "{failures}: {calls:?}");
    assert_eq!(failures, calls[0]);
}

#[tokio::test]
async fn where_all_fail_all_are_tried_and_the_first_that_answers_is_used() {
    let mut worker = ScriptedWorker::start().await;
    let router = TestRouter::start(&[&worker]).await;
    for _ in 0..5 {
        let mut client = router.chat(WHOLE).await;
        let call = worker.call().await;
        call.say(failed(Kind::Internal, "500", "")).await;
        assert_eq!(client.answer().await.error().0, 500);
    }
    let state = |state| format!("inferyard_router_workers{{model=\"m\",state=\"{state}\"}} 1\n");
    assert!(router.scrape().await.contains(&state("ejected")));
    // An ejected worker does not make the router unready.
    assert_eq!(router.ask("GET", "/readyz", "").await.head.status, 200);
    let mut client = router.chat(WHOLE).await;
    worker.call().await.say_hello().await;
    assert_eq!(client.answer().await.head.status, 200);
    eventually(async || router.scrape().await.contains(&state("ready"))).await;
    router.end().await;
}

#[tokio::test]
async fn a_worker_that_says_it_is_unhealthy_gets_what_no_other_takes() {
    let mut workers = [ScriptedWorker::start().await, ScriptedWorker::start().await];
    let router = TestRouter::start(&[&workers[0], &workers[1]]).await;
    workers[0].becomes(|state| state.phase = Phase::Unhealthy.into());
    let unhealthy = "inferyard_router_workers{model=\"m\",state=\"unhealthy\"} 1\n";
    eventually(async || router.scrape().await.contains(unhealthy)).await;
    for _ in 0..8 {
        let mut client = router.chat(STREAMED).await;
        workers[1].call().await.say_hello().await;
        assert_eq!(client.head().await.status, 200);
    }
    assert!(!workers[0].was_called());
    workers[1].becomes(|state| state.phase = Phase::Loading.into());
    let loading = "inferyard_router_workers{model=\"m\",state=\"loading\"} 1\n";
    eventually(async || router.scrape().await.contains(loading)).await;
    let mut client = router.chat(STREAMED).await;
    workers[0].call().await.say_hello().await;
    assert_eq!(client.head().await.status, 200);
    router.end().await;
}
