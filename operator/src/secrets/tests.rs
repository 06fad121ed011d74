//! What a Secret holds, and when it is read.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use http::{Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

fn key(name: &str, generation: i64, secret: &str) -> ApiKey {
    let key = json!({
        "apiVersion": inferyard_crds::API_VERSION, "kind": "ApiKey",
        "metadata": { "namespace": "n", "name": name, "uid": name, "generation": generation },
        "spec": { "plan": "p", "secret": { "name": secret, "key": "token" } },
    });
    serde_json::from_value(key).unwrap()
}

/// An API server with nothing but Secrets.
#[derive(Clone, Default)]
struct Server {
    answer: Arc<Mutex<Answer>>,
    reads: Arc<AtomicUsize>,
    at_once: Arc<AtomicUsize>,
    most_at_once: Arc<AtomicUsize>,
}

#[derive(Clone, Default)]
enum Answer {
    #[default]
    Missing,
    Holds(Value),
    Fails(StatusCode),
    Hangs,
}

impl Server {
    fn says(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn reads(&self) -> usize {
        self.reads.swap(0, Relaxed)
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            let path = request.uri().path().to_owned();
            async move { server.answer(&path).await }
        });
        Client::new(service, "n")
    }

    async fn answer(&self, path: &str) -> Result<Response<Body>, Infallible> {
        assert!(path.starts_with("/api/v1/namespaces/n/secrets/"));
        self.reads.fetch_add(1, Relaxed);
        let now = self.at_once.fetch_add(1, Relaxed) + 1;
        self.most_at_once.fetch_max(now, Relaxed);
        // Others come meanwhile, as many as may.
        tokio::task::yield_now().await;
        self.at_once.fetch_sub(1, Relaxed);
        let answer = self.answer.lock().unwrap().clone();
        let failed = |code: StatusCode| {
            let reason = code.canonical_reason().unwrap_or_default().replace(' ', "");
            json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "no", "reason": reason, "code": code.as_u16() })
        };
        let (code, body) = match answer {
            Answer::Hangs => std::future::pending().await,
            Answer::Missing => (StatusCode::NOT_FOUND, failed(StatusCode::NOT_FOUND)),
            Answer::Fails(code) => (code, failed(code)),
            Answer::Holds(data) => {
                let metadata = json!({ "namespace": "n", "name": "s" });
                let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data });
                (StatusCode::OK, secret)
            }
        };
        let body = Body::from(serde_json::to_vec(&body).unwrap());
        Ok(Response::builder().status(code).body(body).unwrap())
    }
}

/// `sk-a` in base64.
const TEXT: &str = "c2stYQo=";

#[tokio::test(start_paused = true)]
async fn a_secret_without_a_key_differs_from_an_unreadable_one() {
    let long = "A".repeat(4 * 171 + 4);
    let hash = Found::Key(KeyHash::of(b"sk-a").to_string());
    let none = |reason, words: &'static str| (Some(reason), words);
    let table = [
        (Answer::Holds(json!({ "token": TEXT })), (None, "")),
        (
            Answer::Missing,
            none(Reason::NotFound, "there is no Secret s"),
        ),
        (
            Answer::Holds(json!({ "other": TEXT })),
            none(Reason::NotFound, "has no entry token"),
        ),
        (
            Answer::Holds(json!({ "token": "" })),
            none(Reason::Invalid, "found 0"),
        ),
        (
            Answer::Holds(json!({ "token": long })),
            none(Reason::Invalid, "expected a key of 1 to 512 bytes"),
        ),
    ];
    let server = Server::default();
    let key = key("k", 1, "s");
    let mut secrets = Secrets::default();
    for (answer, (reason, words)) in table {
        server.says(answer);
        secrets.read(&server.client(), &[&key], true).await;
        match (secrets.of(&key), reason) {
            (found, None) => assert_eq!(found.as_ref(), Some(&hash)),
            (Some(Found::NoKey(found, message)), Some(reason)) => {
                assert_eq!(found, reason, "{message}");
                assert!(message.contains(words), "{message}");
            }
            (found, _) => unreachable!("{words}: {found:?}"),
        }
    }
    for (answer, words) in [
        (
            Answer::Fails(StatusCode::FORBIDDEN),
            "may not read the Secret s",
        ),
        (
            Answer::Fails(StatusCode::INTERNAL_SERVER_ERROR),
            "cannot be read now",
        ),
        (
            Answer::Fails(StatusCode::UNAUTHORIZED),
            "cannot be read now",
        ),
        (Answer::Hangs, "in time"),
    ] {
        server.says(answer);
        secrets.read(&server.client(), &[&key], true).await;
        let found = secrets.of(&key);
        assert!(
            matches!(&found, Some(Found::Unread(message)) if message.contains(words)),
            "{found:?}"
        );
    }
}

#[tokio::test]
async fn only_new_and_changed_keys_are_read_until_all_are_due() {
    let server = Server::default();
    let client = server.client();
    let mut keys: Vec<_> = (0..20).map(|n| key(&format!("k{n}"), 1, "s")).collect();
    let mut secrets = Secrets::default();
    let all = |keys: &[ApiKey]| keys.to_vec();
    for (change, due, reads) in [
        (None, true, 20),
        // Whatever else has changed.
        (None, false, 0),
        (Some(key("k3", 2, "other")), false, 1),
        (Some(key("k3", 2, "other")), false, 0),
        (None, true, 20),
    ] {
        if let Some(changed) = change {
            keys[3] = changed;
        }
        let now = all(&keys);
        secrets
            .read(&client, &now.iter().collect::<Vec<_>>(), due)
            .await;
        assert_eq!(server.reads(), reads);
    }
    // A key that goes and comes back is a new one.
    let last = keys.pop().unwrap();
    secrets
        .read(&client, &keys.iter().collect::<Vec<_>>(), false)
        .await;
    assert_eq!(secrets.0.len(), 19);
    keys.push(last);
    secrets
        .read(&client, &keys.iter().collect::<Vec<_>>(), false)
        .await;
    assert_eq!(server.reads(), 1);
}

#[tokio::test]
async fn what_a_changed_key_named_before_does_not_count() {
    let server = Server::default();
    server.says(Answer::Holds(json!({ "token": TEXT })));
    let (before, after) = (key("k", 1, "s"), key("k", 2, "renamed"));
    let mut secrets = Secrets::default();
    secrets.read(&server.client(), &[&before], false).await;
    assert!(matches!(secrets.of(&after), Some(Found::Unread(_))));
    server.says(Answer::Missing);
    secrets.read(&server.client(), &[&after], false).await;
    assert!(matches!(secrets.of(&after), Some(Found::NoKey(..))));
}

#[tokio::test(start_paused = true)]
async fn reading_is_bounded_in_number_and_time() {
    let server = Server::default();
    let keys: Vec<_> = (0..1_000).map(|n| key(&format!("k{n}"), 1, "s")).collect();
    let keys: Vec<_> = keys.iter().collect();
    let mut secrets = Secrets::default();
    secrets.read(&server.client(), &keys, true).await;
    assert_eq!(server.reads(), 1_000);
    let most = server.most_at_once.load(Relaxed);
    assert!((2..=CONCURRENCY).contains(&most), "{most}");

    server.says(Answer::Hangs);
    let began = Instant::now();
    secrets.read(&server.client(), &keys, true).await;
    assert_eq!(began.elapsed().as_secs(), ALL_TIMEOUT.as_secs());
    assert!(
        keys.iter()
            .all(|key| matches!(secrets.of(key), Some(Found::Unread(_))))
    );
}
