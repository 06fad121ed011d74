//! Candidates before an API server in memory, on paused time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time;

use super::*;

const NAME: &str = "inferyard-operator";

/// An API server that knows one Lease.
#[derive(Clone, Default)]
pub(crate) struct Server(Arc<Mutex<Stored>>);

#[derive(Default)]
struct Stored {
    lease: Option<Value>,
    version: u64,
    away: bool,
    /// It takes requests and never answers.
    hanging: bool,
    /// It refuses every request with this code.
    refusing: Option<u16>,
    writes: BTreeMap<String, u32>,
}

impl Server {
    pub(crate) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                if server.0.lock().unwrap().hanging {
                    std::future::pending::<()>().await;
                }
                if server.0.lock().unwrap().away {
                    return Err("connection refused".into());
                }
                let (status, answer) = server.answer(&head.method, &body);
                let answer = Body::from(serde_json::to_vec(&answer)?);
                let response = Response::builder().status(status).body(answer)?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(response)
            }
        });
        Client::new(service, "default")
    }

    fn answer(&self, method: &Method, body: &[u8]) -> (StatusCode, Value) {
        let mut stored = self.0.lock().unwrap();
        if let Some(code) = stored.refusing {
            return failure(StatusCode::from_u16(code).unwrap());
        }
        if method == Method::GET {
            return match &stored.lease {
                Some(lease) => (StatusCode::OK, lease.clone()),
                None => failure(StatusCode::NOT_FOUND),
            };
        }
        let mut lease: Value = serde_json::from_slice(body).unwrap();
        let known = stored
            .lease
            .as_ref()
            .map(|l| l["metadata"]["resourceVersion"].clone());
        match (method, known) {
            (&Method::POST, Some(_)) => return failure(StatusCode::CONFLICT),
            (&Method::PUT, known)
                if known.as_ref() != Some(&lease["metadata"]["resourceVersion"]) =>
            {
                return failure(StatusCode::CONFLICT);
            }
            _ => {}
        }
        stored.version += 1;
        lease["metadata"]["resourceVersion"] = json!(stored.version.to_string());
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        *stored.writes.entry(holder.to_owned()).or_default() += 1;
        stored.lease = Some(lease.clone());
        (StatusCode::OK, lease)
    }

    pub(crate) fn holder(&self) -> String {
        let stored = self.0.lock().unwrap();
        let lease = stored.lease.as_ref();
        let holder = lease.and_then(|lease| lease["spec"]["holderIdentity"].as_str());
        holder.unwrap_or_default().to_owned()
    }

    fn candidate(&self, name: &str) -> Candidate {
        let slot = LeaseConfig::of_operators("inferyard", NAME);
        Candidate::new(self.client(), slot, name.to_owned())
    }

    pub(crate) fn away(&self, away: bool) {
        self.0.lock().unwrap().away = away;
    }

    pub(crate) fn refusing(&self, code: Option<u16>) {
        self.0.lock().unwrap().refusing = code;
    }
}

fn failure(status: StatusCode) -> (StatusCode, Value) {
    let reason = match status {
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::FORBIDDEN => "Forbidden",
        _ => "Conflict",
    };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": reason, "message": reason, "code": status.as_u16(),
    });
    (status, body)
}

#[tokio::test(start_paused = true)]
async fn one_of_several_leads() {
    let server = Server::default();
    let stop = CancellationToken::new();
    let (mut first, mut second) = (server.candidate("a"), server.candidate("b"));
    assert!(first.acquire(&stop).await);
    let keeping = first.keep(&stop);
    let minute = time::timeout(Duration::from_mins(1), second.acquire(&stop));
    tokio::select! {
        () = keeping => panic!("a lost a lease that nobody took"),
        acquired = minute => assert!(acquired.is_err(), "b took a lease that was held"),
    }
    assert_eq!(server.holder(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_dead_holder_is_replaced_after_the_duration_of_the_lease() {
    let server = Server::default();
    let stop = CancellationToken::new();
    assert!(server.candidate("a").acquire(&stop).await);
    let began = Instant::now();
    assert!(server.candidate("b").acquire(&stop).await);
    let waited = began.elapsed();
    assert!(waited >= DURATION, "{waited:?}");
    assert!(waited <= DURATION + 2 * PERIOD, "{waited:?}");
    assert_eq!(server.holder(), "b");
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_stops_is_replaced_at_once() {
    let server = Server::default();
    let stop = CancellationToken::new();
    let mut first = server.candidate("a");
    assert!(first.acquire(&stop).await);
    first.release().await;
    let began = Instant::now();
    assert!(server.candidate("b").acquire(&stop).await);
    assert!(began.elapsed() < PERIOD);
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_cannot_renew_stops_before_another_takes_over() {
    let server = Server::default();
    let stop = CancellationToken::new();
    let mut first = server.candidate("a");
    assert!(first.acquire(&stop).await);
    server.away(true);
    let began = Instant::now();
    first.keep(&stop).await;
    let held = began.elapsed();
    assert!(held < DURATION, "{held:?}");
}

/// A connection of which the other end is gone without a word.
#[tokio::test(start_paused = true)]
async fn an_attempt_without_an_answer_is_repeated() {
    let server = Server::default();
    let stop = CancellationToken::new();
    server.0.lock().unwrap().hanging = true;
    let mut candidate = server.candidate("a");
    let acquired = async {
        let healed = async {
            time::sleep(TIMEOUT / 2).await;
            server.0.lock().unwrap().hanging = false;
        };
        tokio::join!(candidate.acquire(&stop), healed).0
    };
    let acquired = time::timeout(Duration::from_mins(1), acquired).await;
    assert!(acquired.expect("the request that hangs should be given up"));

    // A cancelled attempt does not wait for an answer.
    server.0.lock().unwrap().hanging = true;
    let mut candidate = server.candidate("b");
    let began = Instant::now();
    let stopping = async {
        time::sleep(TIMEOUT / 10).await;
        stop.cancel();
    };
    let (acquired, ()) = tokio::join!(candidate.acquire(&stop), stopping);
    assert!(!acquired);
    assert!(began.elapsed() < TIMEOUT, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_former_holder_does_not_take_the_lease_back() {
    let server = Server::default();
    let stop = CancellationToken::new();
    let mut first = server.candidate("a");
    assert!(first.acquire(&stop).await);
    // `a` sleeps for a minute: `b` sees a lease that does not change, and takes it.
    let mut second = server.candidate("b");
    assert!(second.acquire(&stop).await);
    first.keep(&stop).await;
    assert_eq!(server.holder(), "b");
    assert_eq!(server.0.lock().unwrap().writes["a"], 1);
}

/// Both have read a free lease; only one write can win.
#[tokio::test(start_paused = true)]
async fn two_writes_on_one_version_have_one_winner() {
    let server = Server::default();
    let stop = CancellationToken::new();
    let mut first = server.candidate("a");
    assert!(first.acquire(&stop).await);
    first.release().await;
    let free: Lease =
        serde_json::from_value(server.0.lock().unwrap().lease.clone().unwrap()).unwrap();
    let api = Api::<Lease>::namespaced(server.client(), "inferyard");
    let take = |name: &str| {
        let mut lease = free.clone();
        lease.spec.get_or_insert_default().holder_identity = Some(name.to_owned());
        lease
    };
    let (params, b, c) = (PostParams::default(), take("b"), take("c"));
    let both = tokio::join!(
        api.replace(NAME, &params, &b),
        api.replace(NAME, &params, &c)
    );
    let won = [both.0.is_ok(), both.1.is_ok()];
    assert_eq!(won.iter().filter(|won| **won).count(), 1);
}
