//! Callers without a key.

use inferyard_catalog::{Plan, Preview};
use inferyard_proto::worker::v1::failed::Kind;

use crate::support::{
    Answer, Bills, Connection, ScriptedWorker, TestRouter, WHOLE, failed, request,
};

const CHAT: &str = "/v1/chat/completions";

async fn previewed(requests: u64) -> (ScriptedWorker, TestRouter, Bills) {
    let worker = ScriptedWorker::start().await;
    let change = |plan: &mut Plan| {
        plan.limits.requests_total = std::num::NonZeroU64::new(requests);
        plan.preview = Some(Preview {
            sign_up: Some("https://example.com/keys".into()),
            tokens_per_day: std::num::NonZeroU64::new(1_000_000),
        });
    };
    let (router, bills) = TestRouter::planned_and_configured(&[&worker], change, |config| {
        config.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    })
    .await;
    (worker, router, bills)
}

/// A request without a key, with these additional header lines.
async fn visit(router: &TestRouter, worker: &mut ScriptedWorker, lines: &[(&str, &str)]) -> Answer {
    let mut client = visitor(router, WHOLE, lines).await;
    let answer = client.answer();
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => return answer,
        call = worker.call() => call.say_hello().await,
    }
    answer.await
}

/// Sends a request without a key.
async fn visitor(router: &TestRouter, body: &str, lines: &[(&str, &str)]) -> Connection {
    let text = String::from_utf8(request("POST", CHAT, body)).unwrap();
    let mut added = String::from("host: x\r\n");
    for (name, value) in lines {
        added.extend([name, ": ", value, "\r\n"]);
    }
    let text = text
        .replace("authorization: Bearer My API Key\r\n", "")
        .replace("host: x\r\n", &added);
    let mut client = router.connect().await;
    client.send(text.as_bytes()).await;
    client
}

/// A request without a key that a worker refuses.
async fn refused(router: &TestRouter, worker: &mut ScriptedWorker) -> Answer {
    let mut client = visitor(router, WHOLE, &[HOME]).await;
    let call = worker.call().await;
    call.say(failed(Kind::InvalidRequest, "no", "messages"))
        .await;
    client.answer().await
}

fn cookie(answer: &Answer) -> String {
    let cookie = answer.head.header("set-cookie").expect("a cookie");
    cookie.split(';').next().unwrap().to_owned()
}

const HOME: (&str, &str) = ("x-forwarded-for", "203.0.113.7");
const ELSEWHERE: (&str, &str) = ("x-forwarded-for", "198.51.100.1");

#[tokio::test]
async fn after_the_last_free_request_there_is_a_link_to_a_key() {
    let (mut worker, router, mut bills) = previewed(5).await;
    for left in ["4", "3", "2", "1", "0"] {
        let answer = visit(&router, &mut worker, &[HOME]).await;
        assert_eq!(answer.head.status, 200);
        assert_eq!(
            answer.head.header("x-ratelimit-remaining-requests"),
            Some(left)
        );
        let event = bills.next().await;
        assert_eq!(event.key, "");
        assert!(event.account.starts_with("preview-") && !event.account.contains("203.0"));
    }
    let answer = visit(&router, &mut worker, &[HOME]).await;
    let (status, code, _) = answer.error();
    assert_eq!((status, code.as_deref()), (401, Some("preview_exhausted")));
    let message = answer.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        message.contains("5 free requests") && message.contains("https://example.com/keys"),
        "{message}"
    );
    // Another address is another visitor.
    let answer = visit(&router, &mut worker, &[ELSEWHERE]).await;
    assert_eq!(answer.head.status, 200);
    router.end().await;
}

#[tokio::test]
async fn a_visitor_that_moves_keeps_its_count_and_one_that_forges_gets_none() {
    let (mut worker, router, _bills) = previewed(2).await;
    let first = visit(&router, &mut worker, &[HOME]).await;
    let cookie = cookie(&first);
    let header = first.head.header("set-cookie").unwrap();
    assert!(
        header.contains("HttpOnly; SameSite=Lax") && !header.contains("Secure"),
        "{header}"
    );
    let moved = [ELSEWHERE, ("cookie", &*cookie)];
    let second = visit(&router, &mut worker, &moved).await;
    assert_eq!(
        second.head.header("x-ratelimit-remaining-requests"),
        Some("0")
    );
    assert_eq!(second.head.header("set-cookie"), None);
    assert_eq!(visit(&router, &mut worker, &moved).await.head.status, 401);
    // Without the cookie, the address determines the account; the one of `HOME` is used up.
    assert_eq!(visit(&router, &mut worker, &[HOME]).await.head.status, 401);
    let forged = cookie.replace("preview-", "preview-0");
    let forged = [HOME, ("cookie", &*forged), ("x-forwarded-proto", "https")];
    let answer = visit(&router, &mut worker, &forged).await;
    assert_eq!(answer.head.status, 401);
    assert!(
        answer
            .head
            .header("set-cookie")
            .unwrap()
            .ends_with("; Secure")
    );
    router.end().await;
}

#[tokio::test]
async fn a_wrong_key_is_no_visitor() {
    let (_worker, router, bills) = previewed(5).await;
    let text = String::from_utf8(request("POST", CHAT, WHOLE)).unwrap();
    let mut client = router.connect().await;
    client
        .send(text.replace("My API Key", "wrong").as_bytes())
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.error().1.as_deref(), Some("invalid_api_key"));
    assert_eq!(answer.head.header("set-cookie"), None);
    assert!(bills.is_empty());
    // The preview's models can be listed without a key.
    let text = String::from_utf8(request("GET", "/v1/models", "")).unwrap();
    let mut client = router.connect().await;
    client
        .send(
            text.replace("authorization: Bearer My API Key\r\n", "")
                .as_bytes(),
        )
        .await;
    assert_eq!(client.answer().await.json()["data"][1]["id"], "m");
    router.end().await;
}

#[tokio::test]
async fn nobody_believes_a_stranger_about_its_address() {
    let worker = ScriptedWorker::start().await;
    let (router, _bills) = TestRouter::planned(&[&worker], |plan| {
        plan.limits.requests_total = std::num::NonZeroU64::new(1);
        plan.preview = Some(Preview {
            sign_up: None,
            tokens_per_day: None,
        });
    })
    .await;
    let mut worker = worker;
    assert_eq!(visit(&router, &mut worker, &[HOME]).await.head.status, 200);
    assert_eq!(
        visit(&router, &mut worker, &[ELSEWHERE]).await.head.status,
        401
    );
    router.end().await;
}

#[tokio::test]
async fn the_tokens_of_all_visitors_together_end_too() {
    let worker = ScriptedWorker::start().await;
    let (router, _bills) = TestRouter::planned_and_configured(
        &[&worker],
        |plan| {
            plan.preview = Some(Preview {
                sign_up: None,
                tokens_per_day: std::num::NonZeroU64::new(12),
            });
        },
        |config| config.trusted_proxies = vec!["127.0.0.1".parse().unwrap()],
    )
    .await;
    let mut worker = worker;
    assert_eq!(visit(&router, &mut worker, &[HOME]).await.head.status, 200);
    let answer = visit(&router, &mut worker, &[ELSEWHERE]).await;
    let (status, code, _) = answer.error();
    assert_eq!(
        (status, code.as_deref()),
        (429, Some("preview_pool_exhausted"))
    );
    assert_eq!(answer.head.header("x-should-retry"), Some("false"));
    // A caller with a key is still served.
    let mut client = router.chat(WHOLE).await;
    worker.call().await.say_hello().await;
    assert_eq!(client.answer().await.head.status, 200);
    router.end().await;
}

#[tokio::test]
async fn what_is_refused_uses_up_no_free_request() {
    let (mut worker, router, mut bills) = previewed(2).await;
    for _ in 0..3 {
        let answer = visitor(&router, "{}", &[HOME]).await.answer().await;
        assert_eq!(answer.head.status, 400);
        assert_eq!(refused(&router, &mut worker).await.head.status, 400);
        let event = bills.next().await;
        assert_eq!((event.status, event.cost_nanodollars), (400, 0));
    }
    for left in ["1", "0"] {
        let answer = visit(&router, &mut worker, &[HOME]).await;
        assert_eq!(answer.head.status, 200);
        let header = answer.head.header("x-ratelimit-remaining-requests");
        assert_eq!(header, Some(left));
    }
    let answer = visit(&router, &mut worker, &[HOME]).await;
    assert_eq!(answer.head.status, 401);
    router.end().await;
}

#[tokio::test]
async fn a_visitor_has_twenty_requests_refused_in_an_hour_and_is_turned_away_then() {
    let (mut worker, router, _bills) = previewed(5).await;
    for _ in 0..10 {
        let answer = visitor(&router, "{}", &[HOME]).await.answer().await;
        assert_eq!(answer.head.status, 400);
        assert_eq!(refused(&router, &mut worker).await.head.status, 400);
    }
    for body in ["{}", WHOLE] {
        let answer = visitor(&router, body, &[HOME]).await.answer().await;
        let (status, code, _) = answer.error();
        assert_eq!(
            (status, code.as_deref()),
            (429, Some("rate_limit_exceeded"))
        );
        let seconds: u64 = answer.head.header("retry-after").unwrap().parse().unwrap();
        assert!((3_000..=3_600).contains(&seconds), "{seconds}");
        let message = answer.json()["error"]["message"].to_string();
        assert!(
            message.contains("20 of your requests") && message.contains("https://example.com/keys"),
            "{message}"
        );
    }
    // Others are served, and requests with a key are always read, however many were refused.
    let answer = visit(&router, &mut worker, &[ELSEWHERE]).await;
    assert_eq!(answer.head.status, 200);
    for _ in 0..21 {
        assert_eq!(router.ask("POST", CHAT, "{}").await.head.status, 400);
    }
    router.end().await;
}
