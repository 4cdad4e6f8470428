//! Whether anybody needs the daemon.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts requests under way and remembers when the last one ended.
#[derive(Default)]
pub(crate) struct Activity {
    requests: AtomicUsize,
    last: Mutex<Option<Instant>>,
}

/// One request under way.
pub(crate) struct Busy(Arc<Activity>);

impl Activity {
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Resolves once there was no request for so long and nothing else is needed either.
    pub async fn idle(&self, patience: Duration, needed: impl Fn() -> bool) {
        let mut since = Instant::now();
        loop {
            tokio::time::sleep_until((since + patience).into()).await;
            let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
            since = since.max(last.unwrap_or(since));
            if self.requests.load(Ordering::Relaxed) > 0 || needed() {
                since = Instant::now();
            } else if since.elapsed() >= patience {
                return;
            }
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}
