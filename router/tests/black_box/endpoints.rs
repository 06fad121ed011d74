//! Everything except generation: models, probes, CORS, common headers.

use crate::support::{NARROW_KEY, ScriptedWorker, TestRouter, eventually, request, two_models};

async fn router() -> (ScriptedWorker, TestRouter) {
    let worker = ScriptedWorker::start().await;
    let catalog = two_models(vec![worker.endpoint.clone()]);
    (worker, TestRouter::unready(catalog, |_| ()).await)
}

#[tokio::test]
async fn models_are_those_of_the_plan_with_their_aliases() {
    let (_worker, router) = router().await;
    let answer = router.ask("GET", "/v1/models", "").await;
    assert_eq!(
        answer.text(),
        concat!(
            r#"{"object":"list","data":["#,
            r#"{"id":"alias","object":"model","created":1700000000,"owned_by":"inferyard"},"#,
            r#"{"id":"m","object":"model","created":1700000000,"owned_by":"inferyard"},"#,
            r#"{"id":"org/other","object":"model","created":1700000001,"owned_by":"inferyard"}]}"#
        )
    );
    let mut client = router.connect().await;
    let narrow = String::from_utf8(request("GET", "/v1/models", "")).unwrap();
    let narrow = narrow.replace("My API Key", NARROW_KEY);
    client.send(narrow.as_bytes()).await;
    let data = client.answer().await.json()["data"].clone();
    assert_eq!(data.as_array().unwrap().len(), 1);
    assert_eq!(data[0]["id"], "org/other");
    router.end().await;
}

#[tokio::test]
async fn one_model_is_found_by_name_alias_and_with_a_slash() {
    let (_worker, router) = router().await;
    for id in ["m", "alias", "org/other", "org%2Fother"] {
        let answer = router.ask("GET", &format!("/v1/models/{id}"), "").await;
        assert_eq!(answer.head.status, 200, "{id}");
        assert_eq!(answer.json()["id"], id.replace("%2F", "/"));
    }
    let answer = router.ask("GET", "/v1/models/none", "").await;
    let (status, code, _) = answer.error();
    assert_eq!((status, code.as_deref()), (404, Some("model_not_found")));
    router.end().await;
}

#[tokio::test]
async fn models_need_a_key_and_probes_do_not() {
    let (_worker, router) = router().await;
    for (path, status) in [
        ("/v1/models", 401),
        ("/v1/models/m", 401),
        ("/healthz", 200),
    ] {
        let mut client = router.connect().await;
        let bytes = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        client.send(bytes.as_bytes()).await;
        assert_eq!(client.answer().await.head.status, status, "{path}");
    }
    router.end().await;
}

#[tokio::test]
async fn strangers_learn_no_names_from_probes() {
    let (worker, router) = router().await;
    let strangers = [
        "org/other",
        "alias",
        "\"m\"",
        "127.0.0.1",
        "worker",
        "model",
    ];
    for path in ["/readyz", "/readyz?any", "/readyz?router"] {
        for method in ["GET", "OPTIONS"] {
            let mut client = router.connect().await;
            let bytes = format!("{method} {path} HTTP/1.1\r\nhost: x\r\norigin: https://x\r\n\r\n");
            client.send(bytes.as_bytes()).await;
            let text = client.answer().await.text();
            assert!(!strangers.iter().any(|name| text.contains(name)), "{text}");
        }
    }
    // The metrics port reports the details.
    let details = router.probe("/readyz").await.text();
    assert!(details.contains("\"org/other\""), "{details}");
    drop(worker);
    router.end().await;
}

#[tokio::test]
async fn the_public_probe_and_the_detailed_one_say_the_same() {
    let (worker, router) = router().await;
    let mut second = router.catalog.borrow().as_ref().clone();
    second.models.remove("org/other");
    for (catalog, statuses) in [(None, [503, 200, 200]), (Some(second), [200, 200, 200])] {
        if let Some(catalog) = catalog {
            router.catalog.send_replace(catalog.into());
        }
        for (path, status) in ["/readyz", "/readyz?any", "/readyz?router"]
            .into_iter()
            .zip(statuses)
        {
            eventually(async || router.ask("GET", path, "").await.head.status == status).await;
            eventually(async || router.probe(path).await.head.status == status).await;
        }
    }
    drop(worker);
    router.end().await;
}

#[tokio::test]
async fn head_is_get_without_its_body() {
    let (_worker, router) = router().await;
    let mut client = router.connect().await;
    for path in ["/healthz", "/v1/models"] {
        client.send(&request("HEAD", path, "")).await;
        let head = client.head().await;
        assert_eq!(head.status, 200);
        assert_ne!(head.header("content-length"), Some("0"));
    }
    // A body before this head would make it unparsable.
    client.send(&request("GET", "/healthz", "")).await;
    assert_eq!(client.answer().await.text(), r#"{"status":"ok"}"#);
    router.end().await;
}

#[tokio::test]
async fn every_answer_has_openais_headers() {
    let (_worker, router) = router().await;
    for path in ["/v1/models", "/healthz", "/nowhere"] {
        let head = router.ask("GET", path, "").await.head;
        let id = head.header("x-request-id").unwrap();
        assert_eq!(id.len(), 36, "{id}");
        assert!(
            head.header("openai-processing-ms")
                .unwrap()
                .parse::<u64>()
                .is_ok()
        );
        assert_eq!(head.header("openai-version"), Some("2020-10-01"));
        assert_eq!(head.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(head.header("access-control-allow-origin"), Some("*"));
        let exposed = head.header("access-control-expose-headers").unwrap();
        assert!(exposed.contains("x-request-id"), "{exposed}");
    }
    router.end().await;
}

#[tokio::test]
async fn a_browser_is_told_what_it_may_send() {
    let (_worker, router) = router().await;
    let mut client = router.connect().await;
    client
        .send(
            b"OPTIONS /v1/chat/completions HTTP/1.1\r\nhost: x\r\norigin: https://page\r\n\
              access-control-request-method: POST\r\n\
              access-control-request-headers: authorization,x-stainless-os\r\n\r\n",
        )
        .await;
    let head = client.head().await;
    assert_eq!(head.status, 204);
    assert_eq!(head.header("access-control-allow-origin"), Some("*"));
    assert_eq!(
        head.header("access-control-allow-headers"),
        Some("authorization,x-stainless-os")
    );
    assert!(
        head.header("access-control-allow-methods")
            .unwrap()
            .contains("POST")
    );
    router.end().await;
}

#[tokio::test]
async fn only_listed_origins_may_read_where_there_is_a_list() {
    let worker = ScriptedWorker::start().await;
    let catalog = two_models(vec![worker.endpoint.clone()]);
    let router = TestRouter::unready(catalog, |config| {
        let listed = vec!["https://page".parse().unwrap()];
        config.cors = inferyard_router::CorsOrigins::Listed(listed);
    })
    .await;
    for (origin, allowed) in [
        ("https://page", Some("https://page")),
        ("https://other", None),
    ] {
        let mut client = router.connect().await;
        let bytes = format!("GET /healthz HTTP/1.1\r\nhost: x\r\norigin: {origin}\r\n\r\n");
        client.send(bytes.as_bytes()).await;
        let head = client.answer().await.head;
        assert_eq!(head.header("access-control-allow-origin"), allowed);
        assert_eq!(head.header("vary"), Some("origin"));
    }
    router.end().await;
}
