//! What can go wrong in the engine.

use crate::{ContainerId, SandboxId};
use std::{io, path::PathBuf, time::Duration};

/// A failed engine operation. The text is a sentence that says what failed and why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No sandbox of that identity.
    #[error("sandbox {0} not found")]
    SandboxNotFound(SandboxId),
    /// No container of that identity.
    #[error("container {0} not found")]
    ContainerNotFound(ContainerId),
    /// The sandbox was stopped or lost.
    #[error("sandbox {0} is not running")]
    SandboxNotReady(SandboxId),
    /// The container is not in the state that the operation needs.
    #[error("container {id} is {state}, not {wanted}")]
    WrongState {
        /// The container.
        id: ContainerId,
        /// Its state.
        state: &'static str,
        /// The state needed.
        wanted: &'static str,
    },
    /// The configuration cannot be carried out.
    #[error("{0}")]
    InvalidConfig(String),
    /// The container's process could not be made or started: the command is missing, a mount
    /// failed, and so on. The runtime's own sentence.
    #[error("failed to {what}: {why}")]
    Runtime {
        /// What was attempted.
        what: &'static str,
        /// The runtime's sentence.
        why: String,
    },
    /// The pod network could not be set up.
    #[error("failed to set up the network of sandbox {id}: {why}")]
    Network {
        /// The sandbox.
        id: SandboxId,
        /// The cause.
        why: String,
    },
    /// The shim is gone or does not answer.
    #[error("shim of sandbox {id}: {why}")]
    Shim {
        /// The sandbox.
        id: SandboxId,
        /// The cause.
        why: String,
    },
    /// The command ran longer than allowed and was killed.
    #[error("command {command:?} timed out after {after:?}")]
    Timeout {
        /// Its words.
        command: Vec<String>,
        /// The time it had.
        after: Duration,
    },
    /// The image store failed.
    #[error(transparent)]
    Image(#[from] strata_image::ImageError),
    /// A port of a pod could not be reached.
    #[error("failed to connect to port {port} inside namespace of sandbox {id}: {source}")]
    Dial {
        /// The sandbox.
        id: SandboxId,
        /// The port.
        port: u16,
        /// How it failed.
        source: io::Error,
    },
    /// The state on disk was written by a newer version.
    #[error(
        "engine state {path} has format version {found}, this program knows up to {known}; use a newer program or another --data-dir"
    )]
    NewerFormat {
        /// The folder.
        path: PathBuf,
        /// Version on disk.
        found: u32,
        /// Newest version known.
        known: u32,
    },
    /// A file operation failed.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
    /// The engine is shutting down.
    #[error("the engine is shutting down")]
    Closed,
}

impl Error {
    /// Whether the container or sandbox does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::SandboxNotFound(_) | Self::ContainerNotFound(_))
    }

    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}
