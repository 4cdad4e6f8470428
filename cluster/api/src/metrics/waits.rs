//! How long a request waits for others: for webhooks, and for its turn.

use std::{cell::Cell, time::Duration};

tokio::task_local! {
    /// What the request that the task answers has waited.
    static WAITED: Cell<Duration>;
}

/// Adds to what the request that the task answers has waited.
pub(crate) fn add(time: Duration) {
    // What no request is answered for is nobody's wait.
    let _ = WAITED.try_with(|waited| waited.set(waited.get() + time));
}

/// Answers a request; tells what it waited.
pub(crate) async fn within<F: Future>(answering: F) -> (F::Output, Duration) {
    let scope = async {
        let output = answering.await;
        (output, WAITED.with(Cell::get))
    };
    WAITED.scope(Cell::new(Duration::ZERO), scope).await
}
