//! Replacing a server's certificate before it ends, while the server runs.

use crate::{Error, Leaf};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use strata_http::ServerTls;
use tokio_util::sync::CancellationToken;

/// Longest sleep, so that a clock that jumped, or a machine that slept, is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
/// Wait before another attempt after a failure.
const RETRY: Duration = Duration::from_secs(60);

/// Renews `leaf` whenever two thirds of its life have passed, until cancelled. Connections keep the certificate they
/// were made with.
pub async fn keep_renewed(
    tls: Arc<ServerTls>,
    mut leaf: Leaf,
    issue: impl Fn() -> Result<Leaf, Error> + Send,
    cancel: CancellationToken,
) {
    loop {
        let wait = leaf
            .renew_at()
            .duration_since(SystemTime::now())
            .unwrap_or(Duration::ZERO);
        let mut pause = wait.min(LONGEST_SLEEP);
        if wait.is_zero() {
            match issue().and_then(|next| {
                Ok(tls
                    .replace_certificate(next.cert_pem.as_bytes(), next.key_pem.as_bytes())
                    .map(|()| next)?)
            }) {
                Ok(next) => {
                    leaf = next;
                    tracing::info!("server certificate renewed");
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot renew the server certificate; trying again");
                    pause = RETRY;
                }
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

#[cfg(test)]
mod tests;
