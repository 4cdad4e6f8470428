//! What can go wrong when speaking to the API.

use strata_meta::{ObjectError, Status};

/// The failure of one API request.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The server answered with a failure.
    #[error("{0}")]
    Status(Box<Status>),
    /// No answer came: connecting, TLS, reading, or a deadline.
    #[error("{0}")]
    Transport(String),
    /// The answer could not be understood.
    #[error("decoding the server's answer: {0}")]
    Decode(String),
    /// The caller or the server is stopping.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// The server's status, if it answered.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Status(status) => Some(status),
            _ => None,
        }
    }

    /// No such object.
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(Status::is_not_found)
    }

    /// A write on an outdated state.
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(Status::is_conflict)
    }

    /// The name is taken.
    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(Status::is_already_exists)
    }

    /// The revision or continue token is no longer kept.
    pub fn is_expired(&self) -> bool {
        self.status().is_some_and(Status::is_expired)
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl From<ObjectError> for Error {
    fn from(error: ObjectError) -> Self {
        Self::Decode(error.to_string())
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Decode(error.to_string())
    }
}
