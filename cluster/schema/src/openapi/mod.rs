//! The OpenAPI v3 description: an index and one document for each group and version, as clients
//! use it to explain fields, to learn patch strategies and to see what the server can check.
//!
//! Documents are made when asked for, from the table; the feature `descriptions` adds prose.

#[cfg(feature = "descriptions")]
mod descriptions;
mod paths;
mod schemas;

use crate::{KindInfo, Schema};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;
use strata_meta::GroupVersion;

/// The document at `/openapi/v3`: a path for each group and version served by default.
pub fn openapi_v3_index() -> Value {
    let mut paths = Map::new();
    for version in served_versions() {
        let path = document_path(&version);
        let url = format!("/openapi/v3/{path}?hash={}", openapi_v3_hash());
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// Changes whenever a document does; the same for all documents.
pub fn openapi_v3_hash() -> &'static str {
    static HASH: LazyLock<String> = LazyLock::new(|| {
        let parts = [
            include_str!("../generated/types.txt"),
            include_str!("../generated/kinds.txt"),
            env!("CARGO_PKG_VERSION"),
        ];
        let fold = |seed: u64| parts.iter().flat_map(|part| part.bytes()).fold(seed, fnv);
        format!(
            "{:016X}{:016X}",
            fold(0xcbf2_9ce4_8422_2325),
            fold(0x9ae1_6a3b_2f90_404f)
        )
    });
    &HASH
}

/// One step of the FNV-1a hash.
fn fnv(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
}

/// `api/v1` or `apis/apps/v1`, below `/openapi/v3/`.
pub fn document_path(version: &GroupVersion) -> String {
    match version.group.is_empty() {
        true => format!("api/{}", version.version),
        false => format!("apis/{}/{}", version.group, version.version),
    }
}

/// The document of a group and version; `None` if the table has no resource in it.
pub fn openapi_v3(version: &GroupVersion) -> Option<Value> {
    let schema = Schema::builtin();
    let in_version = |kind: &&KindInfo| (kind.group, kind.version) == (&*version.group, &*version.version);
    let kinds: Vec<&KindInfo> = schema.kinds().iter().filter(in_version).collect();
    if kinds.is_empty() {
        return None;
    }
    let mut paths = Map::new();
    for kind in &kinds {
        paths::add_resource(&described(kind), &mut paths);
    }
    #[allow(unused_mut)]
    let mut schemas = schemas::reachable(schema, &kinds);
    #[cfg(feature = "descriptions")]
    descriptions::describe(&version.group, &version.version, &mut schemas);
    Some(document(paths, schemas))
}

/// A kind as a document describes it.
pub struct DescribedKind<'a> {
    /// Its group.
    pub group: &'a str,
    /// Its version.
    pub version: &'a str,
    /// Its kind.
    pub kind: &'a str,
    /// Its plural name.
    pub plural: &'a str,
    /// Whether its objects lie in namespaces.
    pub namespaced: bool,
    /// Verbs of the resource itself.
    pub verbs: Vec<&'a str>,
    /// Its subresources.
    pub subresources: Vec<DescribedSubresource<'a>>,
}

/// A subresource as a document describes it.
pub struct DescribedSubresource<'a> {
    /// The last part of its path.
    pub name: &'a str,
    /// Group of the body.
    pub group: &'a str,
    /// Version of the body.
    pub version: &'a str,
    /// Kind of the body.
    pub kind: &'a str,
    /// Verbs.
    pub verbs: Vec<&'a str>,
}

fn described(kind: &KindInfo) -> DescribedKind<'_> {
    let subresources = kind.subresources.iter().map(|sub| DescribedSubresource {
        name: sub.name,
        group: sub.group,
        version: sub.version,
        kind: sub.kind,
        verbs: sub.verbs.clone(),
    });
    DescribedKind {
        group: kind.group,
        version: kind.version,
        kind: kind.kind,
        plural: kind.plural,
        namespaced: kind.namespaced,
        verbs: kind.verbs.clone(),
        subresources: subresources.collect(),
    }
}

/// The document of kinds that are defined at run time; `schemas` are those of the kinds and their lists.
pub fn openapi_v3_custom(kinds: &[DescribedKind<'_>], schemas: Map<String, Value>) -> Value {
    let mut paths = Map::new();
    for kind in kinds {
        paths::add_resource(kind, &mut paths);
    }
    let mut all = schemas::shared();
    // What every kind has is described there as anywhere.
    #[cfg(feature = "descriptions")]
    descriptions::describe("autoscaling", "v1", &mut all);
    if let Some(all) = all.as_object_mut() {
        all.extend(schemas);
    }
    document(paths, all)
}

/// The name of the schema of a kind that is defined at run time.
pub fn openapi_custom_name(gvk: &strata_meta::GroupVersionKind) -> String {
    schemas::custom_definition(gvk)
}

fn document(paths: Map<String, Value>, schemas: Value) -> Value {
    let security = json!({"BearerToken": {"description": "Bearer Token authentication", "type": "apiKey", "name": "authorization", "in": "header"}});
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": security},
    })
}

/// Groups and versions served by default, core first.
fn served_versions() -> Vec<GroupVersion> {
    let mut versions: Vec<GroupVersion> = Vec::new();
    for kind in Schema::builtin().kinds().iter().filter(|kind| kind.served_by_default) {
        let version = kind.group_version();
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    versions
}

#[cfg(test)]
mod tests;
