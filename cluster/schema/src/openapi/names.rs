//! Names of operations, tags and definitions as upstream makes them.

use crate::{Schema, TypeInfo};
use strata_meta::{GroupVersion, GroupVersionKind};

/// Where the types of the meta group are.
pub(super) const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// What the operations of a group and version are named after.
pub(super) struct Naming {
    prefix: String,
    /// The tag of all of them.
    pub(super) tag: String,
}

impl Naming {
    /// Of a group, or of a group and version.
    pub(super) fn new(group: &str, version: Option<&str>) -> Self {
        let group = match group {
            "" => "core",
            group => group.strip_suffix(".k8s.io").unwrap_or(group),
        };
        let mut naming = Self {
            prefix: identifier(group, true),
            tag: identifier(group, false),
        };
        if let Some(version) = version {
            naming.prefix += &identifier(version, true);
            naming.tag = format!("{}_{}", naming.tag, identifier(version, false));
        }
        naming
    }

    /// Of what belongs to no group.
    pub(super) fn bare(tag: &str) -> Self {
        Self {
            prefix: String::new(),
            tag: identifier(tag, false),
        }
    }

    /// The name of an operation: `list`, `NamespacedPod` of core v1 is `listCoreV1NamespacedPod`.
    pub(super) fn operation(&self, verb: &str, rest: &str) -> String {
        format!("{verb}{}{}", self.prefix, identifier(rest, true))
    }
}

/// Letters, digits and underscores, with what is left out made up for by a capital.
fn identifier(text: &str, mut capital: bool) -> String {
    let mut out = String::new();
    for (at, letter) in text.char_indices() {
        if letter.is_alphabetic() || letter == '_' || (at != 0 && letter.is_numeric()) {
            match std::mem::take(&mut capital) {
                true => out.extend(letter.to_uppercase()),
                false => out.push(letter),
            }
        } else {
            capital = true;
        }
    }
    out
}

/// `Status` for `status`.
pub(super) fn capitalized(text: &str) -> String {
    identifier(text, true)
}

/// `/api/v1` or `/apis/apps/v1`.
pub(super) fn root(group: &str, version: &str) -> String {
    match group {
        "" => format!("/api/{version}"),
        _ => format!("/apis/{group}/{version}"),
    }
}

/// `api/v1` or `apis/apps/v1`, below `/openapi/v3/`.
pub fn document_path(version: &GroupVersion) -> String {
    root(&version.group, &version.version).split_off(1)
}

/// `io.k8s.api.apps.v1.Deployment`.
pub(super) fn definition(info: &TypeInfo) -> String {
    let package = match info.package {
        "meta/v1" => META.to_owned(),
        "meta/v1beta1" => "io.k8s.apimachinery.pkg.apis.meta.v1beta1".to_owned(),
        "apiextensions/v1" => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1".to_owned(),
        "apiregistration/v1" => "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1".to_owned(),
        "metrics/v1beta1" => "io.k8s.metrics.pkg.apis.metrics.v1beta1".to_owned(),
        other => format!("io.k8s.api.{}", other.replace('/', ".")),
    };
    format!("{package}.{}", info.name)
}

/// The definition of a kind that is defined at run time.
pub(super) fn custom_definition(gvk: &GroupVersionKind) -> String {
    let parts: Vec<&str> = gvk.group.rsplit('.').collect();
    format!("{}.{}.{}", parts.join("."), gvk.version, gvk.kind)
}

/// Versions that upstream still knows though it serves nothing of them and has dropped their types.
const FORGOTTEN: [(&str, &str); 2] = [
    ("apiextensions.k8s.io", "v1beta1"),
    ("apiregistration.k8s.io", "v1beta1"),
];
/// Groups that clients do not know.
const SERVERS_OWN: [&str; 4] = [
    "admission.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "imagepolicy.k8s.io",
];

/// The groups and versions that kinds of the meta group are part of: those of a server, or those that clients know.
pub(super) fn every_version(of_clients: bool) -> Vec<(&'static str, &'static str)> {
    let mut found: Vec<_> = Schema::builtin().group_versions().collect();
    found.extend(FORGOTTEN);
    found.retain(|(group, _)| {
        let unregistered = matches!(*group, "!" | "apidiscovery.k8s.io" | "meta.k8s.io" | "metrics.k8s.io");
        !(unregistered || of_clients && SERVERS_OWN.contains(group))
    });
    found.sort_unstable();
    found.dedup();
    found
}
