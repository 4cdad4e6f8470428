//! Roles and bindings. Who may grant what is admission's.

use super::{
    Causes, CellContext, Column, columns,
    row::{ROW, Row},
};
use crate::{
    json,
    validate::{Field, NameRule, formats::label_selector},
};
use serde_json::Value;
use strata_meta::names;

const GROUP: &str = "rbac.authorization.k8s.io";

const KIND: Row = Row {
    rule: NameRule::PathSegment,
    create_on_update: true,
    ..ROW
};

pub(super) static ROLES: Row = Row {
    validate: |object, causes| rules(object, true, causes),
    ..KIND
};

pub(super) static CLUSTER_ROLES: Row = Row {
    validate: |object, causes| {
        rules(object, false, causes);
        let rule = Field::root(object).at("aggregationRule");
        if !rule.is_set() {
            return;
        }
        let selectors = rule.at("clusterRoleSelectors");
        if selectors.is_empty() {
            let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
            causes.push(selectors.required(why));
        }
        for selector in selectors.items() {
            label_selector(&selector, causes);
        }
    },
    ..KIND
};

pub(super) static ROLE_BINDINGS: Row = Row {
    columns: BINDING,
    validate: |object, causes| binding(object, &["Role", "ClusterRole"], true, causes),
    validate_update: same_role,
    ..KIND
};

pub(super) static CLUSTER_ROLE_BINDINGS: Row = Row {
    columns: BINDING,
    validate: |object, causes| binding(object, &["ClusterRole"], false, causes),
    validate_update: same_role,
    ..KIND
};

const BINDING: &[Column] = &[
    columns::NAME,
    columns::column("Role", "string", "The role that is granted.", |cx| {
        let part = |name| json::text(cx.object, name);
        format!("{}/{}", part("roleRef.kind"), part("roleRef.name")).into()
    }),
    columns::AGE,
    columns::wide("Users", "string", "Users it is granted to", |cx| subjects(cx, "User")),
    columns::wide("Groups", "string", "Groups it is granted to", |cx| {
        subjects(cx, "Group")
    }),
    columns::wide("ServiceAccounts", "string", "ServiceAccounts it is granted to", |cx| {
        subjects(cx, "ServiceAccount")
    }),
];

fn subjects(cx: &CellContext<'_>, kind: &str) -> Value {
    let of_kind = json::list(cx.object, "subjects")
        .iter()
        .filter(|s| json::text(s, "kind") == kind);
    let shown = |subject: &Value| match (json::text(subject, "namespace"), json::text(subject, "name")) {
        (namespace, name) if kind == "ServiceAccount" && !namespace.is_empty() => format!("{namespace}/{name}"),
        (_, name) => name.to_owned(),
    };
    of_kind.map(shown).collect::<Vec<_>>().join(", ").into()
}

fn rules(object: &Value, namespaced: bool, causes: &mut Causes) {
    for rule in Field::root(object).at("rules").items() {
        if rule.at("verbs").is_empty() {
            causes.push(rule.at("verbs").required("verbs must contain at least one value"));
        }
        let urls = rule.at("nonResourceURLs");
        let regular = ["apiGroups", "resources", "resourceNames"];
        if !urls.is_empty() {
            if namespaced {
                causes.push(urls.invalid("namespaced rules cannot apply to non-resource URLs"));
            }
            if regular.iter().any(|name| !rule.at(name).is_empty()) {
                causes.push(urls.invalid("rules cannot apply to both regular resources and non-resource URLs"));
            }
            continue;
        }
        if rule.at("apiGroups").is_empty() {
            let why = "resource rules must supply at least one api group";
            causes.push(rule.at("apiGroups").required(why));
        }
        if rule.at("resources").is_empty() {
            let why = "resource rules must supply at least one resource";
            causes.push(rule.at("resources").required(why));
        }
    }
}

fn binding(object: &Value, kinds: &[&str], namespaced: bool, causes: &mut Causes) {
    let role = Field::root(object).at("roleRef");
    let in_group = |field: Field<'_>, group: &str, causes: &mut Causes| {
        if field.text() != group {
            causes.push(field.not_supported(&[group]));
        }
    };
    in_group(role.at("apiGroup"), GROUP, causes);
    if !kinds.contains(&role.at("kind").text()) {
        causes.push(role.at("kind").not_supported(kinds));
    }
    role.at("name").needs_text(causes, names::path_segment);
    for subject in Field::root(object).at("subjects").items() {
        let name = subject.at("name");
        name.needs(causes);
        let group = subject.at("apiGroup");
        match subject.at("kind").text() {
            "ServiceAccount" => {
                name.if_text(causes, names::dns1123_subdomain);
                in_group(group, "", causes);
                if !namespaced {
                    subject.at("namespace").needs(causes);
                }
            }
            "User" | "Group" => in_group(group, GROUP, causes),
            _ => causes.push(subject.at("kind").not_supported(&["ServiceAccount", "User", "Group"])),
        }
    }
}

fn same_role(new: &Value, old: &Value, causes: &mut Causes) {
    let role = Field::root(new).at("roleRef");
    if !json::same(new, old, "roleRef") {
        let text = |name: &str| Value::from(role.at(name).text());
        let shown = format!(
            "{{\"APIGroup\":{},\"Kind\":{},\"Name\":{}}}",
            text("apiGroup"),
            text("kind"),
            text("name")
        );
        causes.push(role.invalid_shown(shown, "cannot change roleRef"));
    }
}
