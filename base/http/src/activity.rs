//! Whether anything goes on on a connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// What goes on on a connection.
pub(crate) struct Activity {
    since: Instant,
    open: AtomicUsize,
    /// Milliseconds after `since` at which the last answer ended.
    ended: AtomicU64,
}

/// A request that is being answered, until it is dropped.
pub(crate) struct InUse(Arc<Activity>);

impl Activity {
    /// Nothing yet.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            since: Instant::now(),
            open: AtomicUsize::new(0),
            ended: AtomicU64::new(0),
        })
    }

    /// A request has come.
    pub(crate) fn begin(self: &Arc<Self>) -> InUse {
        self.open.fetch_add(1, Ordering::Relaxed);
        InUse(self.clone())
    }

    /// Requests that are being answered.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// How long nothing has gone on; zero while something does.
    fn quiet(&self) -> Duration {
        if self.open.load(Ordering::Acquire) > 0 {
            return Duration::ZERO;
        }
        let ended = Duration::from_millis(self.ended.load(Ordering::Relaxed));
        self.since.elapsed().saturating_sub(ended)
    }

    /// Resolves when nothing has gone on for that long.
    pub(crate) async fn idle(&self, time: Duration) {
        loop {
            let quiet = self.quiet();
            if quiet >= time {
                return;
            }
            tokio::time::sleep(time - quiet).await;
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let at = u64::try_from(self.0.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.ended.store(at, Ordering::Relaxed);
        self.0.open.fetch_sub(1, Ordering::Release);
    }
}
