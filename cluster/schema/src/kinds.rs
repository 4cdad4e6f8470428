//! The resources a server serves, from the kinds file: one `r` line a resource, then one `s` line
//! for each of its subresources; `-` is nothing.
//!
//! ```text
//! r apps v1 Deployment deployments deployment namespaced VERBS SHORTNAMES CATEGORIES STORAGEHASH
//! s deployments scale autoscaling v1 Scale VERBS
//! ```

use crate::table::TypeId;
use std::collections::HashMap;
use strata_meta::{GroupResource, GroupVersion, GroupVersionKind};

const KINDS: &str = include_str!("generated/kinds.txt");

/// Kinds served in several groups or versions whose objects are stored in one of them.
const STORED_ELSEWHERE: &[(&str, &str, &str, (&str, &str))] = &[
    ("autoscaling", "v1", "HorizontalPodAutoscaler", ("autoscaling", "v2")),
    ("events.k8s.io", "v1", "Event", ("", "v1")),
];

/// A served built-in kind.
#[derive(Clone, Debug)]
pub struct KindInfo {
    /// Group, `""` for core.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Plural name, as in paths.
    pub plural: &'static str,
    /// Singular name.
    pub singular: &'static str,
    /// Short names.
    pub short_names: Vec<&'static str>,
    /// Categories, such as `all`.
    pub categories: Vec<&'static str>,
    /// Whether its objects lie in namespaces.
    pub namespaced: bool,
    /// Kind of its list.
    pub list_kind: String,
    /// Verbs of the resource itself.
    pub verbs: Vec<&'static str>,
    /// Its subresources.
    pub subresources: Vec<Subresource>,
    /// Discovery's opaque hash of the stored form; empty for what is not stored.
    pub storage_version_hash: &'static str,
    /// The group and version its objects are stored in.
    pub storage: (&'static str, &'static str),
    /// Whether upstream serves it unless told otherwise: alpha and beta versions are off.
    pub served_by_default: bool,
    /// Its type, `None` if the table does not describe it.
    pub type_id: Option<TypeId>,
}

/// A subresource of a kind.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// The last part of its path, such as `status`.
    pub name: &'static str,
    /// Group of the body.
    pub group: &'static str,
    /// Version of the body.
    pub version: &'static str,
    /// Kind of the body.
    pub kind: &'static str,
    /// Verbs.
    pub verbs: Vec<&'static str>,
}

impl KindInfo {
    /// Group, version and kind.
    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind::new(self.group, self.version, self.kind)
    }

    /// Group and version.
    pub fn group_version(&self) -> GroupVersion {
        GroupVersion::new(self.group, self.version)
    }

    /// Group and plural name.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(self.group, self.plural)
    }

    /// A subresource by name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// Whether it has a status subresource.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// Whether it has a scale subresource.
    pub fn has_scale(&self) -> bool {
        self.subresource("scale").is_some()
    }

    /// Whether the resource itself allows a verb.
    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }
}

pub(crate) fn load(roots: &HashMap<(&'static str, &'static str, &'static str), TypeId>) -> Vec<KindInfo> {
    let mut kinds: Vec<KindInfo> = Vec::new();
    for line in KINDS.lines() {
        let words: Vec<&'static str> = line
            .split(' ')
            .map(|word| if word == "-" { "" } else { word })
            .collect();
        match words.as_slice() {
            [
                "r",
                group,
                version,
                kind,
                plural,
                singular,
                scope,
                verbs,
                short_names,
                categories,
                hash,
            ] => {
                let elsewhere = STORED_ELSEWHERE
                    .iter()
                    .find(|row| (row.0, row.1, row.2) == (*group, *version, *kind));
                kinds.push(KindInfo {
                    group,
                    version,
                    kind,
                    plural,
                    singular,
                    short_names: list(short_names),
                    categories: list(categories),
                    namespaced: *scope == "namespaced",
                    list_kind: format!("{kind}List"),
                    verbs: list(verbs),
                    subresources: Vec::new(),
                    storage_version_hash: hash,
                    storage: elsewhere.map_or((group, version), |row| row.3),
                    served_by_default: !version.contains("alpha") && !version.contains("beta"),
                    type_id: roots.get(&(*group, *version, *kind)).copied(),
                });
            }
            ["s", parent, name, group, version, kind, verbs] => {
                let owner = kinds.last_mut().filter(|k| k.plural == *parent);
                let owner = owner.expect("a subresource follows its resource");
                owner.subresources.push(Subresource {
                    name,
                    group,
                    version,
                    kind,
                    verbs: list(verbs),
                });
            }
            _ => {}
        }
    }
    kinds
}

fn list(text: &'static str) -> Vec<&'static str> {
    text.split(',').filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use crate::Schema;
    use strata_meta::GroupVersionKind;

    #[test]
    fn every_served_kind_has_a_type() {
        let schema = Schema::builtin();
        assert!(schema.kinds().len() > 80);
        for kind in schema.kinds() {
            assert!(kind.type_id.is_some(), "{}", kind.gvk());
            if kind.allows("list") {
                let list = GroupVersionKind::new(kind.group, kind.version, &kind.list_kind);
                assert!(schema.type_of(&list).is_some(), "{list}");
            }
            for sub in &kind.subresources {
                let body = GroupVersionKind::new(sub.group, sub.version, sub.kind);
                assert!(schema.type_of(&body).is_some(), "{body}");
            }
        }
    }

    #[test]
    fn a_deployment_is_served_as_upstream_serves_it() {
        let kind = Schema::builtin().resource("apps", "v1", "deployments").expect("served");
        assert_eq!(
            (kind.kind, kind.singular, kind.namespaced),
            ("Deployment", "deployment", true)
        );
        assert_eq!(
            (kind.short_names.as_slice(), kind.categories.as_slice()),
            (["deploy"].as_slice(), ["all"].as_slice())
        );
        assert!(kind.has_status() && kind.has_scale() && kind.allows("deletecollection") && kind.served_by_default);
        assert_eq!(
            kind.subresource("scale").map(|s| (s.group, s.kind)),
            Some(("autoscaling", "Scale"))
        );
    }
}
