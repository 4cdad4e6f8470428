//! The sentence a failed command ends with.

use std::fmt;

/// A failed command: what failed, why, and what to do. Printed on one line; exit code 1.
#[derive(Debug)]
pub struct Failure(pub String);

/// The result of a command.
pub type Outcome<T = ()> = Result<T, Failure>;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.replace('\n', "; "))
    }
}

/// Adds what was being done to an error.
pub trait During<T> {
    /// `what` begins the sentence: "opening the store".
    fn during(self, what: impl fmt::Display) -> Outcome<T>;
}

impl<T, E: fmt::Display> During<T> for Result<T, E> {
    fn during(self, what: impl fmt::Display) -> Outcome<T> {
        self.map_err(|e| Failure(format!("{what}: {e}")))
    }
}

/// A failure with that sentence.
pub fn fail<T>(sentence: impl Into<String>) -> Outcome<T> {
    Err(Failure(sentence.into()))
}
