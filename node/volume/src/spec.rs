//! core/v1 volumes, as far as this crate provides them.

use serde::Deserialize;
use strata_meta::Quantity;

/// core/v1 Volume: a name and one source.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Volume {
    /// Unique within the pod.
    pub name: String,
    /// Scratch space that lives as long as the pod.
    pub empty_dir: Option<EmptyDir>,
    /// A path of the node.
    pub host_path: Option<HostPath>,
    /// Keys of a config map as files.
    pub config_map: Option<KeysSource>,
    /// Keys of a secret as files.
    pub secret: Option<KeysSource>,
    /// What a claim is bound to.
    pub persistent_volume_claim: Option<ClaimSource>,
    /// The same of a claim that is made for the pod.
    pub ephemeral: Option<Ephemeral>,
    /// Several sources in one directory.
    pub projected: Option<Projected>,
    /// Fields of the pod as files.
    #[serde(rename = "downwardAPI")]
    pub downward_api: Option<DownwardApi>,
    /// The files of an image; whoever makes containers provides them.
    pub image: Option<ImageSource>,
}

/// core/v1 ImageVolumeSource.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageSource {
    /// The image's name.
    pub reference: String,
    /// Always, IfNotPresent or Never.
    pub pull_policy: String,
}

/// core/v1 PersistentVolumeClaimVolumeSource.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimSource {
    /// The claim, in the pod's namespace.
    pub claim_name: String,
    /// Whether no container may write it.
    pub read_only: bool,
}

/// core/v1 EphemeralVolumeSource; its template is for who makes the claim.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Ephemeral {}

/// core/v1 EmptyDirVolumeSource.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EmptyDir {
    /// `""` (disk) or `Memory`.
    pub medium: String,
    /// Bytes the volume may hold; enforced for `Memory`.
    pub size_limit: Option<Quantity>,
}

/// core/v1 HostPathVolumeSource.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostPath {
    /// Absolute path on the node.
    pub path: String,
    /// What must be, or is made, there.
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

/// core/v1 KeyToPath.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct KeyToPath {
    /// The key.
    pub key: String,
    /// The file, relative to the volume.
    pub path: String,
    /// Permission bits of the file.
    pub mode: Option<u32>,
}

/// Keys of one object as files: core/v1 ConfigMapVolumeSource, ConfigMapProjection,
/// SecretVolumeSource (`secretName`) and SecretProjection.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KeysSource {
    /// The config map or secret.
    #[serde(alias = "secretName")]
    pub name: String,
    /// Which keys; all when empty.
    pub items: Vec<KeyToPath>,
    /// Permission bits of files without their own.
    pub default_mode: Option<u32>,
    /// Whether it may be absent.
    pub optional: Option<bool>,
}

/// core/v1 DownwardAPIVolumeSource and DownwardAPIProjection.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DownwardApi {
    /// The files.
    pub items: Vec<DownwardApiFile>,
    /// Permission bits of files without their own.
    pub default_mode: Option<u32>,
}

/// core/v1 DownwardAPIVolumeFile.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DownwardApiFile {
    /// The file, relative to the volume.
    pub path: String,
    /// A field of the pod.
    pub field_ref: Option<FieldRef>,
    /// A resource of a container.
    pub resource_field_ref: Option<ResourceFieldRef>,
    /// Permission bits.
    pub mode: Option<u32>,
}

/// core/v1 ObjectFieldSelector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FieldRef {
    /// Such as `metadata.name` or `metadata.labels['app']`.
    pub field_path: String,
}

/// core/v1 ResourceFieldSelector.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceFieldRef {
    /// Whose resource; required in volumes.
    pub container_name: String,
    /// Such as `limits.cpu`.
    pub resource: String,
    /// The unit the value is given in.
    pub divisor: Option<Quantity>,
}

/// core/v1 ProjectedVolumeSource.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Projected {
    /// What is put together.
    pub sources: Vec<Projection>,
    /// Permission bits of files without their own.
    pub default_mode: Option<u32>,
}

/// core/v1 VolumeProjection.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Projection {
    /// Keys of a config map.
    pub config_map: Option<KeysSource>,
    /// Keys of a secret.
    pub secret: Option<KeysSource>,
    /// Fields of the pod.
    #[serde(rename = "downwardAPI")]
    pub downward_api: Option<DownwardApi>,
    /// A token bound to the pod.
    pub service_account_token: Option<TokenProjection>,
}

/// core/v1 ServiceAccountTokenProjection.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TokenProjection {
    /// For whom; the API server when empty.
    pub audience: String,
    /// Seconds of validity.
    pub expiration_seconds: Option<i64>,
    /// The file, relative to the volume.
    pub path: String,
}
