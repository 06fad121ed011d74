//! A router that has no catalog yet.

use std::sync::Arc;

use inferyard_catalog::Catalog;

use crate::support::{TestRouter, catalog, eventually};

#[tokio::test]
async fn nobody_is_refused_before_keys_are_known() {
    let router = TestRouter::unready(Catalog::pending(), |_| ()).await;
    let answer = router.ask("GET", "/v1/models", "").await;
    let (status, code, _) = answer.error();
    assert_eq!((status, code.as_deref()), (503, Some("router_starting")));
    assert_eq!(answer.head.header("retry-after"), Some("1"));
    let ready = async |path| router.ask("GET", path, "").await.head.status;
    assert_eq!(ready("/readyz?router").await, 503);

    router.catalog.send_replace(Arc::new(catalog(vec![])));
    eventually(async || ready("/readyz?router").await == 200).await;
    // It still has no workers and is not ready.
    assert_eq!(ready("/readyz").await, 503);
    assert_eq!(router.ask("GET", "/v1/models", "").await.head.status, 200);
    router.end().await;
}

/// For example a deleted namespace: the others are served, and the operator learns why this one is not.
#[tokio::test]
async fn a_namespace_that_cannot_be_read_is_named_on_the_metrics_port_alone() {
    let unread = |catalog: Catalog| Catalog {
        unread: [("team-x".into(), "cannot list plans: forbidden".into())].into(),
        ..catalog
    };
    let router = TestRouter::unready(unread(Catalog::pending()), |_| ()).await;
    let named = r#""unread":[{"namespace":"team-x","message":"cannot list plans: forbidden"}]"#;
    let told = async || router.probe("/readyz?router").await.text().contains(named);
    eventually(told).await;
    assert_eq!(router.probe("/readyz?router").await.head.status, 503);

    router
        .catalog
        .send_replace(Arc::new(unread(catalog(vec![]))));
    eventually(async || router.probe("/readyz?router").await.head.status == 200).await;
    let details = router.probe("/readyz?router").await.text();
    assert!(details.contains(named), "{details}");
    let public = router.ask("GET", "/readyz?router", "").await.text();
    assert!(!public.contains("team-x"), "{public}");
    router.end().await;
}
