//! Tests of the error table, row by row.
#![expect(clippy::too_many_lines, reason = "tables of cases")]

use std::time::Duration;

use http::Method;
use inferyard_proto::worker::v1::failed::Kind;
use inferyard_proto::worker::v1::{Failed, Usage};
use serde_json::Value;

use super::*;
use inferyard_catalog::{Model, Stopped};

const ID: &str = "req_0123456789abcdef0123456789abcdef";

/// Expects this status, type, code, param and header; the message must contain `text`.
fn check(
    error: impl Into<Error>,
    expected: (u16, &str, Option<&str>, Option<&str>),
    header: Option<(&str, &str)>,
    text: &str,
) {
    let error = error.into();
    let response = error.response(ID);
    let body: Value = serde_json::from_slice(response.body()).unwrap();
    let keys: Vec<_> = body["error"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["message", "type", "param", "code"], "{error:?}");
    let got = (
        response.status().as_u16(),
        body["error"]["type"].as_str().unwrap(),
        body["error"]["code"].as_str(),
        body["error"]["param"].as_str(),
    );
    assert_eq!(got, expected, "{error:?}");
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains(text), "{message}");
    assert_eq!(
        message.contains(ID),
        response.status().is_server_error(),
        "{message}"
    );
    if let Some((name, value)) = header {
        assert_eq!(response.headers()[name], value, "{error:?}");
    }
    assert_eq!(response.headers()["content-type"], "application/json");
    assert!(!error.label().is_empty());
}

const INVALID: &str = "invalid_request_error";
const UNAVAILABLE: &str = "service_unavailable_error";

#[test]
fn the_head() {
    let (method, path) = (Method::POST, "/chat/completions".to_owned());
    check(
        AcceptError::UnknownPath { method, path },
        (404, INVALID, Some("unknown_url"), None),
        None,
        "Make sure the base URL ends with /v1 and you call /chat/completions.",
    );
    check(
        AcceptError::WrongMethod {
            method: Method::DELETE,
            path: "/v1/models".to_owned(),
            allow: "GET, HEAD",
        },
        (405, INVALID, Some("method_not_supported"), None),
        Some(("allow", "GET, HEAD")),
        "Not allowed to DELETE on /v1/models.",
    );
    check(
        AcceptError::UnknownModel {
            id: "a\"b".to_owned(),
        },
        (404, INVALID, Some("model_not_found"), Some("model")),
        None,
        "'a\"b'",
    );
}

#[test]
fn the_key() {
    let bearer = Some(("www-authenticate", "Bearer"));
    let advice = "Check that your API key is set and sent as a Bearer token";
    let unknown = AuthenticateError::UnknownKey {
        masked: "iy-01***ghij".to_owned(),
    };
    check(
        AuthenticateError::NoKey,
        (401, INVALID, None, None),
        bearer,
        advice,
    );
    check(
        AuthenticateError::NotBearer,
        (401, INVALID, None, None),
        bearer,
        advice,
    );
    let wrong = (401, INVALID, Some("invalid_api_key"), None);
    check(unknown, wrong, bearer, "provided: iy-01***ghij. Check");
    check(AuthenticateError::Expired, wrong, bearer, "has expired");
    check(AuthenticateError::Disabled, wrong, bearer, "is disabled");
    let plan = "gold".to_owned();
    let missing = "'gold', which does not exist";
    check(AuthenticateError::NoPlan { plan }, wrong, bearer, missing);
    let plan = "gold".to_owned();
    let refused = "'gold', which is refused here";
    check(
        AuthenticateError::PlanRefused { plan },
        wrong,
        bearer,
        refused,
    );
}

#[test]
fn the_body() {
    let content_type = Some("text/plain".to_owned());
    check(
        ReceiveError::NotJson { content_type },
        (415, INVALID, None, None),
        None,
        "instead of `text/plain`",
    );
    let encoding = "gzip".to_owned();
    check(
        ReceiveError::Encoded { encoding },
        (415, INVALID, None, None),
        None,
        "gzip",
    );
    check(
        ReceiveError::TooLarge { limit: 4 << 20 },
        (413, INVALID, None, None),
        None,
        "4194304",
    );
    let limit = Duration::from_secs(30);
    check(
        ReceiveError::TooSlow { limit },
        (408, INVALID, None, None),
        None,
        "30 seconds",
    );
    check(ReceiveError::CutOff, (400, INVALID, None, None), None, "");
}

#[test]
fn no_worker() {
    let wait = Some(("retry-after", "5"));
    check(
        PlaceError::Loading { progress: 0.42 },
        (503, UNAVAILABLE, Some("model_loading"), None),
        wait,
        "42 %",
    );
    check(
        PlaceError::NoWorker,
        (503, UNAVAILABLE, Some("no_worker"), None),
        wait,
        "",
    );
    check(
        PlaceError::ShuttingDown,
        (503, UNAVAILABLE, Some("shutting_down"), None),
        Some(("retry-after", "1")),
        "",
    );
}

#[test]
fn a_model_that_waits_for_a_change_is_not_asked_again() {
    let never = Some(("x-should-retry", "false"));
    for (why, code, said) in [
        (
            Stopped::ScaledToZero,
            "model_stopped",
            "scaled to 0 workers",
        ),
        (
            Stopped::Refused {
                reason: "NameTaken".into(),
            },
            "model_refused",
            "`qwen` is not served, because its declaration is refused (NameTaken)",
        ),
    ] {
        let model = Model {
            stopped: Some(why),
            ..Model::new("m", 0)
        };
        let error = || StoppedError::check(&model, "qwen").unwrap_err();
        check(error(), (503, UNAVAILABLE, Some(code), None), never, said);
        let response = Error::from(error()).response(ID);
        assert!(!response.headers().contains_key("retry-after"));
    }
}

#[test]
fn the_worker_s_failures() {
    let failed = |kind: Kind, message: &str, param: &str| {
        StreamError::from_failed(Failed {
            kind: kind.into(),
            message: message.to_owned(),
            param: param.to_owned(),
            usage: Some(Usage::default()),
            prompt_tokens: 0,
        })
        .0
    };
    check(
        failed(Kind::InvalidRequest, "No such token.", "logit_bias"),
        (400, INVALID, Some("invalid_value"), Some("logit_bias")),
        None,
        "No such token.",
    );
    check(
        failed(Kind::InvalidRequest, "", ""),
        (400, INVALID, Some("invalid_value"), None),
        None,
        "The model cannot serve this request.",
    );
    for (param, expected) in [("", "messages"), ("prompt", "prompt")] {
        check(
            failed(Kind::ContextLengthExceeded, "512 tokens at most.", param),
            (
                400,
                INVALID,
                Some("context_length_exceeded"),
                Some(expected),
            ),
            None,
            "512",
        );
    }
    let overloaded = (503, UNAVAILABLE, Some("server_is_overloaded"), None);
    check(
        failed(Kind::Overloaded, "secret", ""),
        overloaded,
        Some(("retry-after", "2")),
        "",
    );
    let loading = (503, UNAVAILABLE, Some("model_loading"), None);
    check(
        failed(Kind::Loading, "secret", ""),
        loading,
        Some(("retry-after", "5")),
        "",
    );
    let gone = (503, UNAVAILABLE, Some("no_worker"), None);
    check(
        failed(Kind::Draining, "secret", ""),
        gone,
        Some(("retry-after", "2")),
        "",
    );
    let late = (504, "server_error", Some("deadline_exceeded"), None);
    check(failed(Kind::DeadlineExceeded, "secret", ""), late, None, "");
    let slow = (500, "server_error", None, None);
    check(failed(Kind::SlowReader, "secret", ""), slow, None, "");
    for kind in [Kind::Internal, Kind::Unspecified, Kind::EngineCrashed] {
        check(
            failed(kind, "secret", ""),
            (500, "server_error", None, None),
            None,
            "Sorry",
        );
    }
    check(
        failed(Kind::UnknownModel, "secret", ""),
        (503, UNAVAILABLE, Some("no_worker"), None),
        None,
        "",
    );
}

#[test]
fn what_ends_workers_is_not_sent_again_by_itself() {
    let never = Some(("x-should-retry", "false"));
    check(
        StreamError::CrashesEngine,
        (400, INVALID, Some("request_crashes_engine"), None),
        never,
        "refused for five minutes",
    );
    check(
        StreamError::DiedAgain,
        (500, "server_error", None, None),
        never,
        "Two workers failed",
    );
}

#[test]
fn what_a_worker_says_of_itself_stays_inside() {
    let message = || "secret".to_owned();
    for error in [
        StreamError::Internal { message: message() },
        StreamError::Died { message: message() },
        StreamError::Unreachable { message: message() },
        StreamError::EngineCrashed { message: message() },
        StreamError::Contract("secret"),
    ] {
        let response = Error::from(error).response(ID);
        let body = std::str::from_utf8(response.body()).unwrap();
        assert!(!body.contains("secret"), "{body}");
    }
    let long = StreamError::Invalid {
        message: "é".repeat(5_000),
        param: String::new(),
    };
    assert!(Error::from(long).response(ID).body().len() < 2_200);
}

/// The label of a failed attempt is also the label of the final error.
#[test]
fn a_worker_s_failure_has_one_label() {
    let (message, param) = (String::new, String::new);
    let all = [
        StreamError::Invalid {
            message: message(),
            param: param(),
        },
        StreamError::ContextLength {
            message: message(),
            param: param(),
        },
        StreamError::PromptTooExpensive { prompt_tokens: 1 },
        StreamError::Overloaded,
        StreamError::Loading,
        StreamError::Draining,
        StreamError::WrongModel,
        StreamError::DeadlineExceeded,
        StreamError::SlowReader,
        StreamError::Internal { message: message() },
        StreamError::Unreachable { message: message() },
        StreamError::Died { message: message() },
        StreamError::EngineCrashed { message: message() },
        StreamError::DiedAgain,
        StreamError::CrashesEngine,
        StreamError::Contract(""),
    ];
    for error in all {
        let label = error.label();
        assert_eq!(Error::from(error).label(), label);
    }
}
