//! How long a request waits for others, for webhooks and for its turn, and until when it may.

use futures::FutureExt;
use std::{
    cell::Cell,
    time::{Duration, Instant},
};

#[derive(Default)]
struct Waits {
    waited: Cell<Duration>,
    deadline: Cell<Option<Instant>>,
    body: Cell<Option<usize>>,
}

tokio::task_local! {
    /// What the request that the task answers has waited.
    static WAITS: Waits;
}

/// Adds to what the request that the task answers has waited.
pub(crate) fn add(time: Duration) {
    // What no request is answered for is nobody's wait.
    let _ = WAITS.try_with(|waits| waits.waited.set(waits.waited.get() + time));
}

/// Says how large the body was of the request that the task answers.
pub(crate) fn body(bytes: usize) {
    let _ = WAITS.try_with(|waits| waits.body.set(Some(bytes)));
}

/// Says until when the request that the task answers is answered.
pub(crate) fn end_at(deadline: Instant) {
    let _ = WAITS.try_with(|waits| waits.deadline.set(Some(deadline)));
}

/// What is left of the time of the request that the task answers, if that is bounded.
pub(crate) fn left() -> Option<Duration> {
    let deadline = WAITS.try_with(|waits| waits.deadline.get()).ok().flatten()?;
    Some(deadline.saturating_duration_since(Instant::now()))
}

/// Answers a request; tells what it waited, and the size of its body if that was read. (No `async fn`: that would hold
/// the large future twice.)
pub(crate) fn within<F: Future>(answering: F) -> impl Future<Output = (F::Output, Duration, Option<usize>)> {
    let told = answering.map(|output| WAITS.with(|waits| (output, waits.waited.get(), waits.body.get())));
    WAITS.scope(Waits::default(), told)
}
