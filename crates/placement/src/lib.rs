//! Which worker takes a request: pure, without a clock and without a network.
//!
//! A [`Pool`] is what one router knows of the workers of one model. It is told what happens (a worker
//! said how it is, a request was sent, has begun, has ended) and when, and answers where the next
//! request goes. Everything that decides is in here, so that a decision can be explained, and a
//! recording of what happened gives the same decisions again.
//!
//! ```text
//!  state     what a worker says
//!  view      one worker: its last state, the prefixes it holds, what was sent since
//!  cost      what a request would wait for there, term by term
//!  outcome   how a request ended; a worker that fails several in a row is ejected
//!  pool      all workers; the least cost wins
//!  line      who waits until there is room, and whose turn it is
//!  decision  what was considered, for people
//!  recording what happened, for files; replay decides it again
//! ```
//!
//! Times are [`Moment`]s: since any one beginning that the caller keeps to.

mod cost;
mod decision;
mod line;
mod outcome;
mod pool;
pub mod recording;
mod replay;
mod state;
mod view;
mod work;

pub use cost::{Cost, Weights};
pub use decision::{Considered, Verdict};
pub use line::{Called, Charge, Claim, Full, Joined, Line, Waiter, WaiterId};
pub use outcome::Outcome;
pub use pool::{Choice, Pool, Ticket, WorkerId};
pub use replay::{Differing, Replay, ReplayError, Report};
pub use state::{Phase, Prefixes, State};
pub use view::{Gap, Standing, View};
pub use work::{BLOCK_BYTES, Work};

/// A time: how long after a beginning that the caller chose once.
pub type Moment = std::time::Duration;
