//! What goes wrong with containers.

use alloc::string::String;
use strata_sys::{Errno, describe};

/// An error of this crate.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The kernel or the file system refused.
    #[error("{what}: {}", describe(*errno))]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        errno: Errno,
    },
    /// The kernel or the file system refused, in another process.
    #[error("{0}")]
    Elsewhere(String),
    /// The command cannot be run: not found, not executable, no such user or directory.
    #[error("{0}")]
    Command(String),
    /// The configuration makes no sense or asks for what is not supported.
    #[error("{0}")]
    Invalid(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The name is taken.
    #[error("{0}")]
    Exists(String),
    /// Not possible in the present state.
    #[error("{0}")]
    State(String),
}

/// A result with this crate's error.
pub type Result<T> = core::result::Result<T, Error>;

/// Adds what was tried to the kernel's error.
pub trait Context<T> {
    /// The error is `what: errno's sentence`; `what` is computed only when needed.
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Context<T> for strata_sys::Result<T> {
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| Error::System {
            what: what().into(),
            errno,
        })
    }
}

impl Error {
    /// The error in one byte, to carry it between processes.
    pub(crate) fn kind(&self) -> u8 {
        match self {
            Error::System { .. } | Error::Elsewhere(_) => b's',
            Error::Command(_) => b'c',
            Error::Invalid(_) => b'i',
            Error::NotFound(_) => b'n',
            Error::Exists(_) => b'e',
            Error::State(_) => b't',
        }
    }

    /// The error that [`Error::kind`] and its text stood for; a system error loses its number.
    pub(crate) fn from_kind(kind: u8, text: String) -> Self {
        match kind {
            b'c' => Error::Command(text),
            b'i' => Error::Invalid(text),
            b'n' => Error::NotFound(text),
            b'e' => Error::Exists(text),
            b't' => Error::State(text),
            // A system error's text already ends with its sentence.
            _ => Error::Elsewhere(text),
        }
    }
}
