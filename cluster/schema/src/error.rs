//! The crate's errors; the sentences are those clients of upstream see.

/// Why a body or a patch was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are not JSON.
    #[error("{0}")]
    Syntax(String),
    /// A value has a wrong type or a malformed content.
    #[error("{0}")]
    Type(String),
    /// A strategic merge patch that means nothing.
    #[error("{0}")]
    Patch(String),
    /// The bytes are not the protobuf form of the kind.
    #[error("protobuf: {0}")]
    Protobuf(String),
    /// The table has no such kind.
    #[error("no kind {0:?} is registered")]
    UnknownKind(String),
}
