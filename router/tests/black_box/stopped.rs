//! Models that get no workers until their manifest changes.

use inferyard_catalog::{Catalog, Model, ONE_SCOPE, Stopped};

use crate::support::{ScriptedWorker, TestRouter, WHOLE, catalog, eventually, within};

const CHAT: &str = "/v1/chat/completions";

/// The model `m` on this worker, and the stopped model `s`, which may still have earlier workers.
fn with_stopped(worker: &ScriptedWorker, why: Stopped, left: &[&ScriptedWorker]) -> Catalog {
    let mut catalog = catalog(vec![worker.endpoint.clone()]);
    let model = Model {
        stopped: Some(why),
        workers: left.iter().map(|left| left.endpoint.clone()).collect(),
        ..Model::new("s", 1)
    };
    catalog.add(&ONE_SCOPE.into(), model, ["s".into(), "s-alias".into()]);
    catalog
}

fn refused() -> Stopped {
    Stopped::Refused {
        reason: "NameTaken".into(),
    }
}

#[tokio::test]
async fn a_stopped_model_says_so_and_is_not_asked_again() {
    let worker = ScriptedWorker::start().await;
    for (why, code, said) in [
        (Stopped::ScaledToZero, "model_stopped", "is scaled to 0"),
        (refused(), "model_refused", "is refused (NameTaken)"),
    ] {
        let router = TestRouter::unready(with_stopped(&worker, why, &[]), |_| ()).await;
        router.found(1).await;
        let chat = WHOLE.replace("\"m\"", "\"s-alias\"");
        for (method, path, body) in [
            ("POST", CHAT, &*chat),
            ("GET", "/v1/models/s", ""),
            ("GET", "/v1/models/s-alias", ""),
        ] {
            let answer = router.ask(method, path, body).await;
            let (status, found, _) = answer.error();
            assert_eq!((status, found.as_deref()), (503, Some(code)), "{path}");
            assert_eq!(answer.head.header("x-should-retry"), Some("false"));
            assert_eq!(answer.head.header("retry-after"), None);
            assert!(answer.message().contains(said), "{}", answer.message());
        }
        let list = router.ask("GET", "/v1/models", "").await.text();
        assert!(list.contains("\"m\"") && !list.contains("\"s"), "{list}");
        router.end().await;
    }
}

#[tokio::test]
async fn a_request_for_a_stopped_model_uses_nothing() {
    let worker = ScriptedWorker::start().await;
    let (router, bills) = TestRouter::planned(&[&worker], |_| ()).await;
    let mut next = Catalog::clone(&router.catalog.borrow());
    let model = Model {
        stopped: Some(Stopped::ScaledToZero),
        ..Model::new("s", 1)
    };
    next.add(&ONE_SCOPE.into(), model, ["s".into()]);
    router.catalog.send_replace(next.into());
    let chat = WHOLE.replace("\"m\"", "\"s\"");
    let stopped = Some("model_stopped".to_owned());
    eventually(async || router.ask("POST", CHAT, &chat).await.error().1 == stopped).await;
    router.end().await;
    assert!(bills.rest().await.is_empty());
}

#[tokio::test]
async fn workers_of_before_serve_on() {
    let (worker, mut left) = (ScriptedWorker::start().await, ScriptedWorker::start().await);
    left.becomes(|state| state.model = "s".to_owned());
    let catalog = with_stopped(&worker, refused(), &[&left]);
    let router = TestRouter::unready(catalog, |_| ()).await;
    let ready = "inferyard_router_workers{model=\"s\",state=\"ready\"} 1\n";
    eventually(async || router.scrape().await.contains(ready)).await;
    let mut client = router.chat(&WHOLE.replace("\"m\"", "\"s\"")).await;
    left.call().await.say_hello().await;
    assert_eq!(within(client.answer()).await.head.status, 200);
    let list = router.ask("GET", "/v1/models", "").await.text();
    assert!(list.contains("\"s\""), "{list}");
    router.end().await;
}

#[tokio::test]
async fn a_model_scaled_to_zero_keeps_no_router_from_being_ready() {
    let worker = ScriptedWorker::start().await;
    for (why, status) in [(Stopped::ScaledToZero, 200), (refused(), 503)] {
        let router = TestRouter::unready(with_stopped(&worker, why, &[]), |_| ()).await;
        router.found(1).await;
        eventually(async || router.ask("GET", "/readyz", "").await.head.status == status).await;
        let details = router.probe("/readyz").await;
        assert_eq!(details.head.status, status);
        let details = details.text();
        assert_eq!(
            details.contains("its declaration is refused: NameTaken"),
            status == 503,
            "{details}"
        );
        router.end().await;
    }
}
