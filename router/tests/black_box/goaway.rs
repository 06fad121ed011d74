//! A request that the peer did not process is sent again; one that it may have processed is not.

use std::sync::atomic::Ordering;

use crate::support::{Call, Proxy, Refusal, ScriptedWorker, TestRouter, WHOLE, catalog, request};

/// A worker behind a proxy, after a first request over a connection that stays open.
async fn warm(refusal: Refusal) -> (ScriptedWorker, Proxy, TestRouter) {
    let mut worker = ScriptedWorker::start().await;
    let proxy = Proxy::start(&worker.endpoint, refusal).await;
    let router = TestRouter::unready(catalog(vec![proxy.endpoint.clone()]), |_| ()).await;
    router.found(1).await;
    let mut client = router.chat(WHOLE).await;
    worker.call().await.say_hello().await;
    assert_eq!(client.answer().await.head.status, 200);
    (worker, proxy, router)
}

async fn answered(worker: &mut ScriptedWorker, router: &TestRouter) {
    let mut client = router.chat(WHOLE).await;
    let call: Call = worker.call().await;
    call.say_hello().await;
    assert_eq!(client.answer().await.head.status, 200);
}

#[tokio::test]
async fn an_unseen_request_is_sent_again_to_the_same_worker() {
    for refusal in [Refusal::GoAway, Refusal::RefusedStream] {
        let (mut worker, proxy, router) = warm(refusal).await;
        // Refuses on the kept connection, and then on the new one too.
        for refused in [1, 2] {
            proxy.refuses.store(refused, Ordering::Release);
            answered(&mut worker, &router).await;
            assert_eq!(proxy.refuses.load(Ordering::Acquire), 0);
        }
        assert!(!worker.was_called(), "once each");
        assert!(!router.scrape().await.contains("retries_total{"));
        router.end().await;
    }
}

#[tokio::test]
async fn it_is_not_sent_without_end() {
    let (mut worker, proxy, router) = warm(Refusal::GoAway).await;
    proxy.refuses.store(usize::MAX, Ordering::Release);
    let answer = router.ask("POST", "/v1/chat/completions", WHOLE).await;
    assert_eq!(answer.error().0, 500);
    assert_eq!(usize::MAX - proxy.refuses.load(Ordering::Acquire), 3);
    assert!(!worker.was_called());
    proxy.refuses.store(0, Ordering::Release);
    answered(&mut worker, &router).await;
    router.end().await;
}

#[tokio::test]
async fn what_the_other_end_may_have_processed_is_not() {
    let (mut worker, proxy, router) = warm(Refusal::GoAwayTooLate).await;
    proxy.refuses.store(1, Ordering::Release);
    let mut client = router.connect().await;
    client
        .send(&request("POST", "/v1/chat/completions", WHOLE))
        .await;
    assert_eq!(client.answer().await.error().0, 500);
    assert!(!worker.was_called());
    answered(&mut worker, &router).await;
    router.end().await;
}
