//! The one error of this crate.

use std::io;
use std::path::PathBuf;

/// What can go wrong with networks of plugins.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody has configured a network yet. Clients compare the first words.
    #[error("cni plugin not initialized: no network config found in {0}")]
    NotInitialized(PathBuf),
    /// A configuration that makes no sense.
    #[error("network configuration {path}: {why}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A plugin is in none of the folders.
    #[error("failed to find plugin {plugin:?} in path {folders:?}")]
    NoPlugin {
        /// Its type.
        plugin: String,
        /// Where it was looked for.
        folders: Vec<PathBuf>,
    },
    /// A plugin refused, or broke down.
    #[error("plugin type={plugin:?} failed ({command}): {why}")]
    Plugin {
        /// Its type.
        plugin: String,
        /// What it was to do, in small letters.
        command: String,
        /// The code it gave, if it gave one.
        code: Option<u64>,
        /// What it said.
        why: String,
    },
    /// A value that cannot be told to plugins.
    #[error("{0}")]
    Invalid(String),
    /// What is kept of attachments cannot be read or written.
    #[error("{path}: {source}")]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn state(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::State { path, source }
    }
}
