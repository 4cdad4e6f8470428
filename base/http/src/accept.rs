//! What to do when a listener gives no connection.

use std::io;
use std::time::Duration;

/// Wait after accept fails for want of descriptors, so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(50);
/// ENFILE, EMFILE, ENOBUFS, ENOMEM: what was used up comes back.
const RESOURCES: [i32; 4] = [23, 24, 105, 12];

/// Tells errors of a connection, and of resources that come back, from those of the listener itself, which are
/// given back. Returns when it makes sense to try again.
///
/// accept(2)
pub async fn survive_accept(error: io::Error) -> io::Result<()> {
    use io::ErrorKind::{ConnectionAborted, Interrupted};
    if matches!(error.kind(), ConnectionAborted | Interrupted) {
        return Ok(());
    }
    if error.raw_os_error().is_some_and(|number| RESOURCES.contains(&number)) {
        tracing::warn!(%error, "cannot accept a connection");
        tokio::time::sleep(PAUSE).await;
        return Ok(());
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_that_is_no_more_ends_its_loop() {
        for number in [24, 103, 4] {
            assert!(
                survive_accept(io::Error::from_raw_os_error(number)).await.is_ok(),
                "{number}"
            );
        }
        // EBADF, EINVAL, ENOTSOCK
        for number in [9, 22, 88] {
            assert!(
                survive_accept(io::Error::from_raw_os_error(number)).await.is_err(),
                "{number}"
            );
        }
    }
}
