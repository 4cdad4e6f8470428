//! What refers to an image: signatures, attestations, bills of materials (OCI distribution v1.1).

use crate::config::{Descriptor, ManifestDocument};
use crate::registry::Registry;
use crate::{Credentials, Digest, ImageError, ImageStore};
use std::collections::BTreeMap;

/// A manifest whose subject is an image.
#[derive(Clone, Debug)]
pub struct Referrer {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// What kind of manifest it is.
    pub media_type: String,
    /// What it is about.
    pub artifact_type: String,
    /// Further facts.
    pub annotations: BTreeMap<String, String>,
}

impl Registry {
    /// What refers to a manifest; by the tag `sha256-DIGEST` where the registry has no such list.
    pub async fn referrers(&self, digest: Digest, artifact_type: Option<&str>) -> Result<Vec<Referrer>, ImageError> {
        let mut tail = format!("referrers/{digest}");
        if let Some(wanted) = artifact_type {
            tail.push_str(&format!("?artifactType={wanted}").replace('+', "%2B"));
        }
        let mut found: Vec<Descriptor> = Vec::new();
        let listed = self
            .pages(&tail, crate::manifest::OCI_INDEX, |page: ManifestDocument| {
                found.extend(page.manifests);
                found.len()
            })
            .await;
        match listed {
            Ok(()) => {}
            // A registry that does not know the list, or knows it by another answer than 404.
            Err(error) if error.is_not_found() || matches!(error, ImageError::Registry { .. }) => {
                let tag = format!("sha256-{}", digest.hex());
                match self.manifest(&tag).await {
                    Ok((body, _)) => found = crate::pull::parse_manifest(&tag, &body)?.manifests,
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
        // A registry need not filter.
        found.retain(|item| artifact_type.is_none_or(|wanted| item.artifact_type == wanted));
        Ok(found
            .into_iter()
            .map(|item| Referrer {
                digest: item.digest,
                size: item.size,
                media_type: item.media_type,
                artifact_type: item.artifact_type,
                annotations: item.annotations,
            })
            .collect())
    }
}

impl ImageStore {
    /// What refers to an image of a registry, named by tag or digest.
    pub async fn referrers(
        &self,
        name: &str,
        auth: Option<Credentials>,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Referrer>, ImageError> {
        let reference: crate::Reference = name.parse()?;
        let (_, registry) = self.registry(reference.clone(), auth, "pull").await?;
        let digest = match reference.digest {
            Some(digest) => digest,
            None => registry.manifest(&reference.selector()).await?.1,
        };
        registry.referrers(digest, artifact_type).await
    }
}
