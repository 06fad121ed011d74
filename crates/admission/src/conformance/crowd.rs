//! Cases with many concurrent requests over separate connections.

use std::sync::Arc;

use inferyard_test_servers::needs;
use tokio::task::JoinSet;

use super::subject::{self, Subject};
use super::{again, n, on_plan};
use crate::store::Admission;

/// How many requests over eight connections are admitted, and the tokens that they hold.
async fn rush(wanted: Admission, each: usize, tokens: fn(usize) -> u64) -> (usize, u64) {
    let first = subject::redis();
    let mut routers = JoinSet::new();
    for router in 0..8 {
        let subject = Arc::new(first.another());
        let wanted = wanted.clone();
        routers.spawn(async move {
            let mut requests = JoinSet::new();
            for number in 0..each {
                let subject = Arc::clone(&subject);
                let mut wanted = again(&wanted);
                wanted.tokens = tokens(router * each + number);
                requests.spawn(async move {
                    let admitted = subject.is_let_in(&wanted).await;
                    admitted.then_some(wanted.tokens)
                });
            }
            requests.join_all().await
        });
    }
    let admitted: Vec<u64> = routers
        .join_all()
        .await
        .concat()
        .into_iter()
        .flatten()
        .collect();
    (admitted.len(), admitted.iter().sum())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_thousand_at_once_exactly_a_hundred_are_let_in() {
    needs!(Redis);
    let wanted = on_plan("crowd", |it| it.requests_total = n(100));
    let (admitted, _) = rush(wanted, 250, |_| 10).await;
    assert_eq!(admitted, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mixed_estimates_fill_a_limit_and_never_exceed_it() {
    needs!(Redis);
    let wanted = on_plan("crowd", |it| it.tokens_per_day = n(10_000));
    let (_, held) = rush(wanted, 250, |number| 1 + number as u64 * 7 % 23).await;
    assert_eq!(held, 10_000);
}
