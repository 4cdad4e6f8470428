//! What a bundle remembers of its container, for who cleans up after a shim that has died.

use alloc::{format, string::String};
use rustix::fd::AsFd;
use rustix::fs::AtFlags;
use serde::{Deserialize, Serialize};
use strata_runtime::{Context, Error, Result};
use strata_sys::{Errno, file};

const NAME: &str = "strata.json";

/// `strata.json`. Members are only ever added: a later program cleans up after an earlier shim.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Record {
    /// The init.
    pub(super) pid: i32,
    /// Its start time in clock ticks since boot.
    pub(super) pid_start: u64,
    pub(super) cgroup: String,
    /// systemd's name of it, if it is systemd's.
    pub(super) unit: String,
}

/// Writes it down.
pub(super) fn save(bundle: &str, record: &Record) -> Result<()> {
    let what = || format!("write {bundle}/{NAME}");
    let text = serde_json::to_vec(record).map_err(|error| Error::State(format!("{error}")))?;
    let directory = file::open_directory(bundle).context(what)?;
    file::replace(&directory, NAME, &text, 0o600).context(what)
}

/// Reads it; `None` when no container was made.
pub(super) fn load(bundle: impl AsFd) -> Result<Option<Record>> {
    match file::read_at(bundle, NAME, 64 << 10) {
        Err(Errno::NOENT) => Ok(None),
        other => {
            let text = other.context(|| format!("read {NAME}"))?;
            let record = serde_json::from_slice(&text).map_err(|error| Error::State(format!("{NAME}: {error}")))?;
            Ok(Some(record))
        }
    }
}

/// Removes it.
pub(super) fn forget(bundle: &str) {
    // The bundle may be gone; containerd removes it anyway.
    if let Ok(directory) = file::open_directory(bundle) {
        let _ = rustix::fs::unlinkat(&directory, NAME, AtFlags::empty());
    }
}
