//! The end of an answer waits for its settlement only for a bounded time.

use std::net::{IpAddr, Ipv4Addr};

use http::Request;
use tokio::time::{Instant, timeout};

use super::*;
use inferyard_domain::RequestId;

#[tokio::test]
async fn the_end_of_an_answer_does_not_wait_for_ever() {
    let (head, ()) = Request::new(()).into_parts();
    let now = Instant::now();
    let accepted = Accepted {
        id: RequestId::of([7; 16]),
        head,
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        label: "/v1/chat/completions",
        arrived: now,
        deadline: now + Duration::from_mins(10),
    };
    let mut meter = Meter::new(&Arc::new(Telemetry::new()), &accepted);
    // A disk that never confirms a write.
    let task = tokio::spawn(std::future::pending());
    let settles = task.abort_handle();
    meter.settling = Some(Settling::Task(task));
    let ends = meter.ends_with(StatusCode::OK);
    timeout(Duration::from_secs(20), ends).await.unwrap();
    drop(meter);
    assert!(!settles.is_finished(), "it goes on");
    settles.abort();
}
