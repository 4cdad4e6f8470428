//! Why a volume cannot be provided.

use std::path::PathBuf;

/// Why a volume cannot be provided; the text becomes part of a FailedMount event.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A config map or secret that is not optional does not exist.
    #[error("{kind} \"{name}\" not found")]
    NotFound {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// An object does not have a key that is asked for.
    #[error("references non-existent {kind} key: {key}")]
    KeyNotFound {
        /// `config` or `secret`.
        kind: &'static str,
        /// The key.
        key: String,
    },
    /// The same, asked for by an environment variable.
    #[error("couldn't find key {key} in {kind} {object}")]
    EnvKey {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// The key.
        key: String,
        /// Namespace and name.
        object: String,
    },
    /// A file path that leaves the volume.
    #[error("invalid path {0:?}: must be relative and may not contain '..'")]
    Path(String),
    /// A hostPath that is not what its type says.
    #[error("hostPath type check failed: {path} is not {expected}")]
    HostPathType {
        /// The path.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
    },
    /// A claim that stands for nothing that can be used.
    #[error("error processing PVC {claim}: {why}")]
    Claim {
        /// Its namespace and name.
        claim: String,
        /// Why not.
        why: String,
    },
    /// A persistent volume that cannot be provided here.
    #[error("{0}")]
    Persistent(String),
    /// A source this version does not provide.
    #[error("volume {0:?} has a source that is not supported")]
    Unsupported(String),
    /// The API did not answer as expected.
    #[error("{0}")]
    Api(#[from] strata_client::Error),
    /// An object of the API did not have the expected shape.
    #[error("{0}")]
    Object(#[from] strata_meta::ObjectError),
    /// Data that is not base64.
    #[error("secret data of key {0:?} is not base64")]
    Base64(String),
    /// A field reference that means nothing.
    #[error("unsupported fieldPath: {0}")]
    FieldPath(String),
    /// The file system refused.
    #[error("{what} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer.
        source: std::io::Error,
    },
    /// A blocking task was ended.
    #[error("cancelled")]
    Cancelled,
}

impl VolumeError {
    pub(crate) fn io(what: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}
