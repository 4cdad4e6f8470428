//! The store that survives.

use super::{
    LogOptions,
    disk::{Directory, Disk},
    files::Files,
    recover,
};
use crate::{
    Error,
    service::{Core, Served, Service},
};
use std::{path::Path, sync::Arc, thread::JoinHandle};

/// A store in a directory. Dropping it finishes what waits and lets the directory go.
pub struct LogStore {
    service: Service,
    files: Arc<Files>,
    keeper: Option<JoinHandle<()>>,
}

impl LogStore {
    /// Opens the store in a directory, making both if they are not there.
    /// Errors: `Held`, `Damaged`, `NewerFormat`, `Full`, `Io`.
    pub fn open(directory: &Path, options: LogOptions) -> Result<Self, Error> {
        Self::open_on(Arc::new(Directory::take(directory, true)?), options)
    }

    pub(super) fn open_on(disk: Arc<dyn Disk>, options: LogOptions) -> Result<Self, Error> {
        let opened = recover::open(disk, &options, recover::UPGRADES)?;
        let LogOptions {
            limits, clock, fatal, ..
        } = options;
        let files = opened.files;
        let mut state = opened.state;
        state.bound_history(limits.max_history);
        let mut core = Core::new(state, limits, clock);
        core.disk_bytes = files.disk_bytes.clone();
        let starting = |error| Error::io("starting the store's threads", error);
        let writer_failed = fatal.clone();
        let core = Arc::new(core);
        let fail = move |error: &Error| writer_failed(error);
        let service = Service::start(core, files.store, Some(opened.journal), fail).map_err(starting)?;
        let keep = {
            let (files, queue) = (files.clone(), service.queue.clone());
            move || {
                if let Err(error) = files.keep(&queue) {
                    tracing::error!(%error, "the store's files cannot be kept");
                    fatal(&error);
                    queue.close();
                }
            }
        };
        let keeper = std::thread::Builder::new()
            .name("store-keeper".to_owned())
            .spawn(keep)
            .map_err(starting)?;
        Ok(Self {
            service,
            files,
            keeper: Some(keeper),
        })
    }
}

impl Drop for LogStore {
    fn drop(&mut self) {
        self.service.stop();
        self.files.stop();
        if let Some(keeper) = self.keeper.take() {
            // Its panic was reported when it happened.
            let _ = keeper.join();
        }
    }
}

impl Served for LogStore {
    fn service(&self) -> &Service {
        &self.service
    }
}
