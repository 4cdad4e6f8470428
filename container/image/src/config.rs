//! The documents of an image: manifest, index and configuration, OCI's and docker's alike.

use crate::Digest;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// What an image says about the processes that run from it (OCI image-spec config.md).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// First words of the command line; replaced by a container's `command`.
    #[serde(deserialize_with = "null_is_default")]
    pub entrypoint: Vec<String>,
    /// Following words; replaced by a container's `args`, dropped with its `command`.
    #[serde(deserialize_with = "null_is_default")]
    pub cmd: Vec<String>,
    /// `NAME=value` lines.
    #[serde(deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// `user`, `uid`, `user:group` or `uid:gid`; empty is root.
    #[serde(deserialize_with = "null_is_default")]
    pub user: String,
    /// Absolute; empty is `/`.
    #[serde(deserialize_with = "null_is_default")]
    pub working_dir: String,
    /// Paths that get an anonymous volume.
    #[serde(deserialize_with = "set_of_keys", serialize_with = "keys_of_set")]
    pub volumes: Vec<String>,
    /// Name or number; empty is SIGTERM.
    #[serde(deserialize_with = "null_is_default")]
    pub stop_signal: String,
    /// `port/protocol` texts.
    #[serde(deserialize_with = "set_of_keys", serialize_with = "keys_of_set")]
    pub exposed_ports: Vec<String>,
    /// Free-form facts.
    #[serde(deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
}

/// Operating system and processor, in Go's names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, ….
    pub architecture: String,
    /// `v8`, ….
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// The machine this program was built for.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: String::new(),
        }
    }

    /// Whether something built for `other` runs here.
    pub(crate) fn runs(&self, other: &Platform) -> bool {
        let baseline = |p: &Platform| match (p.architecture.as_str(), p.variant.as_str()) {
            ("arm64", "v8" | "8") | ("amd64", "v1") => String::new(),
            (_, variant) => variant.to_owned(),
        };
        self.os == other.os && self.architecture == other.architecture && baseline(self) == baseline(other)
    }
}

impl std::str::FromStr for Platform {
    type Err = String;

    /// `os[/architecture[/variant]]`, or an architecture alone.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<String> = text.split('/').map(str::to_lowercase).collect();
        let valid = |part: &String| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        if !parts.iter().all(valid) || parts.len() > 3 {
            return Err(format!(
                "\"{text}\" is an invalid platform: it must be os/architecture/variant"
            ));
        }
        let host = Self::host();
        let (os, architecture, variant) = match parts.as_slice() {
            [os] if matches!(os.as_str(), "linux" | "windows" | "darwin" | "freebsd") => {
                (os.clone(), host.architecture, String::new())
            }
            [architecture] => (host.os, architecture.clone(), String::new()),
            [os, architecture] => (os.clone(), architecture.clone(), String::new()),
            [os, architecture, variant, ..] => (os.clone(), architecture.clone(), variant.clone()),
            [] => (host.os, host.architecture, String::new()),
        };
        let architecture = match architecture.as_str() {
            "x86_64" | "x86-64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            _ => architecture,
        };
        Ok(Self {
            os,
            architecture,
            variant,
        })
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() {
            Ok(())
        } else {
            write!(f, "/{}", self.variant)
        }
    }
}

/// The whole configuration document; its digest is the image's identity.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ConfigDocument {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: ImageConfig,
    pub rootfs: RootfsDocument,
}

/// The layers' identities, bottom first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct RootfsDocument {
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

/// A reference to a blob.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default, deserialize_with = "null_is_default")]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What a listed artifact is about.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub artifact_type: String,
    /// Where else a layer is that registries may not hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
}

impl Descriptor {
    /// Whether a layer can be unpacked at all; the reason why not.
    pub fn usable(&self) -> Result<(), &'static str> {
        if self.media_type.ends_with("+encrypted") || self.media_type.contains("+encrypted.") {
            return Err("a layer is encrypted, which is not supported");
        }
        if !self.urls.is_empty() || self.media_type.contains(".foreign.") {
            return Err("a layer is foreign (to be fetched from elsewhere than the registry), which is not supported");
        }
        Ok(())
    }
}

/// A manifest or an index: which one is told by what is there.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ManifestDocument {
    #[serde(default)]
    pub schema_version: u32,
    #[serde(default)]
    pub config: Option<Descriptor>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub media_type: String,
}

/// One element of a docker archive's `manifest.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DockerArchiveItem {
    pub config: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub layers: Vec<String>,
}

/// Media types a pull offers to read.
pub(crate) const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

fn set_of_keys<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    let set = Option::<BTreeMap<String, serde::de::IgnoredAny>>::deserialize(d)?;
    Ok(set.map(|set| set.into_keys().collect()).unwrap_or_default())
}

fn keys_of_set<S: serde::Serializer>(keys: &[String], s: S) -> Result<S::Ok, S::Error> {
    s.collect_map(keys.iter().map(|key| (key, BTreeMap::<(), ()>::new())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_docker_configuration_with_nulls_is_read() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Entrypoint":null,"Cmd":["sh"],
            "Env":["A=b"],"Volumes":{"/data":{}},"ExposedPorts":{"80/tcp":{}},"Labels":null},
            "rootfs":{"type":"layers","diff_ids":null}}"#;
        let document: ConfigDocument = serde_json::from_str(text).expect("readable");
        assert_eq!(document.config.cmd, ["sh"]);
        assert_eq!(document.config.volumes, ["/data"]);
        let again: ImageConfig =
            serde_json::from_str(&serde_json::to_string(&document.config).expect("writable")).expect("readable");
        assert_eq!(again, document.config);
    }
}
