//! How a command fails: the sentence that is printed and the exit code.

use std::fmt;

/// A failed command.
#[derive(Debug)]
pub struct Failure {
    /// What is printed, as it stands.
    pub message: String,
    /// The exit code.
    pub code: u8,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 1,
        }
    }

    pub(crate) fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<crate::client::ClientError> for Failure {
    fn from(error: crate::client::ClientError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<strata_template::TemplateError> for Failure {
    fn from(error: strata_template::TemplateError) -> Self {
        Self::new(error.to_string())
    }
}
