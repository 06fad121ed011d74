//! The figures that routers read.

use inferyard_engine::state::{Capacity, Load};

use super::*;

fn state() -> State {
    let state = State::new("m".to_owned(), 1);
    state.set_ready(Capacity {
        max_running: 8,
        max_queued: 9,
        kv_total_tokens: 1_000,
        context_length: 100,
        template_tokens: 0,
    });
    let load = Load {
        running: 3,
        preempted: 1,
        kv_used: 500,
        kv_cached: 250,
        ..Load::default()
    };
    state.set_load(load, std::iter::empty());
    state
}

#[test]
fn how_busy_it_is() {
    let snapshot = state().snapshot();
    let loads = loads(&snapshot);
    let load = &loads["loads"][0];
    assert_eq!(
        (&load["num_running_reqs"], &load["num_waiting_reqs"]),
        (&json!(3), &json!(1))
    );
    assert_eq!(
        (&load["num_used_tokens"], &load["token_usage"]),
        (&json!(250), &json!(0.25))
    );
}

#[test]
fn only_a_worker_that_serves_is_healthy() {
    let state = state();
    assert_eq!(page(&state, "/health").status(), StatusCode::OK);
    state.set_draining();
    assert_eq!(
        page(&state, "/health").status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(page(&state, "/nothing").status(), StatusCode::NOT_FOUND);
}
