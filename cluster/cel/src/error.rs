//! Why an evaluation has no value.

use std::borrow::Cow;

/// Why an evaluation has no value; the sentence is cel-go's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EvalError {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// The sentence.
    pub message: Cow<'static, str>,
}

/// What kind of failure an evaluation met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The expression failed: no such key, division by zero …
    Failed,
    /// It cost more than it may.
    CostLimit,
    /// It was told to stop.
    Interrupted,
}

impl EvalError {
    /// The expression failed.
    pub fn failed(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind: ErrorKind::Failed,
            message: message.into(),
        }
    }

    pub(crate) fn no_such_overload() -> Self {
        Self::failed("no such overload")
    }

    pub(crate) fn cost_limit() -> Self {
        let message = "operation cancelled: actual cost limit exceeded".into();
        Self {
            kind: ErrorKind::CostLimit,
            message,
        }
    }

    pub(crate) fn interrupted() -> Self {
        Self {
            kind: ErrorKind::Interrupted,
            message: "operation interrupted".into(),
        }
    }

    /// Whether the evaluation is over, whatever short circuits there are.
    pub(crate) fn is_final(&self) -> bool {
        self.kind != ErrorKind::Failed
    }
}
