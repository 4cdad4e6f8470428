//! Serving without TLS, for addresses that nobody but this machine reaches.

use super::{Handler, Limits, Peer, accept, serve_http1};
use hyper::service::service_fn;
use std::{convert::Infallible, io, sync::Arc};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Serves HTTP/1.1 with upgrades until cancelled, then lets requests finish within the grace and returns.
///
/// Errors: when the listener itself fails.
pub async fn serve_plain(
    listener: TcpListener,
    limits: Limits,
    cancel: CancellationToken,
    handler: Arc<dyn Handler>,
) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let limits = Arc::new(limits);
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted?,
        };
        let Some((stream, address, slot)) = accepted else {
            continue;
        };
        let (handler, limits, cancel) = (handler.clone(), limits.clone(), cancel.clone());
        connections.spawn(async move {
            let _slot = slot;
            let service = service_fn(move |request| {
                let peer = Peer {
                    address,
                    certificates: None,
                    certificate_error: None,
                    proxy: None,
                    memo: Arc::default(),
                };
                let response = handler.call(request, peer);
                async move { Ok::<_, Infallible>(response.await) }
            });
            if let Err(error) = serve_http1(stream, service, &limits, &cancel).await {
                tracing::debug!(%address, %error, "connection ended");
            }
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(limits.shutdown_grace, connections.wait())
        .await
        .is_err()
    {
        tracing::debug!(
            connections = connections.len(),
            "leaving connections after the grace period"
        );
    }
    Ok(())
}
