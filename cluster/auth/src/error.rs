//! What can go wrong in this crate.

use std::path::PathBuf;

/// An error of keys, certificates, tokens or kubeconfig files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path}: {why}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate or key could not be made.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A request for a certificate is not acceptable.
    #[error("certificate signing request: {0}")]
    Request(String),
    /// A token could not be signed.
    #[error("signing a token failed")]
    Signing,
    /// TLS refuses a certificate.
    #[error(transparent)]
    Tls(#[from] strata_http::Error),
}

/// Why a token is not believed. Says nothing about the token's content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Not a token of this cluster's issuer.
    #[error("not a token of this issuer")]
    Foreign,
    /// Damaged, too long, or signed by somebody else.
    #[error("token is malformed: {0}")]
    Malformed(&'static str),
    /// The signature is not ours.
    #[error("go-jose/go-jose: error in cryptographic primitive")]
    Signature,
    /// It was valid once.
    #[error("service account token has expired")]
    Expired,
    /// It will be valid.
    #[error("service account token is not valid yet")]
    NotYetValid,
    /// It is for somebody else.
    #[error(
        "token audiences {} is invalid for the target audiences {}",
        listed(found),
        listed(wanted)
    )]
    Audience {
        /// Whom it is for.
        found: Vec<String>,
        /// Whom it should be for.
        wanted: Vec<String>,
    },
    /// What it is bound to is gone.
    #[error("{0}")]
    Invalidated(String),
}

/// Texts as Go lists them.
fn listed(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", quoted.join(" "))
}
