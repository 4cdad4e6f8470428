//! Room on a node's disk: images that no container uses go when it fills up.

use std::time::Duration;
use strata_image::{CollectPolicy, ImageStore};
use tokio_util::sync::CancellationToken;

/// How often the disk is looked at, as the kubelet does.
const PERIOD: Duration = Duration::from_secs(5 * 60);

/// Looks after the disk until it is told to stop.
pub async fn keep(images: ImageStore, cancel: CancellationToken) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.tick().await;
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let store = images.clone();
        match tokio::task::spawn_blocking(move || store.collect(&CollectPolicy::default())).await {
            Ok(Ok(done)) if done.missing > 0 => tracing::warn!(
                missing = done.missing,
                freed = done.removed.freed,
                "the disk is fuller than it should be, and no more images can go"
            ),
            Ok(Ok(done)) if !done.removed.deleted.is_empty() => {
                tracing::info!(images = ?done.removed.untagged, freed = done.removed.freed, "removed unused images");
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "could not make room on the images' disk"),
            Err(error) => tracing::warn!(%error, "making room on the images' disk ended early"),
        }
    }
}
