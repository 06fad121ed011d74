//! The admin API of keys, on a real Redis server.

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use inferyard_keys::{KeyHash, KeyStore};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::routes;
use inferyard_test_servers::{Redis, needs};

/// The key store in this Redis.
fn key_store(redis: &Redis) -> KeyStore {
    KeyStore::new(redis.url().parse().unwrap())
}

/// The status and the body of an answer.
async fn ask(store: &KeyStore, method: &str, path: &str, body: &str) -> (u16, Value) {
    let request = Request::builder().method(method).uri(path);
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let response = routes(store.clone()).oneshot(request).await;
    let response = response.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn a_key_from_its_making_to_its_end() {
    needs!(Redis);
    let redis = Redis::start();
    let store = key_store(&redis);
    let wanted = json!({
        "name": "Production", "account": "acme", "plan": "team", "expires_at": 4_000_000_000_u64,
        "limits": {"requests_per_minute": 60, "budget_per_month": "25.50"},
    });
    let (status, made) = ask(&store, "POST", "/api_keys", &wanted.to_string()).await;
    assert_eq!(status, 200, "{made}");
    let text = made["value"].as_str().unwrap();
    let id = made["id"].as_str().unwrap();
    let mut expected = wanted.clone();
    expected["object"] = "organization.api_key".into();
    for key in ["id", "redacted_value", "created_at", "value"] {
        expected[key] = made[key].clone();
    }
    expected["disabled"] = false.into();
    assert_eq!(made, expected);

    expected.as_object_mut().unwrap().remove("value");
    let path = format!("/api_keys/{id}");
    assert_eq!(ask(&store, "GET", &path, "").await, (200, expected.clone()));
    let list = json!({
        "object": "list", "data": [expected], "first_id": id, "last_id": id, "has_more": false,
    });
    for query in ["", "?limit=1", "?account=acme", "?limit=100&after=key_0"] {
        let path = format!("/api_keys{query}");
        assert_eq!(ask(&store, "GET", &path, "").await, (200, list.clone()));
    }
    let (_, others) = ask(&store, "GET", "/api_keys?account=other", "").await;
    assert_eq!(
        (&others["data"], &others["last_id"]),
        (&json!([]), &Value::Null)
    );

    let rotate = format!("{path}/rotate");
    let (status, rotated) = ask(&store, "POST", &rotate, r#"{"overlap_seconds":0}"#).await;
    assert_eq!((status, &rotated["id"]), (200, &made["id"]));
    let next = rotated["value"].as_str().unwrap();
    assert_eq!(
        ask(&store, "POST", &rotate, "").await.0,
        200,
        "an empty body will do"
    );

    let deleted = json!({"object": "organization.api_key.deleted", "id": id, "deleted": true});
    assert_eq!(ask(&store, "DELETE", &path, "").await, (200, deleted));
    // The first one had ended with its rotation.
    let find = async |text: &str| {
        store
            .find(&KeyHash::of(text.as_bytes()))
            .await
            .unwrap()
            .unwrap()
    };
    assert!(find(text).await.expires.unwrap() < expected["expires_at"].as_u64().unwrap());
    assert!(find(next).await.disabled);
    let (status, again) = ask(&store, "POST", &rotate, "").await;
    assert_eq!(
        (status, &again["error"]["code"]),
        (409, &json!("not_rotated"))
    );
    assert_eq!(ask(&store, "GET", &path, "").await.1["disabled"], true);
}

#[tokio::test]
async fn a_key_is_found_by_what_it_is_called() {
    needs!(Redis);
    let redis = Redis::start();
    let store = key_store(&redis);
    let mut made = Vec::new();
    for name in ["alone", "twin", "twin"] {
        let body = json!({"name": name, "account": "acme", "plan": "team"}).to_string();
        made.push(ask(&store, "POST", "/api_keys", &body).await.1);
    }
    let ids = async |called: &str| {
        let path = format!("/api_keys?called={called}");
        let (status, list) = ask(&store, "GET", &path, "").await;
        assert_eq!((status, &list["has_more"]), (200, &json!(false)), "{list}");
        let keys = list["data"].as_array().unwrap().iter();
        keys.map(|key| key["id"].clone()).collect::<Vec<_>>()
    };
    let text = made[0]["value"].as_str().unwrap();
    let hash = KeyHash::of(text.as_bytes()).to_string();
    let redacted = made[0]["redacted_value"].as_str().unwrap();
    let redacted = redacted.replace('…', "...");
    let id = made[0]["id"].as_str().unwrap();
    for called in ["alone", &hash, &redacted, id] {
        assert_eq!(ids(called).await, [id], "{called}");
    }
    let mut twins = [made[1]["id"].clone(), made[2]["id"].clone()];
    twins.sort_by_key(Value::to_string);
    assert_eq!(ids("twin").await, twins);
    assert_eq!(ids("nobody").await, Vec::<Value>::new());

    for (query, expected) in [
        (format!("called={text}"), "send its SHA-256"),
        ("called=twin&limit=1".to_owned(), "no other parameter"),
    ] {
        let path = format!("/api_keys?{query}");
        let (status, answer) = ask(&store, "GET", &path, "").await;
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(
            status == 400 && message.contains(expected),
            "{status} {message}"
        );
        assert!(!message.contains(text));
    }
}

/// Method, path, body, and the status and a part of the message that they are answered with.
type Case = (&'static str, &'static str, String, u16, &'static str);

fn bad_keys() -> Vec<Case> {
    let good = r#"{"name":"n","account":"a","plan":"p"}"#;
    let nameless = good.replace("\"name\":\"n\",", "");
    let with = |more: &str| good.replace('}', &format!(",{more}}}"));
    let limited = |more: &str| with(&format!("\"limits\":{{{more}}}"));
    let bodies = [
        (String::new(), "The body: EOF"),
        ("[]".to_owned(), "The body: invalid"),
        (nameless, "missing field `name`"),
        (with("\"scope\":1"), "unknown field `scope`"),
        (limited("\"rpm\":1"), "unknown field `rpm`"),
        (limited("\"tokens_per_day\":0"), "tokens_per_day: expected"),
        (limited("\"tokens_per_day\":-1"), "expected u64"),
        (limited("\"budget_per_month\":\"$5\""), "such as \"25.00\""),
        (
            with("\"expires_at\":1"),
            "expires_at: expected a moment in the",
        ),
        (good.replace("\"p\"", "\"P!\""), "plan: expected the name"),
    ];
    let cases = bodies.into_iter();
    let cases = cases.map(|(body, expected)| ("POST", "", body, 400, expected));
    cases.collect()
}

fn bad_requests() -> Vec<Case> {
    let none = String::new;
    let unknown = "no API key 'key_none'";
    let limit = "limit: expected a number from 1 to 100";
    let field = "unknown field `overlap`";
    vec![
        ("POST", "", " ".repeat(20_000), 413, "larger than 16384"),
        ("GET", "?limit=101", none(), 400, limit),
        ("GET", "?limit=x", none(), 400, "limit"),
        ("GET", "?page=2", none(), 400, "unknown field `page`"),
        ("GET", "/key_none", none(), 404, unknown),
        ("DELETE", "/key_none", none(), 404, unknown),
        ("POST", "/key_none/rotate", none(), 404, unknown),
        ("POST", "/k/rotate", "{\"overlap\":1}".into(), 400, field),
        (
            "POST",
            "/k/rotate",
            "{\"overlap_seconds\":9e9}".into(),
            400,
            "expected u64",
        ),
        (
            "POST",
            "/k/rotate",
            "{\"overlap_seconds\":90000000}".into(),
            409,
            "90 days",
        ),
    ]
}

#[tokio::test]
async fn what_is_wrong_is_said_and_nothing_is_made() {
    needs!(Redis);
    let redis = Redis::start();
    let store = key_store(&redis);
    let cases = bad_keys().into_iter().chain(bad_requests());
    for (method, path, body, status, expected) in cases {
        let path = format!("/api_keys{path}");
        let (got, answer) = ask(&store, method, &path, &body).await;
        let error = answer["error"].as_object().expect("an error object");
        let keys: Vec<_> = error.keys().map(String::as_str).collect();
        assert_eq!(keys, ["message", "type", "param", "code"]);
        let message = error["message"].as_str().unwrap();
        assert_eq!(got, status, "{method} {path} {message}");
        assert!(message.contains(expected), "{method} {path}: {message}");
    }
    assert_eq!(redis.command(&["DBSIZE"]), "0");
}

#[tokio::test]
async fn a_store_that_is_away_is_nobodys_mistake() {
    needs!(Redis);
    let mut redis = Redis::start();
    redis.kill();
    let store = key_store(&redis);
    let (status, answer) = ask(&store, "GET", "/api_keys/key_1", "").await;
    assert_eq!(status, 503);
    assert_eq!(answer["error"]["code"], "key_store_unavailable");
}
