//! Which requests a FlowSchema is about.

use super::{counted::Counters, level::Level};
use crate::request::RequestInfo;
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};
use strata_auth::{SERVICE_ACCOUNT_USER_PREFIX, UserInfo};

/// A FlowSchema with its level.
pub(super) struct Schema {
    pub(super) name: String,
    pub(super) uid: HeaderValue,
    pub(super) level_uid: HeaderValue,
    pub(super) level: Arc<Level>,
    pub(super) spec: Spec,
    pub(super) counters: Arc<Counters>,
}

/// flowcontrol.apiserver.k8s.io/v1 FlowSchemaSpec.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    pub(super) priority_level_configuration: Name,
    pub(super) matching_precedence: i64,
    pub(super) distinguisher_method: Option<Method>,
    pub(super) rules: Vec<Rule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Name {
    pub(super) name: String,
    namespace: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Method {
    r#type: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Rule {
    subjects: Vec<Subject>,
    resource_rules: Vec<ResourceRule>,
    non_resource_rules: Vec<PathRule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Subject {
    kind: String,
    user: Option<Name>,
    group: Option<Name>,
    service_account: Option<Name>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResourceRule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    cluster_scope: bool,
    namespaces: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PathRule {
    verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
}

impl Subject {
    fn matches(&self, user: &UserInfo) -> bool {
        match self.kind.as_str() {
            "User" => self.user.as_ref().is_some_and(|u| u.name == "*" || u.name == user.name),
            "Group" => self
                .group
                .as_ref()
                .is_some_and(|g| g.name == "*" || user.is_in(&g.name)),
            "ServiceAccount" => self.service_account.as_ref().is_some_and(|account| {
                let rest = user.name.strip_prefix(SERVICE_ACCOUNT_USER_PREFIX);
                let found = rest.and_then(|r| r.split_once(':'));
                found.is_some_and(|(namespace, name)| {
                    namespace == account.namespace && (account.name == "*" || account.name == name)
                })
            }),
            _ => false,
        }
    }
}

/// Whether a list names something, or is the wildcard.
fn names(list: &[String], wanted: &str) -> bool {
    match list {
        [only] if only == "*" => true,
        list => list.iter().any(|l| l == wanted),
    }
}

fn names_resource(list: &[String], info: &RequestInfo) -> bool {
    if info.subresource.is_empty() {
        return names(list, &info.resource);
    }
    let is_it = |name: &String| {
        let parts = name.split_once('/');
        parts.is_some_and(|(resource, sub)| resource == info.resource && sub == info.subresource)
    };
    matches!(list, [only] if only == "*") || list.iter().any(is_it)
}

fn names_path(list: &[String], path: &str) -> bool {
    list.iter().any(|pattern| {
        let prefix = pattern.strip_suffix('*').unwrap_or(pattern);
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        pattern == "*" || pattern == path || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
    })
}

impl Schema {
    /// Tells a client how its request was classified.
    pub(super) fn label(&self, headers: &mut HeaderMap) {
        headers.insert("x-kubernetes-pf-flowschema-uid", self.uid.clone());
        headers.insert("x-kubernetes-pf-prioritylevel-uid", self.level_uid.clone());
    }

    /// Whether a request is one of these.
    pub(super) fn matches(&self, user: &UserInfo, info: &RequestInfo) -> bool {
        self.spec.rules.iter().any(|rule| {
            rule.subjects.iter().any(|s| s.matches(user))
                && if info.is_resource {
                    rule.resource_rules.iter().any(|r| {
                        names(&r.verbs, info.verb)
                            && names_resource(&r.resources, info)
                            && names(&r.api_groups, &info.group)
                            && match info.namespace.as_str() {
                                "" => r.cluster_scope,
                                namespace => names(&r.namespaces, namespace),
                            }
                    })
                } else {
                    let rules = &rule.non_resource_rules;
                    rules
                        .iter()
                        .any(|r| names(&r.verbs, info.verb) && names_path(&r.non_resource_urls, &info.path))
                }
        })
    }

    /// What tells the request's flow from others of the schema.
    pub(super) fn distinguisher<'r>(&self, user: &'r UserInfo, info: &'r RequestInfo) -> &'r str {
        match self.spec.distinguisher_method.as_ref().map(|m| m.r#type.as_str()) {
            Some("ByUser") => &user.name,
            Some("ByNamespace") => &info.namespace,
            _ => "",
        }
    }

    /// The number of the request's flow.
    pub(super) fn flow(&self, user: &UserInfo, info: &RequestInfo) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.name.hash(&mut hasher);
        self.distinguisher(user, info).hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_named_whole_or_by_what_they_begin_with() {
        for (pattern, path, expected) in [
            ("*", "/x", true),
            ("/healthz", "/healthz", true),
            ("/healthz", "/healthz/ping", true),
            ("/healthz", "/healthzz", false),
            ("/apis/*", "/apis/apps", true),
            ("/apis/*", "/api", false),
        ] {
            assert_eq!(names_path(&[pattern.to_owned()], path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn accounts_of_a_namespace_are_told_from_those_of_another() {
        let subject: Subject = serde_json::from_value(serde_json::json!({"kind": "ServiceAccount",
            "serviceAccount": {"namespace": "kube-system", "name": "*"}}))
        .unwrap();
        assert!(subject.matches(&UserInfo::service_account("kube-system", "a", "")));
        assert!(!subject.matches(&UserInfo::service_account("kube-system-2", "a", "")));
        assert!(!subject.matches(&UserInfo::new("kube-system", &[])));
    }
}
