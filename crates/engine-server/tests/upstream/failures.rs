//! What an engine refuses or breaks is told in our own words, and of the right kind.

use inferyard_engine_server::ServerKind;
use inferyard_proto::worker::v1 as wire;
use wire::failed::Kind;

use crate::harness::{Fixture, Setup, VLLM, about, chat, vllm};
use crate::server::{Play, Server, Then};

const BEGUN: &[u8] = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"SECRET\"}}],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":1}}\n\n";

async fn failed(play: Play) -> wire::Failed {
    let (server, fixture) = vllm().await;
    server.play(play);
    let failed = fixture.ask(chat("hi")).await.failed;
    let failed = failed.expect("the request should fail");
    assert!(!failed.message.contains("SECRET"), "{}", failed.message);
    failed
}

#[tokio::test]
async fn refusals() {
    let error = |status: u16, message: &str| {
        let body =
            format!(r#"{{"error":{{"message":"{message} SECRET","type":"x","code":{status}}}}}"#);
        Play::json(status, &body)
    };
    for (play, kind, param) in [
        (
            error(400, "This model's maximum context length is 4096 tokens."),
            Kind::ContextLengthExceeded,
            "messages",
        ),
        (
            error(400, "top_p must be in (0, 1]"),
            Kind::InvalidRequest,
            "top_p",
        ),
        (error(422, "?"), Kind::InvalidRequest, ""),
        (error(429, "?"), Kind::Overloaded, ""),
        (error(503, "queue is full"), Kind::Overloaded, ""),
        (error(503, "Loading model"), Kind::Loading, ""),
        (error(404, "The model does not exist"), Kind::Internal, ""),
        (error(500, "?"), Kind::Internal, ""),
        (Play::json(401, "SECRET"), Kind::Internal, ""),
    ] {
        let what = String::from_utf8_lossy(&play.body).into_owned();
        let failed = failed(play).await;
        assert_eq!(
            (failed.kind(), failed.param.as_str()),
            (kind, param),
            "{what}"
        );
        assert_eq!(failed.usage, Some(wire::Usage::default()));
    }
    let told = failed(error(400, "maximum context length")).await.message;
    assert!(told.contains("4096 tokens"), "{told}");
}

/// An answer that is none, or that was cut while the engine had no other request.
fn broke(then: Then) -> Kind {
    if then == Then::Break {
        Kind::EngineCrashed
    } else {
        Kind::Internal
    }
}

#[tokio::test]
async fn what_breaks_after_the_first_token_is_billed_up_to_there() {
    let aborted = b"data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"abort\"}]}\n\n";
    for (more, then) in [
        (b"".as_slice(), Then::Break),
        (b"", Then::KeepAlive),
        (
            b"data: {\"choices\":[{\"delta\":{\"content\":",
            Then::KeepAlive,
        ),
        (b"data: SECRET\n\n", Then::KeepAlive),
        (
            b"data: {\"error\":{\"message\":\"SECRET\",\"code\":500}}\n\n",
            Then::KeepAlive,
        ),
        (
            b"error: {\"message\":\"SECRET\",\"code\":500}\n\n",
            Then::KeepAlive,
        ),
        (aborted, Then::KeepAlive),
    ] {
        let failed = failed(Play::stream(&[BEGUN, more].concat()).then(then)).await;
        assert_eq!(failed.kind(), broke(then));
        let usage = failed.usage.unwrap();
        assert_eq!((usage.prompt_tokens, usage.completion_tokens), (7, 1));
    }
}

#[tokio::test]
async fn what_breaks_before_is_not() {
    for then in [Then::Break, Then::KeepAlive] {
        let failed = failed(Play::stream(b": keep-alive\n\n").then(then)).await;
        assert_eq!(failed.kind(), broke(then));
        assert_eq!(failed.usage, Some(wire::Usage::default()));
    }
}

#[tokio::test]
async fn an_engine_that_is_gone_is_another_workers_matter() {
    let (server, fixture) = vllm().await;
    server.kill().await;
    let failed = fixture.ask(chat("hi")).await.failed.unwrap();
    assert_eq!(failed.kind(), Kind::Loading);
}

#[tokio::test]
async fn a_prompt_above_its_limit_is_refused_at_the_engine_s_first_usage() {
    let (server, fixture) = vllm().await;
    let limited = |most| wire::GenerateRequest {
        max_prompt_tokens: Some(most),
        ..chat("hi")
    };
    for _ in 0..2 {
        server.play(Play::stream(include_bytes!(
            "../recordings/upstream/vllm-content.sse"
        )));
    }
    let answer = fixture.ask(limited(30)).await;
    assert!(answer.admitted.is_none());
    let failed = answer.failed.unwrap();
    assert_eq!(
        (failed.kind(), failed.prompt_tokens, failed.usage),
        (Kind::PromptTooExpensive, 31, Some(wire::Usage::default()))
    );
    fixture.ask(limited(31)).await.only();
}

#[tokio::test]
async fn a_prompt_of_tokens_above_its_limit_never_reaches_the_engine() {
    let (mut server, fixture) = vllm().await;
    let ids = wire::TokenIds { ids: vec![1, 2, 3] };
    let prompt = wire::TextPrompt {
        content: Some(wire::text_prompt::Content::Tokens(ids)),
        echo: false,
    };
    let request = wire::GenerateRequest {
        prompt: Some(wire::generate_request::Prompt::Text(prompt)),
        max_prompt_tokens: Some(2),
        ..chat("")
    };
    let failed = fixture.ask(request).await.failed.unwrap();
    assert_eq!(
        (failed.kind(), failed.prompt_tokens),
        (Kind::PromptTooExpensive, 3)
    );
    assert!(server.asked.try_recv().is_err());
}

#[tokio::test]
async fn a_priority_that_the_engine_does_not_know_is_left_out() {
    let (mut server, fixture) = vllm().await;
    let whole = include_bytes!("../recordings/upstream/vllm-content.sse");
    server.play(Play::json(
        400,
        r#"{"error":{"message":"Got priority -5 but Priority scheduling is not enabled.","code":400}}"#,
    ));
    server.play(Play::stream(whole));
    server.play(Play::stream(whole));
    for _ in 0..2 {
        let request = wire::GenerateRequest {
            priority: 5,
            ..chat("hi")
        };
        fixture.ask(request).await.only();
    }
    let mut priorities = Vec::new();
    for _ in 0..3 {
        let asked = server.asked.recv().await.unwrap();
        priorities.push(asked.body["priority"].as_i64());
    }
    assert_eq!(priorities, [Some(-5), None, None]);
}

#[tokio::test]
async fn more_choices_than_places_are_refused() {
    let server = Server::start(about(VLLM)).await;
    let configure = |setup: &mut Setup| setup.engine.limits.max_running = 2;
    let fixture = Fixture::start(server.address, ServerKind::Vllm, configure).await;
    fixture.ready().await;
    let request = wire::GenerateRequest {
        choices: 3,
        ..chat("hi")
    };
    let failed = fixture.ask(request).await.failed.unwrap();
    assert_eq!(
        (failed.kind(), failed.param.as_str()),
        (Kind::InvalidRequest, "n")
    );
}

#[tokio::test]
async fn an_engine_that_knows_one_choice_is_asked_for_no_more() {
    let (mut server, fixture) = vllm().await;
    let two = wire::GenerateRequest {
        choices: 2,
        ..chat("hi")
    };
    server.play(Play::stream(include_bytes!(
        "../recordings/upstream/mlx-content.sse"
    )));
    for _ in 0..2 {
        let failed = fixture.ask(two.clone()).await.failed.unwrap();
        assert_eq!(
            (failed.kind(), failed.param.as_str()),
            (Kind::InvalidRequest, "n")
        );
    }
    server.asked.recv().await.unwrap();
    assert!(server.asked.try_recv().is_err());
}
