//! Runs one request against the workers of its model: from the queue to the last event of its answer.
//!
//! ```text
//!  quarantine  refuses requests that crashed engines, for a while
//!  upstream    the state machine: queued, placed, prefill, streaming; it owns retries and cancellation
//!  place       the endpoint pool of each model, its queue, and the slots on each worker
//!  grpc        the gRPC client of `Generate`
//!  metrics     counters of all of the above
//! ```
//!
//! Only a request with a reservation ([`inferyard_admission::ReservedRequest`]) can be dispatched.

mod quarantine;
mod upstream;
mod place;
mod grpc;
mod metrics;

pub use metrics::{ByModel, Metrics, OfModel};
pub use place::{
    DecisionLog, EndpointPool, EndpointState, Fleet, PlaceError, PlacementDecision, RecordError,
    Worker,
};
pub use quarantine::{CrashesEngine, Quarantine, Suspect};
pub use upstream::{
    Dispatch, DispatchError, Dispatcher, FinalUsage, PendingUsage, StreamError, Upstream,
    UpstreamError, UpstreamEvent,
};
