//! Faults of API servers and of the way to them, and how long each takes to heal. The clock is paused.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::api::TestApi;
use super::watched::{Watched, api, eventually};
use super::{key, plan, pod};
use crate::Namespaces;

/// A round of lists: one for each kind.
const ROUND: usize = 4;
/// What a pause for other changes, or after an error, may add.
const MORE: Duration = Duration::from_secs(1);

/// The objects of [`api`], seen.
async fn watched(api: &TestApi) -> Watched {
    let mut watched = Watched::with(api, Namespaces::Own, None);
    watched.until_workers(&["10.0.0.1"]).await;
    assert_eq!(api.lists(), ROUND);
    watched
}

fn first_key() -> serde_json::Value {
    key("k", 1, "p", '1')
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_silent_without_an_end_is_replaced_within_a_minute() {
    let api = api();
    let mut watched = watched(&api).await;
    api.kill_watches();
    api.delete(&pod("m-0", "m", "10.0.0.1"));
    api.delete(&first_key());
    let begin = Instant::now();
    watched
        .until(|catalog| catalog.keys.is_empty() && catalog.models["m"].workers.is_empty())
        .await;
    let took = begin.elapsed();
    assert!(took <= Duration::from_mins(1), "{took:?}");
    // The new watch goes on where the dead one was: nothing is listed, and nothing is an error.
    assert_eq!((api.lists(), watched.errors()), (ROUND, 0));
    watched.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_event_is_healed_by_the_next_relist() {
    let api = api();
    let mut watched = watched(&api).await;
    let begin = Instant::now();
    api.lossy(true);
    api.delete(&first_key());
    api.lossy(false);
    watched.until(|catalog| catalog.keys.is_empty()).await;
    let took = begin.elapsed();
    assert!(took <= Duration::from_mins(10) + MORE, "{took:?}");
    assert!(
        took > Duration::from_mins(7),
        "{took:?}: for another reason"
    );
    assert_eq!(watched.errors(), 0);
    assert_eq!(api.cached_lists(), 0, "a cache may be old");
    watched.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_undisturbed_cluster_is_listed_once_in_ten_minutes() {
    let api = api();
    let watched = watched(&api).await;
    // Each kind is listed again after 8 to 10 minutes.
    sleep(Duration::from_hours(1)).await;
    let rounds = api.lists() / ROUND;
    assert!((6..=8).contains(&rounds), "{rounds}");
    // Each watch takes 30 seconds.
    let per_kind = api.watches() / ROUND;
    assert!((100..=140).contains(&per_kind), "{per_kind}");
    assert_eq!(watched.errors(), 0);
    watched.end().await;
}

/// 410, as an event of a watch or as the answer to one: what was seen is no measure any more.
#[tokio::test(start_paused = true)]
async fn gone_leads_to_a_list_of_the_store() {
    for in_a_watch in [true, false] {
        let api = api();
        let mut watched = watched(&api).await;
        api.lag();
        api.lossy(true);
        api.delete(&first_key());
        let begin = Instant::now();
        if in_a_watch {
            api.expire();
        } else {
            api.answer_watches(Some(StatusCode::GONE));
        }
        watched.until(|catalog| catalog.keys.is_empty()).await;
        // A watch is asked for every 30 seconds.
        let bound = if in_a_watch { 1 } else { 31 };
        let took = begin.elapsed();
        assert!(took <= Duration::from_secs(bound) + MORE, "{took:?}");
        assert_eq!(api.cached_lists(), 0, "a cache may be old");
        watched.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_fails_leaves_the_last_state_in_force_and_is_told() {
    for status in [
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::INTERNAL_SERVER_ERROR,
    ] {
        let api = api();
        let mut watched = watched(&api).await;
        let before = watched.catalogs.borrow_and_update().clone();
        let errors = watched.errors();
        api.answer_lists(Some(status));
        api.expire();
        eventually(|| watched.errors() >= errors + 5).await;
        if status == StatusCode::FORBIDDEN {
            // The readiness of the router names the namespace and the reason.
            watched.until(|catalog| !catalog.unread.is_empty()).await;
            let why = watched.catalogs.borrow().unread["n"].clone();
            assert!(why.contains("lists fail"), "{why}");
        } else {
            assert!(!watched.catalogs.has_changed().unwrap(), "{status}");
        }
        let now = watched.catalogs.borrow_and_update().clone();
        assert_eq!(
            (&now.models, &now.keys, now.pending),
            (&before.models, &before.keys, false),
            "{status}"
        );
        // What happened meanwhile is known after the first list that is given.
        api.delete(&first_key());
        api.answer_lists(None);
        watched.until(|catalog| catalog.keys.is_empty()).await;
        watched.until(|catalog| catalog.unread.is_empty()).await;
        watched.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_is_asked_ever_less_often() {
    let api = api();
    api.answer_watches(Some(StatusCode::FORBIDDEN));
    let watched = watched(&api).await;
    sleep(Duration::from_mins(10)).await;
    let rounds = api.lists() / ROUND;
    // After the first few, one in 2.5 to 5 seconds.
    assert!((100..=260).contains(&rounds), "{rounds}");
    watched.end().await;
}

/// `kube::runtime` starts the next watch at once, without a pause, when one has ended well.
#[tokio::test(start_paused = true)]
async fn a_server_that_ends_every_watch_at_once_is_not_asked_in_a_loop() {
    let api = api();
    let watched = watched(&api).await;
    api.end_watches();
    sleep(Duration::from_mins(1)).await;
    let per_kind = api.watches() / ROUND;
    assert!((60..=122).contains(&per_kind), "{per_kind}");
    watched.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_list_of_several_pages_counts_as_a_whole() {
    let api = api();
    for digit in "23456789".chars() {
        api.put(key(&format!("k{digit}"), 1, "p", digit));
    }
    api.put(plan("q", 1, &json!({})));
    api.page(2);
    let mut watched = Watched::with(&api, Namespaces::Own, None);
    watched.until(|catalog| !catalog.pending).await;
    assert_eq!(watched.catalogs.borrow_and_update().keys.len(), 9);
    // Listed again page by page, no catalog lacks the keys of the other pages.
    api.lossy(true);
    api.delete(&first_key());
    api.expire();
    watched.catalogs.changed().await.unwrap();
    assert_eq!(watched.catalogs.borrow_and_update().keys.len(), 8);
    watched.end().await;
}
