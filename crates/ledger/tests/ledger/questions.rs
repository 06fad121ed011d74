//! The usage API, asked over TCP and over a Unix socket, on both stores.

use inferyard_keys::KeyHash;
use inferyard_ledger::{Address, Config, Ledger, Listen, Source};
use inferyard_proto::outbox::Entry;
use inferyard_proto::usage::v1::UsageEvent;
use inferyard_test_servers::{Postgres, needs};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::connections::eventually;
use crate::events::{TEN, entry, event, sum};
use crate::http;

const KEY: &str = "admin-key";

/// Questions, the parameter that is wrong, and what is said about it.
const BAD: [(&str, &str, &str); 13] = [
    (
        "usage/completions?limit=1",
        "start_time",
        "Missing required",
    ),
    ("usage/completions?start_time=now", "start_time", "seconds"),
    ("usage/completions?start_time=-1", "start_time", "seconds"),
    (
        "usage/completions?start_time=9&end_time=9",
        "end_time",
        "after",
    ),
    (
        "usage/completions?start_time=0&bucket_width=1w",
        "bucket_width",
        "1m, 1h, 1d",
    ),
    (
        "costs?start_time=0&bucket_width=1h",
        "bucket_width",
        "expected 1d",
    ),
    (
        "usage/completions?start_time=0&limit=32",
        "limit",
        "1 to 31",
    ),
    ("usage/completions?start_time=0&limit=0", "limit", "1 to 31"),
    (
        "usage/completions?start_time=0&group_by=user_id",
        "group_by",
        "project_id, api_key_id, model",
    ),
    (
        "usage/completions?start_time=0&models={MANY}",
        "models",
        "at most 100",
    ),
    ("usage/completions?start_time=0&page=2", "page", "next_page"),
    (
        "usage/completions?start_time=0&batch=true",
        "batch",
        "false",
    ),
    (
        "usage/completions?start_time=0&colour=red",
        "colour",
        "Unknown",
    ),
];

/// A ledger that listens.
struct Served {
    address: Address,
    entries: Option<mpsc::Sender<Entry>>,
    done: JoinHandle<()>,
}

// === impl Served ===

impl Served {
    async fn start(store: &str, listen: &str) -> Self {
        let (entries, receiver) = mpsc::channel(16);
        let config = Config {
            store: store.to_owned(),
            source: Source::Channel {
                entries: receiver,
                leftover: None,
            },
            listen: Some(listen.parse::<Listen>().unwrap()),
            admin_keys: vec![KeyHash::of(b"another"), KeyHash::of(KEY.as_bytes())],
            key_store: None,
            drain_timeout: inferyard_ledger::DRAIN_TIMEOUT,
        };
        let ledger = Ledger::open(config).await.unwrap();
        let address = ledger.address().unwrap().clone();
        let done = tokio::spawn(async move {
            ledger.run(CancellationToken::new()).await.unwrap();
        });
        Self {
            address,
            entries: Some(entries),
            done,
        }
    }

    /// Two accounts, two models, 10:00 to 11:00 and a day later.
    async fn with_events(&self) -> Vec<UsageEvent> {
        let mut events: Vec<_> = (0..40)
            .map(|number| event(number * 100, ["acme", "zoo"][usize::from(number % 2 == 1)]))
            .collect();
        for event in &mut events[30..] {
            event.ended_us += 86_400_000_000;
        }
        for event in &events {
            let entries = self.entries.as_ref().unwrap();
            entries.send(entry(event)).await.unwrap();
        }
        let all = format!(
            "/v1/organization/usage/completions?start_time={}&end_time={}",
            TEN - 86_400,
            TEN + 200_000
        );
        eventually("all events", async || {
            let (_, page) = self.ask(&all).await;
            let buckets = page["data"].as_array()?;
            let count: i64 = buckets
                .iter()
                .filter_map(|bucket| bucket["results"][0]["num_model_requests"].as_i64())
                .sum();
            (count == 40).then_some(())
        })
        .await;
        events
    }

    async fn ask(&self, target: &str) -> (u16, Value) {
        let (status, body) = http::get(&self.address, "GET", target, Some(KEY)).await;
        (status, serde_json::from_str(&body).unwrap())
    }

    async fn end(mut self) {
        self.entries = None;
        self.done.await.unwrap();
    }
}

async fn the_shape_is_openais(store: &str, listen: &str) {
    let served = Served::start(store, listen).await;
    let events = served.with_events().await;
    let (first, second) = events.split_at(30);
    pages_of_days(&served, first).await;
    groups_of_an_hour(&served, first).await;
    // A minute is answered from the events themselves.
    let target =
        format!("/v1/organization/usage/completions?start_time={TEN}&bucket_width=1m&limit=2");
    let (_, page) = served.ask(&target).await;
    let minute = |bucket: usize| page["data"][bucket]["results"][0]["num_model_requests"].as_i64();
    assert_eq!((minute(0), minute(1)), (Some(1), Some(1)));

    costs_of_models(&served, second).await;
    let (status, ready) = http::get(&served.address, "GET", "/readyz", None).await;
    assert_eq!((status, &*ready), (200, "ok\n"));
    served.end().await;
}

async fn pages_of_days(served: &Served, first: &[UsageEvent]) {
    let day = TEN / 86_400 * 86_400;
    // Three days, a page of two, then the last.
    let target = format!(
        "/v1/organization/usage/completions?start_time={TEN}&end_time={}&limit=2",
        day + 3 * 86_400
    );
    let (status, page) = served.ask(&target).await;
    assert_eq!(status, 200, "{page}");
    let totals = sum(first);
    let expected = json!({
        "object": "organization.usage.completions.result",
        "input_tokens": totals.prompt_tokens,
        "output_tokens": totals.completion_tokens,
        "input_cached_tokens": totals.cached_tokens,
        "input_uncached_tokens": totals.prompt_tokens - totals.cached_tokens,
        "input_audio_tokens": 0,
        "output_audio_tokens": 0,
        "num_model_requests": 30,
        "project_id": null, "user_id": null, "api_key_id": null,
        "model": null, "batch": null, "service_tier": null,
    });
    assert_eq!(page["object"], "page");
    let bucket = &page["data"][0];
    assert_eq!(bucket["object"], "bucket");
    assert_eq!(
        (&bucket["start_time"], &bucket["end_time"]),
        (&json!(day), &json!(day + 86_400))
    );
    assert_eq!(bucket["results"], json!([expected]));
    assert_eq!(page["data"][1]["results"][0]["num_model_requests"], 10);
    assert_eq!(page["has_more"], true);
    let next = page["next_page"].as_str().unwrap();
    let (_, page) = served.ask(&format!("{target}&page={next}")).await;
    let expected = json!({
        "object": "page",
        "data": [{
            "object": "bucket",
            "start_time": day + 2 * 86_400,
            "end_time": day + 3 * 86_400,
            "results": [],
        }],
        "has_more": false,
        "next_page": null,
    });
    assert_eq!(page, expected);
}

async fn groups_of_an_hour(served: &Served, first: &[UsageEvent]) {
    // Hours, told apart by account, key and model, of one account and some models.
    let target = format!(
        "/v1/organization/usage/completions?start_time={TEN}&bucket_width=1h&limit=1\
         &group_by%5B%5D=project_id&group_by[]=api_key_id&group_by=model\
         &project_ids[]=acme&models=demo,large"
    );
    let (status, page) = served.ask(&target).await;
    assert_eq!(status, 200, "{page}");
    let results = page["data"][0]["results"].as_array().unwrap();
    for result in results {
        assert_eq!(result["project_id"], "acme");
        let same = first.iter().filter(|event| {
            event.account == "acme"
                && event.ended_us < (u64::try_from(TEN).unwrap() + 3_600) * 1_000_000
                && result["api_key_id"] == *event.key
                && result["model"] == *event.model
        });
        let expected = sum(same);
        assert_eq!(result["num_model_requests"], expected.requests);
        assert_eq!(result["output_tokens"], expected.completion_tokens);
    }
    assert!(results.len() > 2, "{results:?}");
}

async fn costs_of_models(served: &Served, second: &[UsageEvent]) {
    let day = TEN / 86_400 * 86_400;
    // Money, by model.
    let target = format!(
        "/v1/organization/costs?start_time={day}&end_time={}&group_by[]=line_item",
        day + 2 * 86_400
    );
    let (status, body) = http::get(&served.address, "GET", &target, Some(KEY)).await;
    assert_eq!(status, 200, "{body}");
    let page: Value = serde_json::from_str(&body).unwrap();
    let large: Vec<_> = second
        .iter()
        .filter(|event| event.model == "large")
        .collect();
    let nano = sum(large.iter().copied()).cost_nanodollars;
    let found = page["data"][1]["results"]
        .as_array()
        .unwrap()
        .iter()
        .find(|result| result["line_item"] == "large")
        .unwrap();
    assert_eq!(found["object"], "organization.costs.result");
    assert_eq!(found["amount"]["currency"], "usd");
    assert_eq!(
        found["amount"]["value"].to_string(),
        inferyard_ledger::dollars(nano)
    );
    assert_eq!(found["quantity_unit"], "tokens");
}

#[tokio::test]
async fn the_shape_is_openais_from_sqlite_over_tcp() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/ledger.sqlite", folder.path().display());
    the_shape_is_openais(&url, "127.0.0.1:0").await;
}

#[tokio::test]
async fn the_shape_is_openais_from_postgresql_over_a_socket() {
    needs!(Postgres);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("ledger.sock");
    let postgres = Postgres::start();
    the_shape_is_openais(&postgres.url(), &format!("unix:{}", socket.display())).await;
    assert!(!socket.exists(), "the socket's file should be gone");
}

#[tokio::test]
async fn bad_questions_are_told_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/ledger.sqlite", folder.path().display());
    let served = Served::start(&url, "127.0.0.1:0").await;
    let costs = "/v1/organization/costs";
    let many = "m,".repeat(200);
    for (target, param, text) in BAD {
        let target = format!("/v1/organization/{}", target.replace("{MANY}", &many));
        let (status, body) = served.ask(&target).await;
        let error = &body["error"];
        assert_eq!(status, 400, "{target}: {body}");
        assert_eq!(error["type"], "invalid_request_error");
        assert_eq!(error["param"], param, "{target}: {body}");
        assert!(error["message"].as_str().unwrap().contains(text), "{body}");
        let keys: Vec<_> = error.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["message", "type", "param", "code"]);
    }
    let (status, body) = served.ask("/v1/organization/users").await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (404, &json!("unknown_url"))
    );
    let (status, body) = http::get(&served.address, "POST", costs, Some(KEY)).await;
    assert_eq!(status, 405, "{body}");
    served.end().await;
}

#[tokio::test]
async fn only_admin_keys_may_ask() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/ledger.sqlite", folder.path().display());
    let served = Served::start(&url, "127.0.0.1:0").await;
    for target in [
        "/v1/organization/costs?start_time=0",
        "/v1/organization/nowhere",
    ] {
        for key in [None, Some(""), Some("wrong"), Some("admin-key2")] {
            let (status, body) = http::get(&served.address, "GET", target, key).await;
            assert_eq!(status, 401, "{key:?}: {body}");
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["error"]["type"], "invalid_request_error");
        }
        let (status, _) = http::get(&served.address, "GET", target, Some(KEY)).await;
        assert_ne!(status, 401);
    }
    let (status, _) = http::get(&served.address, "GET", "/healthz", None).await;
    assert_eq!(status, 200);
    served.end().await;
}
