//! Over OpenAI's HTTP API, as other routers ask.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use inferyard_engine_simulated::Config;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::harness::{start_as, within};

/// One connection, kept for all requests of a test.
struct Client(SendRequest<Full<Bytes>>);

impl Client {
    async fn connect(address: std::net::SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn send(&mut self, method: Method, path: &str, body: String) -> (StatusCode, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "worker")
            .body(Full::from(body))
            .unwrap();
        let response = within(self.0.send_request(request)).await.unwrap();
        let status = response.status();
        let body = within(response.into_body().collect()).await.unwrap();
        (status, String::from_utf8(body.to_bytes().to_vec()).unwrap())
    }

    async fn get(&mut self, path: &str) -> (StatusCode, String) {
        self.send(Method::GET, path, String::new()).await
    }

    async fn post(&mut self, path: &str, body: &Value) -> (StatusCode, Value) {
        let (status, body) = self.send(Method::POST, path, body.to_string()).await;
        (status, serde_json::from_str(&body).unwrap())
    }
}

fn chat(bytes: usize) -> Value {
    let content = "x".repeat(bytes);
    json!({"model": "m", "max_tokens": 3, "messages": [{"role": "user", "content": content}]})
}

#[tokio::test]
async fn a_chat_and_what_of_its_prompt_was_cached() {
    let worker = start_as(Config::instant(), |_| ()).await;
    let mut client = Client::connect(worker.http).await;
    for cached in [0, 2 * 256] {
        let (status, answer) = client.post("/v1/chat/completions", &chat(2_100)).await;
        assert_eq!(
            (status, &answer["object"]),
            (StatusCode::OK, &json!("chat.completion"))
        );
        let choice = &answer["choices"][0];
        assert_eq!(choice["message"]["content"], "simulated tokens in");
        assert_eq!(choice["finish_reason"], "length");
        let usage = &answer["usage"];
        // 2,100 bytes and the 31 around them.
        assert_eq!(usage["prompt_tokens"], 532);
        assert_eq!(usage["completion_tokens"], 3);
        assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], cached);
    }
    worker.wait_idle().await;
    let (_, stats) = client.get("/simulated/stats").await;
    let expect = json!({
        "requests": 2, "running": 0, "queued": 0, "prompt_tokens": 1_064, "cached_tokens": 512,
        "computed_tokens": 552, "completion_tokens": 6,
    });
    assert_eq!(serde_json::from_str::<Value>(&stats).unwrap(), expect);
}

#[tokio::test]
async fn a_stream_ends_with_its_usage() {
    let worker = start_as(Config::instant(), |_| ()).await;
    let mut client = Client::connect(worker.http).await;
    let mut request = chat(10);
    request["stream"] = json!(true);
    request["n"] = json!(2);
    request["stream_options"] = json!({"include_usage": true});
    let sent = client.send(Method::POST, "/v1/chat/completions", request.to_string());
    let (status, body) = sent.await;
    assert_eq!(status, StatusCode::OK);
    let mut lines = body.lines().filter(|line| !line.is_empty());
    assert_eq!(lines.next_back(), Some("data: [DONE]"));
    let chunk = |line: &str| serde_json::from_str(line.strip_prefix("data: ").unwrap()).unwrap();
    let chunks: Vec<Value> = lines.map(chunk).collect();
    let usage = &chunks.last().unwrap()["usage"];
    assert_eq!(
        (&usage["prompt_tokens"], &usage["completion_tokens"]),
        (&json!(10), &json!(6))
    );
    for index in 0..2 {
        let choices = chunks
            .iter()
            .flat_map(|chunk| chunk["choices"].as_array().unwrap());
        let own: Vec<&Value> = choices.filter(|choice| choice["index"] == index).collect();
        assert_eq!(own[0]["delta"]["role"], "assistant");
        let text = own
            .iter()
            .filter_map(|choice| choice["delta"]["content"].as_str());
        assert_eq!(text.collect::<String>(), "simulated tokens in");
        assert_eq!(own.last().unwrap()["finish_reason"], "length");
    }
}

#[tokio::test]
async fn the_legacy_endpoint() {
    let worker = start_as(Config::instant(), |_| ()).await;
    let mut client = Client::connect(worker.http).await;
    let request = json!({"model": "m", "prompt": [1, 2, 3], "max_tokens": 2});
    let (status, answer) = client.post("/v1/completions", &request).await;
    assert_eq!(
        (status, &answer["object"]),
        (StatusCode::OK, &json!("text_completion"))
    );
    assert_eq!(answer["choices"][0]["text"], "simulated tokens");
    assert_eq!(answer["usage"]["total_tokens"], 5);
}

#[tokio::test]
async fn what_is_wrong_has_a_status() {
    let worker = start_as(Config::instant(), |setup| {
        setup.engine.limits.context_length = Some(100);
    })
    .await;
    let mut client = Client::connect(worker.http).await;
    let path = "/v1/chat/completions";
    let (status, error) = client.post(path, &chat(1_000)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(error["error"]["code"], "context_length_exceeded");
    let mut other = chat(1);
    other["model"] = json!("other");
    assert_eq!(client.post(path, &other).await.0, StatusCode::NOT_FOUND);
    let mut tools = chat(1);
    tools["tool_choice"] = json!("required");
    let (status, error) = client.post(path, &tools).await;
    assert_eq!(
        (status, &error["error"]["param"]),
        (StatusCode::BAD_REQUEST, &json!("tool_choice"))
    );
    assert_eq!(client.get(path).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn routers_learn_what_it_is() {
    let worker = start_as(Config::instant(), |_| ()).await;
    let mut client = Client::connect(worker.http).await;
    for path in [
        "/health",
        "/health_generate",
        "/get_server_info",
        "/get_model_info",
        "/version",
    ] {
        assert_eq!(client.get(path).await.0, StatusCode::OK, "{path}");
    }
    let (_, models) = client.get("/v1/models").await;
    let models: Value = serde_json::from_str(&models).unwrap();
    assert_eq!(models["data"][0]["id"], "m");
    let (_, loads) = client.get("/v1/loads").await;
    let loads: Value = serde_json::from_str(&loads).unwrap();
    assert_eq!(loads["loads"][0]["num_running_reqs"], 0);
    let (_, metrics) = client.get("/metrics").await;
    let line = "vllm:num_requests_running{model_name=\"m\"} 0";
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place() {
    let simulated = Config {
        step: std::time::Duration::from_millis(1),
        ..Config::instant()
    };
    let worker = start_as(simulated, |setup| setup.engine.limits.max_running = 1).await;
    let mut request = chat(10);
    request["stream"] = json!(true);
    request["max_tokens"] = json!(100_000);
    let mut leaving = Client::connect(worker.http).await;
    let body = Full::from(request.to_string());
    let sent = Request::post("/v1/chat/completions").body(body).unwrap();
    let response = within(leaving.0.send_request(sent)).await.unwrap();
    worker.wait_for(|state| state.running == 1).await;
    drop((response, leaving));
    let mut client = Client::connect(worker.http).await;
    let (status, _) = client.post("/v1/chat/completions", &chat(10)).await;
    assert_eq!(status, StatusCode::OK);
}
