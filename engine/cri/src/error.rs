//! Failures as gRPC tells them.

use crate::generated::v1::AuthConfig;
use std::fmt;
use strata_engine::Error as EngineError;
use strata_http::GrpcStatus;
use strata_image::ImageError;

/// What a call leads to.
pub(crate) type Answer<T> = Result<T, GrpcStatus>;

/// Turns a failure of the layers below into a status.
pub(crate) trait OrStatus<T> {
    /// The value, or the failure with the code that clients act on.
    fn status(self) -> Answer<T>;
}

impl<T> OrStatus<T> for Result<T, EngineError> {
    fn status(self) -> Answer<T> {
        self.map_err(|error| {
            let code = match &error {
                error if error.is_not_found() => GrpcStatus::NOT_FOUND,
                EngineError::InvalidConfig(_) => GrpcStatus::INVALID_ARGUMENT,
                EngineError::WrongState { .. } | EngineError::SandboxNotReady(_) => GrpcStatus::FAILED_PRECONDITION,
                EngineError::Timeout { .. } => GrpcStatus::DEADLINE_EXCEEDED,
                EngineError::Closed => GrpcStatus::UNAVAILABLE,
                _ => GrpcStatus::UNKNOWN,
            };
            GrpcStatus::new(code, error)
        })
    }
}

impl<T> OrStatus<T> for Result<T, ImageError> {
    fn status(self) -> Answer<T> {
        self.map_err(|error| {
            let code = match &error {
                error if error.is_not_found() => GrpcStatus::NOT_FOUND,
                error if error.is_invalid_name() => GrpcStatus::INVALID_ARGUMENT,
                ImageError::InUse { .. } => GrpcStatus::FAILED_PRECONDITION,
                ImageError::Interrupted => GrpcStatus::CANCELLED,
                _ => GrpcStatus::UNKNOWN,
            };
            GrpcStatus::new(code, error)
        })
    }
}

/// A request that makes no sense.
pub(crate) fn invalid(why: impl fmt::Display) -> GrpcStatus {
    GrpcStatus::new(GrpcStatus::INVALID_ARGUMENT, why)
}

/// A part of a request that must be there.
pub(crate) fn required<T>(part: Option<T>, what: &str) -> Answer<T> {
    part.ok_or_else(|| invalid(format!("{what} is missing in the request")))
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}
