//! Answers as vLLM, SGLang, llama.cpp and mlx_lm write them, cut anywhere.

use inferyard_engine_server::ServerKind;
use inferyard_proto::worker::v1 as wire;
use wire::FinishReason;

use crate::harness::{Answer, Fixture, VLLM, about, chat, chat_with_tool, text, vllm};
use crate::server::{Cut, Play, Server};

macro_rules! recording {
    ($name:literal) => {
        include_bytes!(concat!("../recordings/upstream/", $name, ".sse"))
    };
}

const LLAMACPP: &str = r#"{"object":"list","data":[{"id":"tiny.gguf","object":"model","created":1790000000,"owned_by":"llamacpp","meta":{"n_vocab":272,"n_ctx":6144,"n_ctx_train":32768}}]}"#;
const SGLANG: &str = r#"{"object":"list","data":[{"id":"tiny","object":"model","created":1790000000,"owned_by":"sglang","root":"tiny","max_model_len":8192}]}"#;
const UNKNOWN: &str =
    r#"{"object":"list","data":[{"id":"default_model","object":"model","created":1790000000}]}"#;

/// The answers to the same request, each to the recording cut in another way: they must say the same.
async fn every_cut(models: &str, recording: &[u8], request: wire::GenerateRequest) -> Answer {
    let kind = match models {
        VLLM => ServerKind::Vllm,
        SGLANG => ServerKind::SgLang,
        _ => ServerKind::OpenAi,
    };
    let server = Server::start(about(models)).await;
    let fixture = Fixture::start(server.address, kind, |_| ()).await;
    fixture.ready().await;
    let mut first = None;
    let cuts = [Cut::Whole, Cut::Bytes]
        .into_iter()
        .chain((1..9).map(Cut::Anywhere));
    for cut in cuts {
        server.play(Play::stream(recording).cut(cut));
        let answer = fixture.ask(request.clone()).await;
        let first = first.get_or_insert_with(|| plain(&answer));
        assert_eq!(*first, plain(&answer), "{cut:?}");
    }
    server.play(Play::stream(recording));
    fixture.ask(request).await
}

/// Without the ids of calls, which are random where the engine gave none.
fn plain(answer: &Answer) -> String {
    let choices: Vec<_> = answer
        .choices
        .values()
        .map(|choice| {
            let calls: Vec<_> = choice
                .calls
                .iter()
                .map(|(_, name, json)| (name, json))
                .collect();
            (
                &choice.content,
                &choice.reasoning,
                calls,
                &choice.logprobs,
                choice.tokens,
                choice.reason,
            )
        })
        .collect();
    format!("{choices:?} {:?} {:?}", answer.usage, answer.failed)
}

fn usage(answer: &Answer) -> (u32, u32, u32, u32) {
    let usage = answer.usage.unwrap();
    (
        usage.prompt_tokens,
        usage.cached_tokens,
        usage.completion_tokens,
        usage.reasoning_tokens,
    )
}

#[tokio::test]
async fn vllm_content() {
    let answer = every_cut(VLLM, recording!("vllm-content"), chat("hi")).await;
    assert_eq!(usage(&answer), (31, 16, 5, 0));
    assert_eq!(answer.admitted.unwrap().prompt_tokens, 31);
    let choice = answer.only();
    assert_eq!(choice.content, "payload verified.");
    assert_eq!(choice.reason, Some(FinishReason::Stop));
}

#[tokio::test]
async fn vllm_reasoning() {
    let answer = every_cut(VLLM, recording!("vllm-reasoning"), chat("hi")).await;
    assert_eq!(usage(&answer), (31, 0, 8, 5));
    let choice = answer.only();
    assert_eq!(
        (choice.reasoning.as_str(), choice.content.as_str()),
        ("The user says hi.", "Hi!")
    );
}

#[tokio::test]
async fn vllm_tools() {
    let answer = every_cut(VLLM, recording!("vllm-tools"), chat_with_tool("17")).await;
    assert_eq!(usage(&answer), (60, 0, 14, 0));
    let choice = answer.only();
    let id = "chatcmpl-tool-0d3b7f9e5c1a4e7d8b6a2f4c9e1d3b5a";
    let call = (
        id.to_owned(),
        "get_order_status".to_owned(),
        r#"{"order_id": "A-17"}"#.to_owned(),
    );
    assert_eq!(choice.calls, [call]);
    assert_eq!(
        (choice.reason, choice.content.as_str()),
        (Some(FinishReason::ToolCalls), "")
    );
}

#[tokio::test]
async fn vllm_two_choices_with_log_probabilities() {
    let request = wire::GenerateRequest {
        choices: 2,
        top_logprobs: Some(2),
        ..chat("hi")
    };
    let answer = every_cut(VLLM, recording!("vllm-two-choices-logprobs"), request).await;
    assert_eq!(usage(&answer), (31, 0, 4, 0));
    let [one, two] = [&answer.choices[&0], &answer.choices[&1]];
    assert_eq!(
        (one.content.as_str(), one.reason),
        ("one", Some(FinishReason::Length))
    );
    assert_eq!(
        (two.content.as_str(), two.reason),
        ("uno é", Some(FinishReason::Stop))
    );
    let tokens: Vec<_> = two
        .logprobs
        .iter()
        .map(|token| token.token.clone().unwrap())
        .collect();
    assert_eq!(tokens[1].bytes.as_ref(), " é".as_bytes());
    assert!((tokens[0].logprob + 1.5).abs() < f32::EPSILON);
    assert_eq!(two.logprobs[0].top[1].text, "no");
}

#[tokio::test]
async fn vllm_legacy_completions() {
    let request = wire::GenerateRequest {
        top_logprobs: Some(1),
        ..text("a", true)
    };
    let answer = every_cut(VLLM, recording!("vllm-legacy"), request).await;
    assert_eq!(usage(&answer), (4, 0, 2, 0));
    let choice = answer.only();
    assert_eq!(choice.content, "aOnce upon");
    assert_eq!(choice.reason, Some(FinishReason::Length));
    assert_eq!(choice.logprobs.len(), 2);
    assert_eq!(choice.logprobs[1].top[0].text, " upon");
}

#[tokio::test]
async fn sglang_reasoning_and_two_calls() {
    let recording = recording!("sglang-reasoning-and-two-calls");
    let answer = every_cut(SGLANG, recording, chat_with_tool("A-17 and B-4")).await;
    assert_eq!(usage(&answer), (72, 64, 40, 6));
    let choice = answer.only();
    assert_eq!(choice.reasoning, "Both orders.");
    assert_eq!(choice.content, "Looking them up.");
    assert_eq!(choice.reason, Some(FinishReason::ToolCalls));
    assert_eq!(choice.calls[0].0, "call_2f6b8d0a4c1e4f7b9d3a5c7e");
    let arguments: Vec<_> = choice.calls.iter().map(|call| call.2.as_str()).collect();
    assert_eq!(
        arguments,
        [r#"{"order_id": "A-17"}"#, r#"{"order_id": "B-4"}"#]
    );
}

#[tokio::test]
async fn llamacpp_content() {
    let answer = every_cut(LLAMACPP, recording!("llamacpp-content"), chat("hi")).await;
    assert_eq!(usage(&answer), (28, 20, 5, 0));
    // Its timings say it with the first chunk.
    let admitted = answer.admitted.unwrap();
    assert_eq!((admitted.prompt_tokens, admitted.cached_tokens), (28, 20));
    assert_eq!(answer.only().content, "payload verified.");
}

#[tokio::test]
async fn llamacpp_tools() {
    let answer = every_cut(
        LLAMACPP,
        recording!("llamacpp-tools"),
        chat_with_tool("A-17"),
    )
    .await;
    assert_eq!(usage(&answer), (28, 20, 13, 0));
    let choice = answer.only();
    assert_eq!(choice.calls[0].2, r#"{"order_id":"A-17"}"#);
    assert_eq!(choice.reason, Some(FinishReason::ToolCalls));
}

#[tokio::test]
async fn mlx_content() {
    let answer = every_cut(UNKNOWN, recording!("mlx-content"), chat("hi")).await;
    assert_eq!(usage(&answer), (33, 14, 18, 0));
    let choice = answer.only();
    assert_eq!(choice.content, "payload verified.");
    assert_eq!(choice.reason, Some(FinishReason::Stop));
}

#[tokio::test]
async fn mlx_leaves_tool_calls_in_the_text() {
    let recording = recording!("mlx-tools-in-text");
    let answer = every_cut(UNKNOWN, recording, chat_with_tool("17")).await;
    assert_eq!(usage(&answer), (63, 59, 64, 0));
    let choice = answer.only();
    assert_eq!(choice.content, "");
    assert_eq!(choice.calls[0].1, "get_order_status");
    assert_eq!(choice.calls[0].2.replace(' ', ""), r#"{"order_id":"17"}"#);
    assert_eq!(choice.reason, Some(FinishReason::ToolCalls));
    // Who gave no tools meant the text.
    let answer = every_cut(UNKNOWN, recording, chat("17")).await;
    let choice = answer.only();
    assert!(choice.content.starts_with("<tool_call>") && choice.calls.is_empty());
    assert_eq!(choice.reason, Some(FinishReason::Stop));
}

#[tokio::test]
async fn mlx_legacy_completions() {
    let answer = every_cut(UNKNOWN, recording!("mlx-legacy"), text("hi", false)).await;
    assert_eq!(usage(&answer), (14, 13, 3, 0));
    assert_eq!(answer.only().reason, Some(FinishReason::Length));
}

#[tokio::test]
async fn a_whole_answer_instead_of_a_stream() {
    let (server, fixture) = vllm().await;
    server.play(Play::json(
        200,
        r#"{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hi","tool_calls":[{"id":"","type":"function","function":{"name":"f","arguments":{"a":1}}}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":9,"total_tokens":12}}"#,
    ));
    let answer = fixture.ask(chat("hi")).await;
    assert_eq!(usage(&answer), (3, 0, 9, 0));
    let choice = answer.only();
    assert_eq!(choice.content, "hi");
    assert_eq!(choice.calls[0].2, r#"{"a":1}"#);
    assert!(choice.calls[0].0.starts_with("call_"));
    assert_eq!(choice.reason, Some(FinishReason::ToolCalls));
}

#[tokio::test]
async fn without_usage_the_chunks_are_counted() {
    let (server, fixture) = vllm().await;
    server.play(Play::stream(
        b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n\
          data: {\"choices\":[{\"delta\":{\"reasoning\":\"b\"}}]}\n\n\
          data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"eos\"}]}\n\n",
    ));
    let answer = fixture.ask(chat("four bytes are one token")).await;
    let estimated = answer.admitted.unwrap().prompt_tokens;
    assert!(estimated > 1);
    assert_eq!(usage(&answer), (estimated, 0, 2, 1));
    assert_eq!(answer.only().reason, Some(FinishReason::Stop));
}

#[tokio::test]
async fn the_request_is_the_clients_own_and_connections_are_kept() {
    let (mut server, fixture) = vllm().await;
    for _ in 0..2 {
        server.play(Play::stream(recording!("vllm-content")));
        let request = wire::GenerateRequest {
            cache_salt: "account".to_owned(),
            extra_json: br#"{"min_tokens":2,"cache_salt":"theirs"}"#.to_vec().into(),
            ..chat("hi")
        };
        fixture.ask(request).await.only();
    }
    let (first, second) = (
        server.asked.recv().await.unwrap(),
        server.asked.recv().await.unwrap(),
    );
    assert_eq!(first.path, "/v1/chat/completions");
    assert_eq!(first.body["model"], "tiny");
    assert_eq!(first.body["messages"][0]["content"], "hi");
    assert_eq!(first.body["cache_salt"], "account");
    assert_eq!(first.body["min_tokens"], 2);
    assert_eq!(first.connection, second.connection);
}

#[tokio::test]
async fn a_callers_template_never_reaches_the_engine() {
    let (mut server, fixture) = vllm().await;
    for (kwargs, param) in [
        (r#"{"chat_template":"{{ 7*7 }}"}"#, "chat_template"),
        (r#"{"enable_thinking":false,"messages":[]}"#, "messages"),
        (r#"{"tokenize":false}"#, "tokenize"),
        (
            r#"{"add_generation_prompt":false}"#,
            "add_generation_prompt",
        ),
    ] {
        let mut request = chat("hi");
        if let Some(wire::generate_request::Prompt::Chat(chat)) = &mut request.prompt {
            chat.template_kwargs_json = kwargs.as_bytes().into();
        }
        let failed = fixture.ask(request).await.failed.unwrap();
        assert_eq!(failed.kind(), wire::failed::Kind::InvalidRequest);
        assert_eq!(failed.param, format!("chat_template_kwargs.{param}"));
    }
    assert!(server.asked.try_recv().is_err());
}
