//! Memory that was needed once goes back to the system.
//!
//! The C library's allocator keeps what was freed. After a large answer, such as the OpenAPI document of hundreds of
//! definitions, that is many times what the server holds.

use std::time::Duration;
use strata_task::CancellationToken;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(30);
/// What may lie idle: giving back less is not worth the walk through all of it.
const IDLE: usize = 16 << 20;

/// Gives back what lies idle, until cancelled.
pub(crate) async fn give_back(cancel: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = tick.tick() => {}
        }
        // The walk takes milliseconds for hundreds of megabytes, so it is no matter for a worker.
        let walked = tokio::task::spawn_blocking(trim).await;
        if let Ok(Some(idle)) = walked {
            tracing::debug!(idle, "gave idle memory back");
        }
    }
}

/// Gives back idle pages; how many bytes lay idle, if that was worth it.
fn trim() -> Option<usize> {
    // SAFETY: it takes nothing and only reads the allocator's own counters, under its own locks.
    let idle = unsafe { libc::mallinfo2() }.fordblks;
    if idle < IDLE {
        return None;
    }
    // SAFETY: it takes a number and releases pages that hold no live allocation, under the allocator's own locks.
    unsafe { libc::malloc_trim(0) };
    Some(idle)
}
