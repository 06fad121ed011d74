//! What is made of answers, good and bad, by a server that says what it is told to.

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

/// The head of a request and its body.
type Heard = (String, String);

fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// Gives each connection the next answer, and tells what it was asked.
async fn server(answers: Vec<String>) -> (Service, JoinHandle<Vec<Heard>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                stream.read_line(&mut head).await.unwrap();
            }
            let head = head.to_lowercase();
            let length = head.split_once("content-length: ");
            let length = length.map_or(0, |(_, rest)| {
                rest.split_once('\r').unwrap().0.parse().unwrap()
            });
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.unwrap();
            requests.push((head, String::from_utf8(body).unwrap()));
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        requests
    });
    let key = HeaderValue::from_static("Bearer iy-admin-x");
    let service = Service::new(url.parse().unwrap(), key, None).unwrap();
    (service, serving)
}

async fn asked(status: &str, body: &str) -> String {
    let (service, _) = server(vec![answer(status, body); 3]).await;
    let asked = service.get::<Value>(&["api_keys"], &[]).await;
    asked.unwrap_err().to_string()
}

#[tokio::test]
async fn a_request_carries_the_key_the_query_and_the_body() {
    let answers = vec![answer("200 OK", "{\"n\":1}"), answer("200 OK", "{}")];
    let (service, serving) = server(answers).await;
    let query = [("account", "a&b c")];
    let got: Value = service.get(&["api_keys"], &query).await.unwrap();
    assert_eq!(got, json!({"n": 1}));
    let body = json!({"overlap_seconds": 0});
    let path = ["api_keys", "k", "rotate"];
    let _: Value = service.post(&path, &body).await.unwrap();
    let requests = serving.await.unwrap();
    let first = "get /v1/organization/api_keys?account=a%26b+c http/1.1\r\n";
    assert!(requests[0].0.starts_with(first), "{}", requests[0].0);
    assert!(
        requests[0]
            .0
            .contains("authorization: bearer iy-admin-x\r\n")
    );
    let second = "post /v1/organization/api_keys/k/rotate http/1.1\r\n";
    assert!(requests[1].0.starts_with(second), "{}", requests[1].0);
    assert_eq!(requests[1].1, body.to_string());
}

#[tokio::test]
async fn every_refusal_says_what_to_do() {
    let refused = |code: &str| {
        json!({"error": {"message": "No.", "type": "t", "param": null, "code": code}}).to_string()
    };
    for (status, code, expected) in [
        ("401 Unauthorized", "invalid_api_key", "--admin-key-file"),
        ("404 Not Found", "not_found", "says 404: No."),
        ("503 Unavailable", "key_store_unavailable", "says 503: No."),
    ] {
        let said = asked(status, &refused(code)).await;
        assert!(said.contains(expected), "{said}");
    }
    for (status, body) in [
        ("200 OK", "<html>"),
        ("404 Not Found", "<html>"),
        ("404 Not Found", "{\"error\":\"x\"}"),
    ] {
        let said = asked(status, body).await;
        assert!(said.contains("not Inferyard's"), "{said}");
    }
    let moved = "301 Moved\r\nlocation: https://other.example/";
    let said = asked(moved, "").await;
    assert!(said.contains("points to https://other.example/"), "{said}");
}

#[tokio::test]
async fn what_passes_is_asked_again_and_what_makes_something_is_not() {
    let away = answer("503 Unavailable", "{\"error\":{\"message\":\"m\"}}");
    let good = answer("200 OK", "{}");
    // The first connection ends without an answer.
    let answers = vec![String::new(), away.clone(), good.clone()];
    let (service, serving) = server(answers).await;
    let _: Value = service.delete(&["api_keys", "k"]).await.unwrap();
    assert_eq!(serving.await.unwrap().len(), 3);

    let (service, serving) = server(vec![away, good]).await;
    let error = service.post::<Value>(&["api_keys"], &json!({})).await;
    assert!(error.unwrap_err().leaves_open());
    assert!(!serving.is_finished());
    serving.abort();
}

#[tokio::test]
async fn nobody_there_is_said_at_once() {
    let (service, serving) = server(vec![]).await;
    // The listener goes with its task.
    serving.await.unwrap();
    let error = service.get::<Value>(&[], &[]).await.unwrap_err();
    let (said, open) = (error.to_string(), error.leaves_open());
    assert!(said.contains("Connection refused"), "{said}");
    assert!(said.contains("is --url right?") && !open, "{said}");
}
