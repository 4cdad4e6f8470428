//! How long a write may go on: as long as upstream's, however often others come before it.

use std::time::Duration;
use strata_meta::{Reason, Status};
use tokio::time::Instant;

/// Upstream's bound of a write, whatever the client would wait for.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(34);

/// The end of a write's time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// Of a write that begins now.
    pub(crate) fn begin() -> Self {
        Self(Instant::now() + WRITE_TIMEOUT)
    }

    /// Whether another attempt may be made. Errors: 504 when the time is over.
    pub(crate) fn check(self) -> Result<(), Status> {
        if Instant::now() < self.0 {
            Ok(())
        } else {
            Err(ran_out())
        }
    }
}

/// What the client of a write is told that took too long.
pub(crate) fn ran_out() -> Status {
    Status::failure(
        Reason::Timeout,
        "Timeout: request did not complete within requested timeout - context deadline exceeded",
    )
}
