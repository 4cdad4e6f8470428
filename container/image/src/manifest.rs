//! Manifests and configurations that are made here.

use crate::Digest;
use crate::layer::{Blob, Compression};
use serde_json::{Value, json};

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG_PREFIX: &str = "application/vnd.docker.";

/// The manifest of an image made of these layers, the same every time.
pub(crate) fn image_manifest(config: Digest, config_size: u64, layers: &[Blob]) -> Vec<u8> {
    let layers: Vec<Value> = layers
        .iter()
        .map(|layer| json!({"mediaType": layer_type(layer.compression), "digest": layer.digest, "size": layer.size}))
        .collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": config, "size": config_size},
        "layers": layers});
    manifest.to_string().into_bytes()
}

fn layer_type(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "application/vnd.oci.image.layer.v1.tar",
        Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    }
}

/// What a manifest is; one that does not say is known by what is in it.
pub(crate) fn media_type(manifest: &crate::config::ManifestDocument) -> String {
    if !manifest.media_type.is_empty() {
        return manifest.media_type.clone();
    }
    let docker = manifest
        .config
        .as_ref()
        .is_some_and(|config| config.media_type.starts_with(DOCKER_CONFIG_PREFIX));
    match (&manifest.config, docker) {
        (None, _) => OCI_INDEX,
        (Some(_), true) => DOCKER_MANIFEST,
        (Some(_), false) => OCI_MANIFEST,
    }
    .to_owned()
}
