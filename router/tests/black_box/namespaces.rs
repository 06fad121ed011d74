//! Models with the same name in several scopes, and which callers reach which model.

use std::sync::Arc;

use inferyard_admission::LimitStore;
use inferyard_catalog::{Catalog, Model, Plan, Preview};
use serde_json::Value;

use crate::support::{
    Answer, Bills, ScriptedWorker, TestRouter, WHOLE, add_key, eventually, request_with,
};

const CHAT: &str = "/v1/chat/completions";
/// A caller without a key.
const NOBODY: &str = "";

fn scopes(scopes: &[&str]) -> Vec<Arc<str>> {
    scopes.iter().map(|&scope| scope.into()).collect()
}

/// The model `m` in two scopes with a worker each. `squat` in `b` is also an older alias of a model of `a`. The
/// key `all` reaches both scopes, `b` first; the preview reaches `a`.
fn catalog(of_a: &ScriptedWorker, of_b: &ScriptedWorker) -> Catalog {
    let mut catalog = Catalog::default();
    let mut add = |scope: &str, name: &str, id: &str, worker: &ScriptedWorker, names: &[&str]| {
        let model = Model {
            id: id.into(),
            workers: vec![worker.endpoint.clone()],
            ..Model::new(name, 1_700_000_000)
        };
        let names = names.iter().map(|&name| name.into());
        catalog.add(&scope.into(), model, names);
    };
    add("a", "m", "m", of_a, &["m"]);
    add("b", "m", "m@b", of_b, &["m", "only-b", "gpt"]);
    add("a", "gpt", "gpt", of_a, &["gpt"]);
    for (key, reached) in [("a", &["a"][..]), ("b", &["b"]), ("all", &["b", "a"])] {
        add_key(&mut catalog, key, |plan| plan.scopes = scopes(reached));
    }
    let preview = Plan {
        scopes: scopes(&["a"]),
        preview: Some(Preview {
            sign_up: None,
            tokens_per_day: None,
        }),
        ..Plan::unrestricted("free")
    };
    catalog.plans.insert("free".into(), preview.into());
    catalog
}

/// Both workers, a router whose workers are both ready, and its bills.
async fn router() -> (ScriptedWorker, ScriptedWorker, TestRouter, Bills) {
    let (of_a, of_b) = (ScriptedWorker::start().await, ScriptedWorker::start().await);
    let (outbox, bills) = Bills::channel();
    let router = TestRouter::unready(catalog(&of_a, &of_b), |config| {
        config.limits.store = LimitStore::Memory {
            outbox: Some(outbox),
        };
    })
    .await;
    for id in ["m", "m@b"] {
        let ready = format!("inferyard_router_workers{{model=\"{id}\",state=\"ready\"}} 1\n");
        eventually(async || router.scrape().await.contains(&ready)).await;
    }
    (of_a, of_b, router, bills)
}

fn asking(key: &str, method: &str, path: &str, body: &str) -> Vec<u8> {
    let bytes = request_with(key, method, path, body);
    match key {
        NOBODY => {
            let text = String::from_utf8(bytes).unwrap();
            text.replace("authorization: Bearer \r\n", "").into()
        }
        _ => bytes,
    }
}

async fn ask(router: &TestRouter, key: &str, method: &str, path: &str, body: &str) -> Answer {
    let mut client = router.connect().await;
    client.send(&asking(key, method, path, body)).await;
    client.answer().await
}

/// Sends a request for this model, which this worker must get.
async fn served(router: &TestRouter, key: &str, model: &str, worker: &mut ScriptedWorker) {
    let body = WHOLE.replace("\"m\"", &format!("{model:?}"));
    let mut client = router.connect().await;
    client.send(&asking(key, "POST", CHAT, &body)).await;
    let call = worker.call().await;
    assert_eq!(call.request.model, "m", "workers know their own name only");
    call.say_hello().await;
    let answer = client.answer().await;
    assert_eq!(answer.head.status, 200, "{key} {model}");
    assert_eq!(answer.json()["model"], model);
}

#[tokio::test]
async fn a_name_leads_to_the_model_of_ones_own_scope() {
    let (mut of_a, mut of_b, router, mut bills) = router().await;
    for (key, model, id) in [
        ("a", "m", "m"),
        ("b", "m", "m@b"),
        ("all", "m", "m@b"),
        ("b", "gpt", "m@b"),
        (NOBODY, "m", "m"),
    ] {
        let worker = if id == "m" { &mut of_a } else { &mut of_b };
        served(&router, key, model, worker).await;
        assert_eq!(bills.next().await.model, id, "{key} {model}");
    }
    assert!(!of_a.was_called() && !of_b.was_called());
    router.end().await;
}

#[tokio::test]
async fn what_another_scope_has_is_as_unknown_as_what_does_not_exist() {
    let (of_a, of_b, router, _bills) = router().await;
    for key in ["a", NOBODY] {
        let body = WHOLE.replace("\"m\"", "\"only-b\"");
        let (status, code, _) = ask(&router, key, "POST", CHAT, &body).await.error();
        assert_eq!((status, code.as_deref()), (400, Some("model_not_found")));
        let one = ask(&router, key, "GET", "/v1/models/only-b", "").await;
        assert_eq!(one.error().0, 404);
    }
    // Internal ids cannot be used as names either.
    let one = ask(&router, "b", "GET", "/v1/models/m@b", "").await;
    assert_eq!(one.error().0, 404);
    for (key, expected) in [
        ("a", &["gpt", "m"][..]),
        ("b", &["gpt", "m", "only-b"]),
        ("all", &["gpt", "m", "only-b"]),
        (NOBODY, &["gpt", "m"]),
    ] {
        let list = ask(&router, key, "GET", "/v1/models", "").await.json();
        let ids = list["data"].as_array().unwrap().iter();
        let ids: Vec<_> = ids.filter_map(|entry| entry["id"].as_str()).collect();
        assert_eq!(ids, expected, "{key}");
    }
    drop((of_a, of_b));
    router.end().await;
}

#[tokio::test]
async fn a_worker_is_found_again_when_its_model_moves_to_another_id() {
    let (mut of_a, mut of_b, router, _bills) = router().await;
    let mut next = Catalog::clone(&router.catalog.borrow());
    next.models.clear();
    next.names.clear();
    let model = Model {
        id: "m@a".into(),
        workers: vec![of_b.endpoint.clone()],
        ..Model::new("m", 1)
    };
    next.add(&"a".into(), model, ["m".into()]);
    router.catalog.send_replace(next.into());
    let ready = "inferyard_router_workers{model=\"m@a\",state=\"ready\"} 1\n";
    eventually(async || router.scrape().await.contains(ready)).await;
    served(&router, "a", "m", &mut of_b).await;
    assert!(!of_a.was_called());
    router.end().await;
}

#[tokio::test]
async fn a_worker_that_serves_another_name_is_not_asked() {
    let (of_a, of_b, router, _bills) = router().await;
    of_b.becomes(|state| state.model = "another".to_owned());
    let other = "inferyard_router_workers{model=\"m@b\",state=\"other_model\"} 1\n";
    eventually(async || router.scrape().await.contains(other)).await;
    let answer: Value = ask(&router, "b", "POST", CHAT, WHOLE).await.json();
    assert_eq!(answer["error"]["code"], "no_worker");
    drop((of_a, of_b));
    router.end().await;
}
