//! The roles and bindings every cluster starts with.

mod cluster_roles;
mod controller_roles;
mod namespaced;

use crate::rbac::PolicyRule;
use cluster_roles::CLUSTER_ROLES;
use controller_roles::{CONTROLLER_ROLES, OWN_CONTROLLER_ROLES};
use namespaced::{CLUSTER_ROLE_BINDINGS, ROLE_BINDINGS, ROLES};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};

const CONTROLLER_PREFIX: &str = "system:controller:";
const AGGREGATE_LABEL: &str = "rbac.authorization.k8s.io/aggregate-to-";
const API_GROUP: &str = "rbac.authorization.k8s.io";
/// The role whose rules every node agent has, beside what the node authorizer decides itself.
const NODE_ROLE: &str = "system:node";

/// A row: a role.
struct Role {
    name: &'static str,
    /// `""` for a ClusterRole.
    namespace: &'static str,
    /// The role this one's rules are added to, by label; or `""`.
    part_of: &'static str,
    /// The label that makes other roles part of this one; or `""`.
    aggregates: &'static str,
    rules: &'static [&'static str],
}

const fn role(name: &'static str, rules: &'static [&'static str]) -> Role {
    Role {
        name,
        namespace: "",
        part_of: "",
        aggregates: "",
        rules,
    }
}

impl Role {
    const fn within(mut self, namespace: &'static str) -> Self {
        self.namespace = namespace;
        self
    }

    const fn part_of(mut self, whole: &'static str) -> Self {
        self.part_of = whole;
        self
    }

    const fn aggregating(mut self, whole: &'static str) -> Self {
        self.aggregates = whole;
        self
    }
}

/// A row: a binding. Subjects read `User NAME`, `Group NAME` or `ServiceAccount NAMESPACE/NAME`.
struct Binding {
    namespace: &'static str,
    name: &'static str,
    role: &'static str,
    subjects: &'static [&'static str],
}

const fn binding(
    namespace: &'static str,
    name: &'static str,
    role: &'static str,
    subjects: &'static [&'static str],
) -> Binding {
    Binding {
        namespace,
        name,
        role,
        subjects,
    }
}

/// The default ClusterRoles (aggregated ones complete), ClusterRoleBindings, Roles and RoleBindings.
pub fn bootstrap_policy() -> Vec<Value> {
    let mut objects: Vec<Value> = CLUSTER_ROLES
        .iter()
        .chain(CONTROLLER_ROLES)
        .chain(OWN_CONTROLLER_ROLES)
        .chain(ROLES)
        .map(role_object)
        .collect();
    aggregate(&mut objects);
    let bindings = CLUSTER_ROLE_BINDINGS.iter().chain(ROLE_BINDINGS);
    objects.extend(bindings.map(|b| binding_object(b.namespace, b.name, b.role, b.subjects)));
    objects.extend(CONTROLLER_ROLES.iter().chain(OWN_CONTROLLER_ROLES).map(|role| {
        let account = role.name.strip_prefix(CONTROLLER_PREFIX).unwrap_or(role.name);
        binding_object(
            "",
            role.name,
            role.name,
            &[&format!("ServiceAccount kube-system/{account}")],
        )
    }));
    objects
}

/// What every node agent may do that is not subdivided by node.
pub(crate) fn node_rules() -> Vec<PolicyRule> {
    let row = CLUSTER_ROLES.iter().find(|role| role.name == NODE_ROLE);
    row.map(|role| role.rules.iter().copied().map(parse_rule).collect())
        .unwrap_or_default()
}

fn metadata(namespace: &str, name: &str, labels: BTreeMap<String, &str>) -> Value {
    let mut metadata = json!({
        "name": name,
        "labels": labels,
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    });
    metadata["labels"]["kubernetes.io/bootstrapping"] = json!("rbac-defaults");
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    metadata
}

fn role_object(row: &Role) -> Value {
    let mut labels = BTreeMap::new();
    if !row.part_of.is_empty() {
        labels.insert(format!("{AGGREGATE_LABEL}{}", row.part_of), "true");
    }
    let rules: Vec<PolicyRule> = row.rules.iter().copied().map(parse_rule).collect();
    let mut object = json!({
        "apiVersion": format!("{API_GROUP}/v1"),
        "kind": if row.namespace.is_empty() { "ClusterRole" } else { "Role" },
        "metadata": metadata(row.namespace, row.name, labels),
        "rules": rules,
    });
    if !row.aggregates.is_empty() {
        let label = format!("{AGGREGATE_LABEL}{}", row.aggregates);
        object["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
    }
    object
}

/// Fills the roles that are made of others. `view` is part of `edit` and `edit` of `admin`, so the parts come first.
fn aggregate(objects: &mut [Value]) {
    for whole in ["view", "edit", "admin"] {
        let label = format!("{AGGREGATE_LABEL}{whole}");
        let mut parts: Vec<&Value> = objects
            .iter()
            .filter(|object| object["metadata"]["labels"][&label] == "true")
            .collect();
        parts.sort_by_key(|object| object["metadata"]["name"].as_str());
        let mut seen = HashSet::new();
        let rules: Vec<Value> = parts
            .into_iter()
            .filter_map(|part| part["rules"].as_array())
            .flatten()
            .filter(|rule| seen.insert(rule.to_string()))
            .cloned()
            .collect();
        if let Some(object) = objects.iter_mut().find(|object| object["metadata"]["name"] == whole) {
            object["rules"] = Value::Array(rules);
        }
    }
}

fn parse_rule(row: &str) -> PolicyRule {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    if let Some((verbs, paths)) = row.split_once(" @ ") {
        return PolicyRule {
            verbs: words(verbs),
            non_resource_urls: words(paths),
            ..PolicyRule::default()
        };
    }
    let mut parts = row.split(" : ");
    let mut next = || words(parts.next().unwrap_or_default());
    let (verbs, groups, resources, resource_names) = (next(), next(), next(), next());
    let api_groups = groups
        .into_iter()
        .map(|group| if group == "core" { String::new() } else { group })
        .collect();
    PolicyRule {
        verbs,
        api_groups,
        resources,
        resource_names,
        ..PolicyRule::default()
    }
}

fn binding_object(namespace: &str, name: &str, role: &str, subjects: &[&str]) -> Value {
    let cluster = namespace.is_empty();
    let mut object = json!({
        "apiVersion": format!("{API_GROUP}/v1"),
        "kind": if cluster { "ClusterRoleBinding" } else { "RoleBinding" },
        "metadata": metadata(namespace, name, BTreeMap::new()),
        "roleRef": {"apiGroup": API_GROUP, "kind": if cluster { "ClusterRole" } else { "Role" }, "name": role},
    });
    let subjects: Vec<Value> = subjects.iter().copied().filter_map(subject).collect();
    if !subjects.is_empty() {
        object["subjects"] = Value::Array(subjects);
    }
    object
}

fn subject(row: &str) -> Option<Value> {
    let (kind, name) = row.split_once(' ')?;
    match name.split_once('/') {
        Some((namespace, name)) if kind == "ServiceAccount" => {
            Some(json!({"kind": kind, "name": name, "namespace": namespace}))
        }
        _ => Some(json!({"apiGroup": API_GROUP, "kind": kind, "name": name})),
    }
}

#[cfg(test)]
mod tests;
