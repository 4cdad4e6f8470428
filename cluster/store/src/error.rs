//! Why a store refuses.

use crate::{KeyValue, LeaseId};
use std::{io, path::PathBuf};
use strata_meta::Revision;

/// Every way in which a store operation fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key's state is not what the write expected.
    #[error("the key was changed by another writer")]
    Conflict {
        /// The key as it is.
        current: Option<KeyValue>,
    },
    /// The revision's history is gone.
    #[error("required revision has been compacted; the oldest kept is {compacted}")]
    Compacted {
        /// The oldest revision that can be read.
        compacted: Revision,
    },
    /// The revision does not exist yet.
    #[error("required revision {requested} is in the future; the latest is {current}")]
    FutureRevision {
        /// What was asked for.
        requested: Revision,
        /// The latest.
        current: Revision,
    },
    /// The watcher fell behind the kept history.
    #[error("watcher at revision {at} was too slow; history before {compacted} is gone")]
    SlowWatcher {
        /// The last revision delivered to it.
        at: Revision,
        /// The oldest revision that can be read.
        compacted: Revision,
    },
    /// A value that those who wrote it cannot have written, or whose key is not known.
    #[error("{key} cannot be read: {why}")]
    Unreadable {
        /// Where it is.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// A value that cannot be encrypted now; nothing was changed.
    #[error("{0}")]
    Unsealed(String),
    /// No such lease, or it has expired.
    #[error("lease {0:?} does not exist")]
    LeaseNotFound(LeaseId),
    /// A key, value or number of leases above its limit.
    #[error("{what} of {size} exceeds the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// No room for the write; nothing was changed.
    #[error("the store is full: {why}")]
    Full {
        /// What is full and what to do.
        why: String,
    },
    /// The store was closed, or ended by an earlier I/O error.
    #[error("the store is closed")]
    Closed,
    /// Another server has the directory open.
    #[error("{} is held by another server{}", directory.display(), pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Held {
        /// The directory.
        directory: PathBuf,
        /// Its process, if it said so.
        pid: Option<u32>,
    },
    /// A file operation failed.
    #[error("{action}: {source}")]
    Io {
        /// What was being done, with the file's name.
        action: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A file does not hold what was written to it.
    #[error("{file} is damaged at offset {offset}: {why}")]
    Damaged {
        /// The file.
        file: String,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong there.
        why: String,
    },
    /// The files were written by a newer version.
    #[error("the data is of format {found}, this program knows formats up to {supported}: use a newer version")]
    NewerFormat {
        /// The format of the files.
        found: u32,
        /// The newest that this program reads.
        supported: u32,
    },
    /// Restoring into a directory that holds something.
    #[error("{} is not empty", directory.display())]
    NotEmpty {
        /// The directory.
        directory: PathBuf,
    },
}

impl Error {
    pub(crate) fn io(action: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            action: action.into(),
            source,
        }
    }

    pub(crate) fn damaged(file: &str, offset: u64, why: impl Into<String>) -> Self {
        Self::Damaged {
            file: file.to_owned(),
            offset,
            why: why.into(),
        }
    }

    /// Whether the disk has no room.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Io { source, .. } => is_no_space(source),
            _ => false,
        }
    }
}

pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
