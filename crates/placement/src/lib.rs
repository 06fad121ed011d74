//! Chooses the worker of each request; pure code, without a clock and without I/O.
//!
//! A [`Pool`] holds what one router knows of the workers of one model. The caller reports events with their time (a
//! worker sent a state; a request was sent, has its first token, has ended), and asks where the next request goes.
//! All inputs of a decision pass through the pool, so a decision can be explained, and replaying a recording of the
//! events gives the same decisions.
//!
//! ```text
//!  state     what a worker reports
//!  snapshot  one worker: its last state, its prefixes, and requests not yet in that state
//!  cost      the expected wait of a request on a worker, term by term
//!  outcome   how a request ended; several failures in a row eject the worker
//!  pool      all workers; the lowest cost wins
//!  queue     requests that wait for room, and which one is next
//!  decision  the workers that were considered, for explanations
//!  recording the events as JSON lines; replay decides them again
//! ```
//!
//! Times are [`Moment`]s: durations since one origin that the caller chooses.

mod cost;
mod decision;
mod lengths;
mod queue;
mod outcome;
mod pool;
pub mod recording;
mod replay;
mod state;
mod snapshot;
mod work;

pub use cost::{Cost, Weights};
pub use decision::{Candidate, Verdict};
pub use lengths::PromptLengths;
pub use outcome::Outcome;
pub use pool::{Pool, Selection, Ticket, WorkerId};
pub use queue::{Charge, Dequeued, Joined, Queue, QueueFull, QueuePolicy, Waiter, WaiterId};
pub use replay::{Differing, Replay, ReplayError, Report};
pub use snapshot::{EndpointState, Gap, WorkerSnapshot};
pub use state::{Phase, Prefixes, State};
pub use work::{BLOCK_BYTES, Work};

/// A time, as the duration since an origin that the caller chose once.
pub type Moment = std::time::Duration;
