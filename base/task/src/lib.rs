//! Cancellation, backoff and clocks: the concurrency vocabulary of every daemon part.
//!
//! Not for: work queues of API objects (those are in `strata-client`) or anything that
//! does I/O.
//!
//! Start at [`CancellationToken`], which every long-lived task takes, then [`Backoff`]
//! for retries and [`Clock`] for decisions about time that a test must control.

mod backoff;
mod clock;

pub use backoff::Backoff;
pub use clock::{Clock, SystemClock, TestClock};
pub use tokio_util::sync::{CancellationToken, DropGuard};
pub use tokio_util::task::TaskTracker;
