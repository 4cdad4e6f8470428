//! What can go wrong between two ends of a connection.

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading or writing a connection failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The TLS configuration or handshake failed.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// PEM text holds no usable certificate or key.
    #[error("PEM: {0}")]
    Pem(String),
    /// A connection could not be made.
    #[error("connecting to {address}: {why}")]
    Connect {
        /// Where to.
        address: String,
        /// Why not.
        why: String,
    },
    /// HTTP failed after the connection was made.
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    /// A request that cannot be sent.
    #[error("request: {0}")]
    Request(String),
    /// The other side broke the rules of a stream protocol.
    #[error("{protocol}: {why}")]
    Protocol {
        /// `SPDY` or `WebSocket`.
        protocol: &'static str,
        /// Which rule.
        why: String,
    },
    /// Nothing happened within the deadline.
    #[error("{0} timed out")]
    Timeout(&'static str),
}

impl Error {
    pub(crate) fn spdy(why: impl Into<String>) -> Self {
        Self::Protocol {
            protocol: "SPDY",
            why: why.into(),
        }
    }

    pub(crate) fn websocket(why: impl Into<String>) -> Self {
        Self::Protocol {
            protocol: "WebSocket",
            why: why.into(),
        }
    }
}
