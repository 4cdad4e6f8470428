//! Room on a node's disk: images that no container uses go when it fills up.

use std::time::Duration;
use strata_agent::Configuration;
use strata_image::{CollectPolicy, ImageStore};
use tokio_util::sync::CancellationToken;

/// How often the disk is looked at, as the kubelet does.
const PERIOD: Duration = Duration::from_secs(5 * 60);

/// When images go, as a node's settings have it.
pub fn policy(configuration: &Configuration) -> CollectPolicy {
    let oldest = configuration.image_maximum_gc_age;
    CollectPolicy {
        high_percent: configuration.image_gc_high_threshold_percent,
        low_percent: configuration.image_gc_low_threshold_percent,
        minimum_age: configuration.image_minimum_gc_age.get(),
        maximum_age: (!oldest.is_zero()).then(|| oldest.get()),
    }
}

/// Looks after the disk until it is told to stop.
pub async fn keep(images: ImageStore, policy: CollectPolicy, cancel: CancellationToken) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.tick().await;
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let store = images.clone();
        match tokio::task::spawn_blocking(move || store.collect(&policy)).await {
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
