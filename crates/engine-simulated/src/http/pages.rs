//! What routers ask an engine beside answers: how it is, what it serves, and how busy it is.

use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use inferyard_engine::state::{Phase, Snapshot, State};
use serde_json::{Value, json};

use super::{Content, json, wire};

/// What SGLang and vLLM say at this path, as far as routers read it.
pub(super) fn page(state: &State, path: &str) -> Response<Content> {
    let snapshot = state.snapshot();
    let page = match path {
        "/health" | "/health_generate" => return health(&snapshot),
        "/metrics" => return metrics(state.model(), &snapshot),
        "/v1/models" => models(state.model(), &snapshot),
        "/version" => json!({"version": concat!(env!("CARGO_PKG_VERSION"), "-simulated")}),
        "/get_server_info" | "/server_info" => server(state.model(), &snapshot),
        "/get_model_info" | "/model_info" => json!({
            "model_path": state.model(),
            "tokenizer_path": state.model(),
            "is_generation": true,
        }),
        "/v1/loads" => loads(&snapshot),
        "/get_load" => json!([{
            "dp_rank": 0,
            "num_reqs": running(&snapshot) + waiting(&snapshot),
            "num_waiting_reqs": waiting(&snapshot),
            "num_tokens": in_use(&snapshot),
        }]),
        "/simulated/stats" => stats(state, &snapshot),
        _ => return wire::unknown(),
    };
    json(StatusCode::OK, page.to_string())
}

fn running(snapshot: &Snapshot) -> usize {
    snapshot.load.running
}

fn waiting(snapshot: &Snapshot) -> usize {
    snapshot.queued + snapshot.load.preempted
}

/// Tokens of running sequences: what is only kept can be had by anybody.
fn in_use(snapshot: &Snapshot) -> u64 {
    snapshot.load.kv_used - snapshot.load.kv_cached
}

fn usage(snapshot: &Snapshot) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    let share = in_use(snapshot) as f64 / snapshot.capacity.kv_total_tokens.max(1) as f64;
    share
}

fn health(snapshot: &Snapshot) -> Response<Content> {
    match snapshot.phase {
        Phase::Ready => json(StatusCode::OK, "{\"status\":\"ok\"}"),
        Phase::Loading | Phase::Unhealthy | Phase::Draining => {
            json(StatusCode::SERVICE_UNAVAILABLE, "{\"status\":\"down\"}")
        }
    }
}

/// As SGLang lists it: by the owner routers know what else they may ask.
fn models(model: &str, snapshot: &Snapshot) -> Value {
    json!({"object": "list", "data": [{
        "id": model,
        "object": "model",
        "created": 0,
        "owned_by": "sglang",
        "root": model,
        "max_model_len": snapshot.capacity.context_length,
    }]})
}

fn server(model: &str, snapshot: &Snapshot) -> Value {
    json!({
        "model_path": model,
        "served_model_name": model,
        "tp_size": 1,
        "dp_size": 1,
        "disaggregation_mode": "null",
        "version": concat!(env!("CARGO_PKG_VERSION"), "-simulated"),
        "context_length": snapshot.capacity.context_length,
        "max_total_tokens": snapshot.capacity.kv_total_tokens,
        "max_total_num_tokens": snapshot.capacity.kv_total_tokens,
        "max_running_requests": snapshot.capacity.max_running,
    })
}

fn loads(snapshot: &Snapshot) -> Value {
    json!({"timestamp": "", "dp_rank_count": 1, "loads": [{
        "dp_rank": 0,
        "num_running_reqs": running(snapshot),
        "num_waiting_reqs": waiting(snapshot),
        "num_waiting_uncached_tokens": snapshot.queued_tokens,
        "num_total_reqs": running(snapshot) + waiting(snapshot),
        "num_used_tokens": in_use(snapshot),
        "max_total_num_tokens": snapshot.capacity.kv_total_tokens,
        "token_usage": usage(snapshot),
        "utilization": usage(snapshot),
        "gen_throughput": 0.0,
        "cache_hit_rate": 0.0,
        "max_running_requests": snapshot.capacity.max_running,
    }]})
}

fn stats(state: &State, snapshot: &Snapshot) -> Value {
    let totals = snapshot.totals;
    json!({
        "requests": state.ended().values().sum::<u64>(),
        "running": running(snapshot),
        "queued": waiting(snapshot),
        "prompt_tokens": totals.prompt,
        "cached_tokens": totals.cached,
        "computed_tokens": totals.prompt - totals.cached,
        "completion_tokens": totals.completion,
    })
}

/// Under the names of vLLM.
fn metrics(model: &str, snapshot: &Snapshot) -> Response<Content> {
    let totals = snapshot.totals;
    let lines = [
        (
            "num_requests_running",
            "gauge",
            running(snapshot).to_string(),
        ),
        (
            "num_requests_waiting",
            "gauge",
            waiting(snapshot).to_string(),
        ),
        ("kv_cache_usage_perc", "gauge", usage(snapshot).to_string()),
        ("prompt_tokens_total", "counter", totals.prompt.to_string()),
        (
            "generation_tokens_total",
            "counter",
            totals.completion.to_string(),
        ),
        (
            "prefix_cache_queries_total",
            "counter",
            totals.prompt.to_string(),
        ),
        (
            "prefix_cache_hits_total",
            "counter",
            totals.cached.to_string(),
        ),
    ];
    // A label's value is quoted like this; names of models have nothing else to escape.
    let model = Value::from(model);
    let line = |(name, kind, value): &(&str, &str, String)| {
        format!("# TYPE vllm:{name} {kind}\nvllm:{name}{{model_name={model}}} {value}\n")
    };
    let text = lines.iter().map(line).collect::<Vec<_>>().concat();
    let mut response = json(StatusCode::OK, text);
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests;
