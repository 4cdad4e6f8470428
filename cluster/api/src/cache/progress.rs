//! How far the cache is, and waiting for it.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use strata_meta::{Reason, Revision, Status};
use tokio::sync::oneshot;

/// The applied revision and those who wait for a later one.
#[derive(Default)]
pub(crate) struct Progress {
    applied: AtomicU64,
    waiters: Mutex<Vec<(u64, oneshot::Sender<()>)>>,
}

/// Upstream waits three seconds for its cache to catch up before it says "too large resource version".
const CATCH_UP: Duration = Duration::from_secs(3);

impl Progress {
    /// The newest revision that is wholly applied.
    pub(crate) fn applied(&self) -> Revision {
        Revision(self.applied.load(Ordering::Acquire))
    }

    /// Everything up to `revision` is applied now.
    pub(crate) fn advance(&self, revision: Revision) {
        self.applied.fetch_max(revision.0, Ordering::AcqRel);
        let mut waiters = self.waiters.lock().expect("no panic under this lock");
        if waiters.is_empty() {
            return;
        }
        let mut at = 0;
        while at < waiters.len() {
            if waiters[at].0 <= revision.0 {
                let (_, waiter) = waiters.swap_remove(at);
                let _ = waiter.send(());
            } else {
                at += 1;
            }
        }
    }

    /// Waits until `revision` is applied. Errors: upstream's 504 with the cause `ResourceVersionTooLarge`.
    pub(crate) async fn reach(&self, revision: Revision) -> Result<(), Status> {
        if self.applied() >= revision {
            return Ok(());
        }
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiters = self.waiters.lock().expect("no panic under this lock");
            if self.applied() >= revision {
                return Ok(());
            }
            waiters.push((revision.0, sender));
        }
        match tokio::time::timeout(CATCH_UP, receiver).await {
            Ok(_) => Ok(()),
            Err(_) => {
                let mut waiters = self.waiters.lock().expect("no panic under this lock");
                waiters.retain(|(_, waiter)| !waiter.is_closed());
                Err(too_large(revision, self.applied()))
            }
        }
    }
}

fn too_large(asked: Revision, current: Revision) -> Status {
    let mut status = Status::failure(
        Reason::Timeout,
        format_args!("Timeout: Too large resource version: {asked}, current: {current}"),
    );
    status.details = Some(Box::new(strata_meta::StatusDetails {
        causes: vec![strata_meta::StatusCause {
            reason: "ResourceVersionTooLarge".into(),
            message: "Too large resource version".into(),
            field: String::new(),
        }],
        retry_after_seconds: 1,
        ..Default::default()
    }));
    status
}
