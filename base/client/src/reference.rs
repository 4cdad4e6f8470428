//! core/v1 ObjectReference.

use serde::{Deserialize, Serialize};
use strata_meta::{Object, Uid};

/// Points at an object, or at a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectReference {
    /// Group and version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// Kind.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Namespace, empty for cluster-scoped objects.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Identity.
    #[serde(skip_serializing_if = "Uid::is_empty")]
    pub uid: Uid,
    /// A part of the object, such as `spec.containers{web}`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field_path: String,
    /// The state that is meant.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
}

impl ObjectReference {
    /// Points at an object in its present state.
    pub fn of(object: &Object) -> Self {
        Self {
            api_version: object.kind.api_version(),
            kind: object.kind.kind.clone(),
            namespace: object.namespace().to_owned(),
            name: object.name().to_owned(),
            uid: object.uid.clone(),
            field_path: String::new(),
            resource_version: object.revision.to_string(),
        }
    }

    /// The same object, a part of it.
    pub fn with_field(mut self, field_path: impl Into<String>) -> Self {
        self.field_path = field_path.into();
        self
    }
}
