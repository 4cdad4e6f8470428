//! Tells when a log may have grown.

use rustix::fs::inotify;
use std::{os::fd::OwnedFd, path::Path, sync::Mutex, time::Duration};
use strata_engine::{Engine, EngineEvent};
use tokio::{io::unix::AsyncFd, sync::broadcast};

/// Pause between looks where the kernel grants no more watches.
const FALLBACK: Duration = Duration::from_millis(250);

/// Tells when a log may have grown: the file changed, was replaced, or its container ended.
pub struct LogWatcher {
    notify: Option<AsyncFd<OwnedFd>>,
    events: Mutex<broadcast::Receiver<EngineEvent>>,
}

impl LogWatcher {
    /// Watches a log file and the folder it is in (for rotation).
    pub fn new(engine: &Engine, path: &Path) -> Self {
        // SAFETY: an `OwnedFd` names the same open descriptor for as long as the `AsyncFd` owns it.
        let notify = watch(path).and_then(|fd| Ok(unsafe { AsyncFd::register(fd) }?));
        let notify = match notify {
            Ok(fd) => Some(fd),
            Err(error) => {
                tracing::debug!(%error, path = %path.display(), "no watch on a log, looking at it from time to time");
                None
            }
        };
        Self {
            notify,
            events: Mutex::new(engine.events()),
        }
    }

    /// Resolves when the log may have grown.
    pub async fn changed(&self) {
        let mut events = self.events.lock().expect("no holder of this lock panics").resubscribe();
        tokio::select! {
            () = self.notified() => {}
            _ = ended(&mut events) => {}
        }
    }

    async fn notified(&self) {
        let Some(notify) = &self.notify else {
            return tokio::time::sleep(FALLBACK).await;
        };
        let Ok(mut guard) = notify.readable().await else {
            return tokio::time::sleep(FALLBACK).await;
        };
        let mut buffer = [0; 4096];
        // What happened does not matter, only that the queue is emptied.
        while rustix::io::read(notify.get_ref(), &mut buffer).is_ok_and(|n| n > 0) {}
        guard.clear_ready();
    }
}

async fn ended(events: &mut broadcast::Receiver<EngineEvent>) {
    while let Ok(event) = events.recv().await {
        if matches!(
            event,
            EngineEvent::ContainerExited { .. } | EngineEvent::SandboxExited { .. }
        ) {
            return;
        }
    }
}

fn watch(path: &Path) -> std::io::Result<OwnedFd> {
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(&fd, path, inotify::WatchFlags::MODIFY)?;
    if let Some(folder) = path.parent() {
        inotify::add_watch(
            &fd,
            folder,
            inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::MODIFY,
        )?;
    }
    Ok(fd)
}
