//! What a client of the API is told when something fails.

use http::StatusCode;

/// A refused or failed request: the status and the sentence that clients print.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    pub status: StatusCode,
    pub message: String,
}

/// The result of a request.
pub(crate) type Answer<T> = Result<T, ApiError>;

impl ApiError {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub fn no_container(name: &str) -> Self {
        Self::not_found(format!("No such container: {name}"))
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// Nothing to do: the answer has no body.
    pub fn not_modified() -> Self {
        Self::new(StatusCode::NOT_MODIFIED, "")
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    pub fn unsupported(what: &str) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, format!("{what} is not supported"))
    }

    pub fn io(what: &str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let sentence = format!("{what} {}", path.display());
        move |error| Self::internal(format!("{sentence}: {error}"))
    }
}

impl From<strata_engine::Error> for ApiError {
    fn from(error: strata_engine::Error) -> Self {
        let status = match &error {
            strata_engine::Error::InvalidConfig(_) => StatusCode::BAD_REQUEST,
            error if error.is_not_found() => StatusCode::NOT_FOUND,
            strata_engine::Error::WrongState { .. } => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl From<strata_image::ImageError> for ApiError {
    fn from(error: strata_image::ImageError) -> Self {
        let status = match &error {
            strata_image::ImageError::InvalidReference { name, why } => return Self::invalid(misnamed(name, why)),
            strata_image::ImageError::Filter(_) => StatusCode::BAD_REQUEST,
            error if error.is_not_found() => StatusCode::NOT_FOUND,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

/// In the words by which clients know it.
fn misnamed(name: &str, why: &str) -> String {
    const FORM: &str = "invalid reference format";
    match why {
        why if why.ends_with(FORM) => FORM.to_owned(),
        "repository name must be lowercase" => format!("{FORM}: repository name ({name}) must be lowercase"),
        why => format!("{FORM}: {why}"),
    }
}

impl From<strata_net::Error> for ApiError {
    fn from(error: strata_net::Error) -> Self {
        Self::internal(error.to_string())
    }
}

/// Runs blocking work off the async workers.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Answer<T> + Send + 'static) -> Answer<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(_) => Err(ApiError::internal("the engine is shutting down")),
    }
}
