//! Clients that disconnect or stop reading.

use crate::support::{
    Connection, STREAMED, ScriptedWorker, TestRouter, WHOLE, admitted, delta, nothing_is_left,
    within,
};

#[tokio::test]
async fn leaving_before_the_first_token_cancels_the_worker() {
    let mut worker = ScriptedWorker::start().await;
    let router = TestRouter::start(&[&worker]).await;
    for body in [STREAMED, WHOLE] {
        let client = router.chat(body).await;
        let call = worker.call().await;
        call.say(admitted(10, 0)).await;
        drop(client);
        call.cancelled().await;
    }
    nothing_is_left(&router).await;
    let metrics = router.scrape().await;
    let left = r#"{route="/v1/chat/completions",status="499",code="client_left"} 2"#;
    assert!(metrics.contains(left), "{metrics}");
    router.end().await;
}

#[tokio::test]
async fn leaving_after_the_first_token_cancels_the_worker() {
    let mut worker = ScriptedWorker::start().await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = router.chat(STREAMED).await;
    let call = worker.call().await;
    call.say(admitted(10, 0)).await;
    call.say(delta("Hello")).await;
    client.head().await;
    client.piece().await;
    drop(client);
    call.cancelled().await;
    nothing_is_left(&router).await;
    let metrics = router.scrape().await;
    // What was produced before the disconnect is counted.
    let tokens = r#"tokens_total{model="m",kind="completion"} 1"#;
    assert!(metrics.contains(tokens), "{metrics}");
    router.end().await;
}

#[tokio::test]
async fn two_hundred_leavers_do_not_harm_the_one_who_stays() {
    let mut worker = ScriptedWorker::start().await;
    let router = TestRouter::start(&[&worker]).await;
    let mut staying = router.chat(STREAMED).await;
    let stayed = worker.call().await;
    stayed.say(delta("Hello")).await;
    staying.head().await;
    let mut pumps = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..200 {
        let mut client = router.chat(STREAMED).await;
        pumps.push(tokio::spawn(worker.call().await.pump(usize::MAX)));
        client.head().await;
        clients.push(client);
    }
    drop(clients);
    for pump in pumps {
        within(pump).await.unwrap();
    }
    stayed.say_hello().await;
    let body = staying.rest().await;
    assert!(
        !body.contains("error") && body.ends_with("data: [DONE]\n\n"),
        "{body}"
    );
    nothing_is_left(&router).await;
    router.end().await;
}

#[tokio::test]
async fn clients_that_stop_reading_slow_down_nobody_else() {
    const STALLED: usize = 100;
    let mut worker = ScriptedWorker::start().await;
    let router = TestRouter::start(&[&worker]).await;
    let mut clients: Vec<Connection> = Vec::new();
    let mut pumps = Vec::new();
    for _ in 0..STALLED {
        clients.push(router.chat(STREAMED).await);
        // Far more than all buffers between worker and client can hold.
        pumps.push(tokio::spawn(worker.call().await.pump(20_000_000)));
    }
    // The stalled streams share one HTTP/2 connection with these requests, which complete.
    for _ in 0..50 {
        let mut client = router.chat(STREAMED).await;
        worker.call().await.say_hello().await;
        assert_eq!(client.head().await.status, 200);
        assert!(client.rest().await.ends_with("data: [DONE]\n\n"));
    }
    assert!(pumps.iter().all(|pump| !pump.is_finished()));
    drop(clients);
    for pump in pumps {
        assert!(within(pump).await.unwrap() < 20_000_000);
    }
    nothing_is_left(&router).await;
    router.end().await;
}
