//! What a name stands for at its registry, without fetching it.

use crate::manifest::media_type;
use crate::pull::parse_manifest;
use crate::{Credentials, Digest, ImageError, ImageStore, Platform, Reference};

/// A manifest or an index at a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Media type of the document.
    pub media_type: String,
    /// Digest of the document.
    pub digest: Digest,
    /// Bytes of the document.
    pub size: u64,
    /// What its images are for.
    pub platforms: Vec<Platform>,
}

impl ImageStore {
    /// Asks the registry of a name what the name stands for.
    pub async fn describe(&self, name: &str, credentials: Option<Credentials>) -> Result<Described, ImageError> {
        let reference: Reference = name.parse()?;
        // Nothing is added, so the lock is given back at once.
        let (_, registry) = self.registry(reference.clone(), credentials, "pull").await?;
        let (body, digest) = registry.manifest(&reference.selector()).await?;
        let document = parse_manifest(name, &body)?;
        let platforms = match &document.config {
            None => document
                .manifests
                .iter()
                .filter_map(|one| one.platform.clone())
                .collect(),
            Some(config) => {
                let body = registry.small_blob(config.digest).await?;
                let platform = serde_json::from_slice(&body).map_err(|error| ImageError::Malformed {
                    image: name.to_owned(),
                    what: "configuration",
                    why: error.to_string(),
                })?;
                vec![platform]
            }
        };
        Ok(Described {
            media_type: media_type(&document),
            digest,
            size: body.len() as u64,
            platforms,
        })
    }
}
