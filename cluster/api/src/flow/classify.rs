//! Which requests a FlowSchema is about, and what has become of them.

use super::level::{Level, Refusal};
use crate::request::RequestInfo;
use http::HeaderValue;
use serde::Deserialize;
use std::{
    fmt::Write as _,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
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

/// What has become of a schema's requests.
#[derive(Default)]
pub(super) struct Counters {
    dispatched: AtomicU64,
    rejected: [AtomicU64; 3],
    waited_micros: AtomicU64,
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

    /// Requests let in, refused at once, and refused after a wait.
    pub(super) fn outcomes(&self) -> [u64; 3] {
        let of = |refusal: Refusal| self.counters.rejected[refusal as usize].load(Ordering::Relaxed);
        [
            self.counters.dispatched.load(Ordering::Relaxed),
            of(Refusal::QueueFull) + of(Refusal::ConcurrencyLimit),
            of(Refusal::TimeOut),
        ]
    }

    pub(super) fn dispatched(&self) {
        self.counters.dispatched.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn rejected(&self, why: Refusal) {
        self.counters.rejected[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn waited(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.counters.waited_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

/// Prometheus text under upstream's names.
pub(super) fn render(schemas: &[Arc<Schema>], out: &mut String) {
    let mut rows = |name: &str, kind: &str, value: &dyn Fn(&Schema) -> Vec<(String, String)>| {
        let _ = writeln!(out, "# TYPE apiserver_flowcontrol_{name} {kind}");
        for schema in schemas {
            for (more, value) in value(schema) {
                let _ = writeln!(
                    out,
                    "apiserver_flowcontrol_{name}{{flow_schema=\"{}\",priority_level=\"{}\"{more}}} {value}",
                    schema.name, schema.level.name
                );
            }
        }
    };
    rows("dispatched_requests_total", "counter", &|s| {
        vec![(String::new(), s.counters.dispatched.load(Ordering::Relaxed).to_string())]
    });
    rows("rejected_requests_total", "counter", &|s| {
        ["queue-full", "concurrency-limit", "time-out"]
            .iter()
            .zip(&s.counters.rejected)
            .map(|(reason, n)| (*reason, n.load(Ordering::Relaxed)))
            .filter(|(_, n)| *n > 0)
            .map(|(reason, n)| (format!(",reason=\"{reason}\""), n.to_string()))
            .collect()
    });
    rows("request_wait_duration_seconds_sum", "untyped", &|s| {
        let seconds = s.counters.waited_micros.load(Ordering::Relaxed) as f64 / 1e6;
        vec![(",execute=\"true\"".into(), seconds.to_string())]
    });
    for (name, read) in [("current_inqueue_requests", 0), ("current_executing_requests", 1)] {
        let _ = writeln!(out, "# TYPE apiserver_flowcontrol_{name} gauge");
        let mut seen: Vec<&str> = Vec::new();
        for schema in schemas.iter().filter(|s| !s.level.is_exempt()) {
            // Counted by level: a schema's part is not told apart.
            if seen.contains(&schema.level.name.as_str()) {
                continue;
            }
            seen.push(&schema.level.name);
            let (waiting, executing) = schema.level.counts();
            let value = if read == 0 { waiting.into() } else { executing };
            let _ = writeln!(
                out,
                "apiserver_flowcontrol_{name}{{flow_schema=\"{}\",priority_level=\"{}\"}} {value}",
                schema.name, schema.level.name
            );
        }
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
