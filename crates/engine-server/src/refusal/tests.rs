//! What servers say when they refuse, and what of it callers hear.

use super::*;

type Case = (u16, &'static str, FailureKind, Option<&'static str>);

const VLLM: [Case; 6] = [
    (
        400,
        r#"{"error":{"message":"This model's maximum context length is 4096 tokens. However, you requested 9000 tokens SECRET","type":"BadRequestError","param":null,"code":400}}"#,
        FailureKind::ContextLengthExceeded,
        Some("messages"),
    ),
    (
        400,
        r#"{"error":{"message":"\"auto\" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set","type":"BadRequestError","param":null,"code":400}}"#,
        FailureKind::InvalidRequest,
        Some("tools"),
    ),
    (
        400,
        r#"{"error":{"message":"SECRET is not a multimodal model","type":"BadRequestError","param":null,"code":400}}"#,
        FailureKind::InvalidRequest,
        Some("messages"),
    ),
    (
        404,
        r#"{"error":{"message":"The model `SECRET` does not exist.","type":"NotFoundError","param":"model","code":404}}"#,
        FailureKind::Internal,
        None,
    ),
    (
        500,
        r#"{"error":{"message":"EngineCore encountered an issue. SECRET","type":"InternalServerError","param":null,"code":500}}"#,
        FailureKind::Internal,
        None,
    ),
    (
        503,
        r#"{"error":{"message":"queue is full","type":"ServiceUnavailableError","param":null,"code":503}}"#,
        FailureKind::Overloaded,
        None,
    ),
];

const SGLANG: [Case; 2] = [
    (
        400,
        r#"{"object":"error","message":"The input (9000 tokens) is longer than the model's context length (4096 tokens). SECRET","type":"BadRequestError","param":null,"code":400}"#,
        FailureKind::ContextLengthExceeded,
        Some("messages"),
    ),
    (
        400,
        r#"{"object":"error","message":"Value error, temperature must be non-negative","type":"BadRequest","param":null,"code":400}"#,
        FailureKind::InvalidRequest,
        Some("temperature"),
    ),
];

const LLAMACPP: [Case; 3] = [
    (
        400,
        r#"{"error":{"code":400,"message":"request (9000 tokens) exceeds the available context size (4096 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":9000,"n_ctx":4096}}"#,
        FailureKind::ContextLengthExceeded,
        Some("messages"),
    ),
    (
        503,
        r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#,
        FailureKind::Loading,
        None,
    ),
    (
        500,
        r#"{"error":{"code":500,"message":"tools param requires --jinja flag","type":"server_error"}}"#,
        FailureKind::Internal,
        None,
    ),
];

const OTHERS: [Case; 5] = [
    // mlx_lm
    (
        400,
        r#"{"error": "max_tokens must be at least 1"}"#,
        FailureKind::InvalidRequest,
        Some("max_tokens"),
    ),
    // FastAPI, before the server itself
    (
        422,
        r#"{"detail":[{"loc":["body","top_p"],"msg":"SECRET","type":"value_error"}]}"#,
        FailureKind::InvalidRequest,
        Some("top_p"),
    ),
    (400, "SECRET", FailureKind::InvalidRequest, None),
    (400, "", FailureKind::InvalidRequest, None),
    (429, "<html>", FailureKind::Overloaded, None),
];

#[test]
fn refusals_are_told_in_our_own_words() {
    let cases = [VLLM.as_slice(), &SGLANG, &LLAMACPP, &OTHERS].concat();
    for (status, body, kind, param) in cases {
        let status = StatusCode::from_u16(status).unwrap();
        let Refusal::Failure(failure) = of_status(status, body.as_bytes(), 4096) else {
            panic!("{body}");
        };
        assert_eq!(
            (failure.kind, failure.param.as_deref()),
            (kind, param),
            "{body}"
        );
        assert!(!failure.message.contains("SECRET") && !failure.message.contains("--"));
    }
}

#[test]
fn a_refused_priority_is_known() {
    for body in [
        r#"{"error":{"message":"Got priority -5 but Priority scheduling is not enabled.","type":"BadRequestError","param":null,"code":400}}"#,
        r#"{"object":"error","message":"Using priority is disabled for this server. Please send a new request without a priority.","type":"BadRequest","code":400}"#,
    ] {
        let refusal = of_status(StatusCode::BAD_REQUEST, body.as_bytes(), 0);
        assert!(matches!(refusal, Refusal::Priority), "{body}");
    }
}

#[test]
fn errors_between_chunks_are_read_by_their_code() {
    for (error, kind) in [
        (
            r#"{"message":"context length","type":"BadRequestError","code":400}"#,
            FailureKind::ContextLengthExceeded,
        ),
        (
            r#"{"message":"bad seed","code":"400"}"#,
            FailureKind::InvalidRequest,
        ),
        (
            r#"{"message":"EngineCore died","type":"InternalServerError","code":500}"#,
            FailureKind::Internal,
        ),
        (
            r#"{"error":{"message":"full","code":503}}"#,
            FailureKind::Overloaded,
        ),
        (r#""a text""#, FailureKind::Internal),
    ] {
        assert_eq!(of_chunk(error.as_bytes(), 0).kind, kind, "{error}");
    }
}
