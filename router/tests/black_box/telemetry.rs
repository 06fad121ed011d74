//! What operators see: metrics and traces.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::support::{ScriptedWorker, TestRouter, WHOLE, eventually, request};

#[tokio::test]
async fn requests_and_tokens_are_counted() {
    let mut worker = ScriptedWorker::start().await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = router.chat(WHOLE).await;
    worker.call().await.say_hello().await;
    client.answer().await;
    router.ask("GET", "/nowhere/SECRET", "").await;
    let expected = [
        r#"inferyard_router_requests_total{route="/v1/chat/completions",status="200",code="ok"} 1"#,
        r#"inferyard_router_tokens_total{model="m",kind="prompt"} 10"#,
        r#"inferyard_router_tokens_total{model="m",kind="cached"} 4"#,
        r#"inferyard_router_tokens_total{model="m",kind="completion"} 2"#,
        r#"inferyard_router_time_to_first_token_seconds_count{model="m"} 1"#,
        r#"inferyard_router_placements_total{model="m",prefix="new"} 1"#,
        r#"inferyard_router_workers{model="m",state="ready"} 1"#,
        r#"inferyard_router_requests_total{route="unknown",status="404""#,
        "inferyard_router_requests_in_flight 0\n",
    ];
    eventually(async || {
        let metrics = router.scrape().await;
        assert!(!metrics.contains("SECRET"));
        expected.iter().all(|line| metrics.contains(line))
    })
    .await;
    router.end().await;
}

#[tokio::test]
async fn the_trace_of_a_client_goes_on_to_the_worker() {
    let provider = SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let subscriber = tracing_subscriber::registry().with(layer);
    // Global, for the whole process: with a thread-local subscriber, a callsite that another test reaches first
    // would be cached as disabled.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());

    let mut worker = ScriptedWorker::start().await;
    let router = TestRouter::start(&[&worker]).await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let text = String::from_utf8(request("POST", "/v1/chat/completions", WHOLE)).unwrap();
    let header = format!("host: x\r\ntraceparent: 00-{trace}-b7ad6b7169203331-01");
    let mut client = router.connect().await;
    client
        .send(text.replace("host: x", &header).as_bytes())
        .await;
    let call = worker.call().await;
    let parent = call.metadata.get("traceparent").unwrap().to_str().unwrap();
    assert!(parent.starts_with(&format!("00-{trace}-")), "{parent}");
    assert!(
        !parent.contains("b7ad6b7169203331"),
        "the router's own span is between"
    );
    call.say_hello().await;
    assert_eq!(client.answer().await.head.status, 200);
    router.end().await;
}
