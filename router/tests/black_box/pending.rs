//! A router that does not know yet what is declared.

use std::sync::Arc;

use inferyard_router::catalog::Catalog;

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
    // It still has no workers, and says so.
    assert_eq!(ready("/readyz").await, 503);
    assert_eq!(router.ask("GET", "/v1/models", "").await.head.status, 200);
    router.end().await;
}
