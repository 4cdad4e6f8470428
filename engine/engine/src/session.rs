//! Streams into a running container.

use crate::Error;
use futures::future::BoxFuture;
use std::{sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};

/// Sets a terminal's size: columns, rows. Clones may outlive the session.
pub type Resizer = Arc<dyn Fn(u16, u16) -> BoxFuture<'static, Result<(), Error>> + Send + Sync>;

/// What to run in a container, and which of its streams are wanted.
#[derive(Clone, Debug, Default)]
pub struct ExecOptions {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Whether it gets a terminal; then there is no stderr.
    pub tty: bool,
    /// Whether standard input is wanted.
    pub stdin: bool,
    /// Whether standard output is wanted.
    pub stdout: bool,
    /// Whether standard error is wanted.
    pub stderr: bool,
    /// Added to the container's environment, as `NAME=value`.
    pub env: Vec<String>,
    /// Replaces the container's user: name or number, with `:group` if wanted.
    pub user: Option<String>,
    /// Replaces the container's working directory.
    pub working_dir: Option<String>,
    /// With every capability.
    pub privileged: bool,
}

/// Which streams of the container's own process are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttachOptions {
    /// Whether standard input is wanted.
    pub stdin: bool,
    /// Whether standard output is wanted.
    pub stdout: bool,
    /// Whether standard error is wanted.
    pub stderr: bool,
}

/// A running exec or attach. Dropping the streams of an exec sends its process the hangup that
/// closed pipes mean; dropping an attach leaves the container alone.
pub struct ExecSession {
    /// Standard input; drop it to close it.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Standard output, or the terminal.
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Standard error; none with a terminal.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    pub(crate) resize: Resizer,
    pub(crate) exit: BoxFuture<'static, Result<i32, Error>>,
}

impl ExecSession {
    /// Sets the terminal's size in characters. A clone of the returned function may outlive a
    /// borrow of the session.
    pub fn resizer(&self) -> Resizer {
        Arc::clone(&self.resize)
    }

    /// Sets the terminal's size in characters.
    pub async fn resize(&self, width: u16, height: u16) -> Result<(), Error> {
        (self.resize)(width, height).await
    }

    /// Waits for the end of the process and gives its exit code (128 + signal if one ended it).
    pub async fn wait(self) -> Result<i32, Error> {
        self.exit.await
    }

    /// Takes the session apart, so that streams and end can be waited for side by side.
    pub fn into_parts(self) -> SessionParts {
        SessionParts {
            stdin: self.stdin,
            stdout: self.stdout,
            stderr: self.stderr,
            resize: self.resize,
            exit: self.exit,
        }
    }
}

/// The pieces of an [`ExecSession`].
pub struct SessionParts {
    /// Standard input; drop it to close it.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Standard output, or the terminal.
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Standard error; none with a terminal.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Sets the terminal's size: columns, rows.
    pub resize: Resizer,
    /// Resolves with the exit code.
    pub exit: BoxFuture<'static, Result<i32, Error>>,
}

/// How a command ended and what it wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecResult {
    /// Exit code; 128 + the signal if one ended it.
    pub exit_code: i32,
    /// At most [`ExecResult::MAX_OUTPUT`] bytes; what came after is dropped.
    pub stdout: Vec<u8>,
    /// At most [`ExecResult::MAX_OUTPUT`] bytes; what came after is dropped.
    pub stderr: Vec<u8>,
}

impl ExecResult {
    /// Bytes kept of each output stream.
    pub const MAX_OUTPUT: usize = 16 << 20;
}

/// Time a whole exec_sync may take if the caller names none.
pub const NO_TIMEOUT: Duration = Duration::MAX;
