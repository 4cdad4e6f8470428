//! Why a measurement could not be made, in one sentence.

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Said by this program.
    #[error("{0}")]
    Said(String),
    /// Files and processes.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A system call.
    #[error("{0}")]
    System(#[from] rustix::io::Errno),
    /// A connection.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// TLS.
    #[error("{0}")]
    Tls(#[from] strata_http::Error),
    /// Certificates.
    #[error("{0}")]
    Certificates(#[from] strata_auth::Error),
    /// An answer that is no JSON.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

/// The result of most functions here.
pub type Outcome<T = ()> = Result<T, Failure>;

/// A failure said by this program.
pub fn fail<T>(sentence: impl Into<String>) -> Outcome<T> {
    Err(Failure::Said(sentence.into()))
}
