//! Why a reconcile did not come to its end.

use strata_meta::ObjectError;

/// The failure of one reconcile; it is tried again later.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request failed.
    #[error("{what}: {source}")]
    Request {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: strata_client::Error,
    },
    /// A request failed that needs no more words.
    #[error(transparent)]
    Client(#[from] strata_client::Error),
    /// An object does not have the shape its kind has.
    #[error("{key}: {source}")]
    Object {
        /// Which object.
        key: String,
        /// What is wrong with it.
        source: ObjectError,
    },
    /// A pass that could not finish and says why.
    #[error("{0}")]
    Incomplete(String),
    /// The options given at the start contradict themselves.
    #[error("controllers: {0}")]
    Options(String),
}

impl Error {
    /// Whether the object of the request was not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Request { source, .. } if source.is_not_found())
    }
}

/// Names what was tried when it fails.
pub(crate) trait During<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> During<T> for Result<T, strata_client::Error> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Request { what: what(), source })
    }
}

/// Whether a create was refused because the namespace is going away: then there is nothing to do.
pub(crate) fn namespace_is_terminating(error: &strata_client::Error) -> bool {
    error
        .status()
        .and_then(|s| s.details.as_ref())
        .is_some_and(|d| d.causes.iter().any(|c| c.reason == "NamespaceTerminating"))
}
