//! What can go wrong with an image, in the words users know from upstream.

use std::{io, path::PathBuf};

/// A failed image operation. The text is a sentence that names the image and the cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The reference is not one that any registry could serve.
    #[error("failed to parse image name \"{name}\": {why}")]
    InvalidReference {
        /// The text given.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The registry says that the image or tag does not exist.
    #[error("failed to pull and unpack image \"{image}\": failed to resolve reference \"{image}\": {image}: not found")]
    NotFound {
        /// The full reference.
        image: String,
    },
    /// The registry wants other credentials, or hides that the repository does not exist.
    #[error(
        "failed to pull and unpack image \"{image}\": failed to resolve reference \"{image}\": \
         pull access denied, repository does not exist or may require authorization: {why}"
    )]
    Denied {
        /// The full reference.
        image: String,
        /// What the registry said.
        why: String,
    },
    /// The registry could not be reached or gave a useless answer, after the retries.
    #[error("failed to pull and unpack image \"{image}\": {why}")]
    Registry {
        /// The full reference.
        image: String,
        /// The request and how it ended.
        why: String,
    },
    /// The registry did not take an image.
    #[error("failed to push image \"{image}\": {why}")]
    Push {
        /// The full reference.
        image: String,
        /// What went wrong.
        why: String,
    },
    /// The registry does not know this login.
    #[error("login attempt to {registry} failed: {why}")]
    Login {
        /// The registry.
        registry: String,
        /// What it said.
        why: String,
    },
    /// The policy does not let an image in.
    #[error("image \"{image}\" is refused by the policy: {why}")]
    Refused {
        /// The full reference.
        image: String,
        /// The requirement that is not met.
        why: String,
    },
    /// A condition of a list that does not exist or cannot be met.
    #[error("invalid filter '{0}'")]
    Filter(String),
    /// An index has no image for this machine.
    #[error("failed to pull and unpack image \"{image}\": no match for platform in manifest: {platform}: not found")]
    NoPlatform {
        /// The full reference.
        image: String,
        /// Operating system and architecture that were looked for.
        platform: String,
    },
    /// A manifest, configuration or index is malformed or over its limit.
    #[error("image \"{image}\": invalid {what}: {why}")]
    Malformed {
        /// The reference or digest.
        image: String,
        /// Which document.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The content is not what its digest promises.
    #[error("image content {expected}: digest does not match, got {found}")]
    DigestMismatch {
        /// The promised digest.
        expected: String,
        /// The computed one.
        found: String,
    },
    /// A layer holds something that must not be unpacked.
    #[error("layer {layer}: entry \"{entry}\" refused: {why}")]
    HostileLayer {
        /// The layer's digest.
        layer: String,
        /// The entry's name, shortened.
        entry: String,
        /// The rule it breaks.
        why: String,
    },
    /// A layer is no valid tar stream, or its compression is broken.
    #[error("layer {layer}: {why}")]
    BrokenLayer {
        /// The layer's digest.
        layer: String,
        /// What is wrong.
        why: String,
    },
    /// An archive is neither a docker nor an OCI one, or lacks a part.
    #[error("image archive {path}: {why}")]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// No such image here.
    #[error("image \"{0}\" is not present on this node")]
    Absent(String),
    /// The image is used by containers.
    #[error("image \"{image}\" is in use by {owner}; stop and remove it first")]
    InUse {
        /// What was to be removed.
        image: String,
        /// One of the users.
        owner: String,
    },
    /// A hosts.toml file or a proxy setting cannot be used.
    #[error("registry configuration {path}: {why}")]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The store was written by a newer version.
    #[error(
        "image store {path} has format version {found}, this program knows up to {known}; use a newer program or another --data-dir"
    )]
    NewerFormat {
        /// The store's folder.
        path: PathBuf,
        /// Version on disk.
        found: u32,
        /// Newest version known.
        known: u32,
    },
    /// A file operation failed.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
    /// The work was given up because its task ended.
    #[error("image operation interrupted")]
    Interrupted,
}

impl ImageError {
    /// Whether the image certainly does not exist at the registry.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::NoPlatform { .. } | Self::Absent(_))
    }

    /// Whether the name itself is wrong, so that retrying is useless (InvalidImageName).
    pub fn is_invalid_name(&self) -> bool {
        matches!(self, Self::InvalidReference { .. })
    }

    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}
