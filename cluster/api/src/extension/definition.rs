//! What a CustomResourceDefinition says, as far as requests need it.

use super::{JsonPath, PrinterColumn, expressions::Compiled};
use crate::{
    cache::{ResourceCache, Selectable, StoredForm},
    json,
    webhook::ClientConfig,
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use sha2::{Digest, Sha256};
use std::sync::{Arc, OnceLock};
use strata_meta::{GroupVersionKind, Object, ObjectError};
use strata_schema::structural::Structural;

/// One definition, read.
pub(crate) struct Definition {
    /// The object it was read from.
    pub(crate) object: Arc<Object>,
    /// The group.
    pub(crate) group: String,
    /// The names that were accepted.
    pub(crate) names: Names,
    /// Whether instances live in namespaces.
    pub(crate) namespaced: bool,
    /// Whether it is being deleted.
    pub(crate) terminating: bool,
    /// Whether it is served.
    pub(crate) established: bool,
    /// Its versions in declared order.
    pub(crate) versions: Vec<Version>,
    /// Position of the version that instances are stored in.
    pub(crate) storage: usize,
    /// How instances get from version to version.
    pub(crate) converter: Converter,
    /// A version that objects are stored in and that there is no more, once somebody looked.
    unlisted: OnceLock<Option<String>>,
}

/// How instances get from version to version.
pub(crate) enum Converter {
    /// Only apiVersion changes.
    None,
    /// Somebody else does it.
    Webhook {
        /// Where, or why nowhere.
        config: Box<Result<ClientConfig, String>>,
        /// Versions of the review that are understood there.
        reviews: Vec<String>,
    },
}

/// Names of a kind.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Names {
    /// In paths.
    pub(crate) plural: String,
    /// On the command line.
    pub(crate) singular: String,
    /// Of objects.
    pub(crate) kind: String,
    /// Of lists.
    pub(crate) list_kind: String,
    /// Short ones.
    pub(crate) short_names: Vec<String>,
    /// Groups such as `all`.
    pub(crate) categories: Vec<String>,
}

/// A version of a definition.
pub(crate) struct Version {
    /// Its name, with group and kind.
    pub(crate) gvk: Arc<GroupVersionKind>,
    /// Whether requests may ask for it.
    pub(crate) served: bool,
    /// What callers are told of a version that is to go.
    pub(crate) deprecation: Option<String>,
    /// Which schema it is: its digest.
    pub(crate) edition: u64,
    /// Whether the status is written apart.
    pub(crate) status: bool,
    /// Where the scale subresource finds its numbers.
    pub(crate) scale: Option<ScalePaths>,
    /// The columns of tables.
    pub(crate) columns: Vec<PrinterColumn>,
    /// Fields that selectors may name.
    pub(crate) selectable: Vec<String>,
    /// The schema, read when first needed and shared by all readings of the definition.
    structural: Arc<OnceLock<Arc<Structural>>>,
    /// Its expressions, compiled when first needed.
    compiled: Arc<OnceLock<Compiled>>,
}

/// Where the scale subresource finds its numbers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScalePaths {
    /// The wanted number.
    #[serde(rename = "specReplicasPath")]
    pub(crate) spec: String,
    /// The present number.
    #[serde(rename = "statusReplicasPath")]
    pub(crate) status: String,
    /// The selector, as text.
    #[serde(rename = "labelSelectorPath", default)]
    pub(crate) selector: String,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    spec: Spec<'a>,
    #[serde(default)]
    status: StatusPart,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    group: String,
    scope: String,
    #[serde(default)]
    preserve_unknown_fields: bool,
    #[serde(default)]
    conversion: Value,
    #[serde(borrow)]
    versions: Vec<VersionPart<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VersionPart<'a> {
    name: String,
    #[serde(default)]
    served: bool,
    #[serde(default)]
    storage: bool,
    #[serde(default)]
    deprecated: bool,
    deprecation_warning: Option<String>,
    #[serde(borrow)]
    schema: Option<SchemaPart<'a>>,
    #[serde(default)]
    subresources: Value,
    #[serde(default)]
    additional_printer_columns: Vec<Value>,
    #[serde(default)]
    selectable_fields: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SchemaPart<'a> {
    #[serde(borrow, rename = "openAPIV3Schema")]
    open_api: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StatusPart {
    accepted_names: Names,
    /// Null until there is one.
    conditions: Option<Vec<Value>>,
}

impl Definition {
    /// Reads an object. What `before` knows of the same schemas is shared. Errors: it is no definition.
    pub(crate) fn read(object: &Arc<Object>, before: Option<&Definition>) -> Result<Self, ObjectError> {
        let body: Body<'_> = serde_json::from_slice(object.body())?;
        let names = body.status.accepted_names;
        let preserve = body.spec.preserve_unknown_fields;
        let group = body.spec.group;
        let storage = body.spec.versions.iter().position(|v| v.storage).unwrap_or(0);
        let read = |part: VersionPart<'_>| version(&group, &names.kind, part, preserve, before);
        let versions = body.spec.versions.into_iter().map(read).collect();
        let is = |kind: &str| {
            let mut conditions = body.status.conditions.iter().flatten();
            conditions.any(|c| json::text(c, "type") == kind && json::text(c, "status") == "True")
        };
        Ok(Self {
            object: object.clone(),
            namespaced: body.spec.scope == "Namespaced",
            terminating: object.deleting,
            established: is("Established"),
            converter: converter(&body.spec.conversion),
            versions,
            storage,
            names,
            group,
            unlisted: OnceLock::new(),
        })
    }

    /// A version that objects are stored in and that there is no more. What is written from now on is of no such
    /// version, so one look is enough for each reading of a definition.
    pub(crate) fn unlisted(&self, cache: &ResourceCache) -> Option<&str> {
        let look = || {
            let snapshot = cache.snapshot();
            let mut objects = snapshot.map.iter().map(|entry| entry.object);
            let dropped = objects.find(|object| self.version(&object.kind.version).is_none());
            dropped.map(|object| object.kind.version.clone())
        };
        self.unlisted.get_or_init(look).as_deref()
    }

    /// A version by name.
    pub(crate) fn version(&self, name: &str) -> Option<usize> {
        self.versions.iter().position(|v| v.gvk.version == name)
    }

    /// How instances are written down.
    pub(crate) fn form(&self) -> StoredForm {
        let version = &self.versions[self.storage];
        StoredForm {
            kind: version.gvk.clone(),
            edition: version.edition,
        }
    }

    /// Every field that a selector of any version may name.
    pub(crate) fn selectable(&self) -> Vec<Selectable> {
        let mut all: Vec<Selectable> = Vec::new();
        for path in self.versions.iter().flat_map(|v| &v.selectable) {
            if !all.iter().any(|known| *known.path == **path) {
                all.push(Selectable {
                    path: path.as_str().into(),
                    absent: "".into(),
                    fallback: "".into(),
                });
            }
        }
        all
    }

    /// The schema of a version, as JSON. Errors: as [`Definition::read`].
    pub(crate) fn schema_value(&self, at: usize) -> Result<Option<Value>, ObjectError> {
        let body: Body<'_> = serde_json::from_slice(self.object.body())?;
        let part = body.spec.versions.get(at).and_then(|v| v.schema.as_ref());
        match part.and_then(|s| s.open_api) {
            Some(raw) => Ok(Some(serde_json::from_str(raw.get())?)),
            None => Ok(None),
        }
    }

    /// The expressions of a version.
    pub(super) fn compiled(&self, at: usize) -> &Compiled {
        self.versions[at]
            .compiled
            .get_or_init(|| Compiled::of(self.structural(at)))
    }

    /// The schema of a version.
    pub(crate) fn structural(&self, at: usize) -> &Arc<Structural> {
        self.versions[at].structural.get_or_init(|| {
            let schema = match self.schema_value(at) {
                Ok(schema) => schema,
                Err(error) => {
                    tracing::error!(%error, name = self.object.name(), "a schema cannot be read and allows nothing");
                    None
                }
            };
            // Without a schema everything is kept.
            let open = || json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
            Arc::new(Structural::parse(&schema.unwrap_or_else(open)))
        })
    }
}

fn version(group: &str, kind: &str, part: VersionPart<'_>, preserve: bool, before: Option<&Definition>) -> Version {
    let raw = part.schema.as_ref().and_then(|s| s.open_api).map_or("", RawValue::get);
    let mut hash = Sha256::new();
    hash.update(raw);
    hash.update([u8::from(preserve)]);
    let digest: [u8; 32] = hash.finalize().into();
    // Zero is the edition of built-in kinds.
    let edition = digest[..8]
        .iter()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        .max(1);
    let same = |v: &&Version| v.edition == edition;
    let known = before.and_then(|b| b.versions.iter().find(same));
    let known = known.map(|v| (v.structural.clone(), v.compiled.clone()));
    let (structural, compiled) = known.unwrap_or_default();
    let scale = part.subresources.get("scale");
    let mut columns: Vec<PrinterColumn> = part
        .additional_printer_columns
        .iter()
        .map(PrinterColumn::read)
        .collect();
    if columns.is_empty() {
        columns.push(PrinterColumn::age(crate::strategy::AGE_MEANS));
    }
    let deprecation = part.deprecated.then(|| {
        part.deprecation_warning
            .unwrap_or_else(|| format!("{group}/{} {kind} is deprecated", part.name))
    });
    Version {
        gvk: Arc::new(GroupVersionKind::new(group, &part.name, kind)),
        served: part.served,
        deprecation,
        edition,
        status: part.subresources.get("status").is_some_and(|s| !s.is_null()),
        scale: scale.and_then(|s| serde_json::from_value(s.clone()).ok()),
        columns,
        selectable: part.selectable_fields.iter().map(selectable_path).collect(),
        structural,
        compiled,
    }
}

fn selectable_path(field: &Value) -> String {
    let path = json::text(field, "jsonPath");
    let members = JsonPath::parse(path).ok();
    let members = members.as_ref().and_then(JsonPath::members);
    members.map_or_else(|| path.trim_start_matches('.').to_owned(), |names| names.join("."))
}

fn converter(conversion: &Value) -> Converter {
    if json::text(conversion, "strategy") != "Webhook" {
        return Converter::None;
    }
    let config = json::get(conversion, "webhook.clientConfig").unwrap_or(&Value::Null);
    let versions = json::list(conversion, "webhook.conversionReviewVersions");
    Converter::Webhook {
        config: Box::new(ClientConfig::from_value(config)),
        reviews: versions.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
    }
}
