//! ObjectMeta: what may stand in it, and what may change.
//!
//! Rules and sentences: k8s.io/apimachinery/pkg/api/validation/objectmeta.go.

use crate::json;
use serde_json::Value;
use strata_meta::{StatusCause, names};

const ANNOTATIONS_MAX: usize = 256 << 10;

/// What a name must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameRule {
    /// RFC 1123 subdomain: most kinds.
    Subdomain,
    /// RFC 1123 label: namespaces, services since they are names in DNS.
    Label,
    /// Anything that can stand in a path: RBAC.
    PathSegment,
    /// An IP address in its canonical form: IPAddress.
    IpAddress,
}

/// When the metadata of a new object is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetadataTurn {
    /// Before the rest: almost every kind.
    First,
    /// Between what is wrong with any object and what is wrong with a new one.
    Between,
    /// When nothing else is wrong, and names may be anything that can stand in a path.
    Last,
}

impl NameRule {
    fn problems(self, name: &str, is_prefix: bool) -> Vec<String> {
        // A generated name gets a suffix, so that the prefix may end in a dash.
        let shown = if is_prefix && name.ends_with('-') && name.len() > 1 {
            format!("{}a", &name[..name.len() - 1])
        } else {
            name.to_owned()
        };
        match self {
            Self::Subdomain => names::dns1123_subdomain(&shown),
            Self::Label => names::dns1123_label(&shown),
            Self::IpAddress => super::formats::canonical_ip(name),
            Self::PathSegment if is_prefix => names::path_segment(name)
                .into_iter()
                .filter(|p| p.starts_with("may not contain"))
                .collect(),
            Self::PathSegment => names::path_segment(name),
        }
    }
}

/// What is wrong with the metadata of an object.
pub(crate) fn metadata(object: &Value, namespaced: bool, rule: NameRule) -> Vec<StatusCause> {
    let mut causes = Vec::new();
    let text = |path: &str| json::text(object, path);
    let generate = text("metadata.generateName");
    if !generate.is_empty() {
        let problems = rule.problems(generate, true);
        causes.extend(
            problems
                .iter()
                .map(|p| StatusCause::invalid("metadata.generateName", generate, p)),
        );
    }
    let name = text("metadata.name");
    if name.is_empty() {
        causes.push(StatusCause::required(
            "metadata.name",
            "name or generateName is required",
        ));
    } else {
        let problems = rule.problems(name, false);
        causes.extend(problems.iter().map(|p| StatusCause::invalid("metadata.name", name, p)));
    }
    namespace(text("metadata.namespace"), namespaced, &mut causes);
    labels(object, "metadata.labels", &mut causes);
    annotations(object, "metadata.annotations", &mut causes);
    owners(object, &mut causes);
    finalizers(object, &mut causes);
    causes
}

fn namespace(namespace: &str, namespaced: bool, causes: &mut Vec<StatusCause>) {
    const FIELD: &str = "metadata.namespace";
    match (namespaced, namespace.is_empty()) {
        (true, true) => causes.push(StatusCause::required(FIELD, "")),
        (true, false) => {
            let problems = names::dns1123_label(namespace);
            causes.extend(problems.iter().map(|p| StatusCause::invalid(FIELD, namespace, p)));
        }
        (false, false) => causes.push(StatusCause::forbidden(FIELD, "not allowed on this type")),
        (false, true) => {}
    }
}

/// Labels at a path.
pub(crate) fn labels(object: &Value, path: &str, causes: &mut Vec<StatusCause>) {
    for (key, value) in json::members(object, path) {
        let value = value.as_str().unwrap_or("");
        causes.extend(names::qualified_name(key).iter().map(|p| {
            StatusCause::invalid(
                path,
                key,
                p.replacen("a qualified name must", "a valid label key must", 1),
            )
        }));
        causes.extend(
            names::label_value(value)
                .iter()
                .map(|p| StatusCause::invalid(path, value, p)),
        );
    }
}

/// Annotations at a path.
pub(crate) fn annotations(object: &Value, path: &str, causes: &mut Vec<StatusCause>) {
    let mut total = 0;
    for (key, value) in json::members(object, path) {
        total += key.len() + value.as_str().map_or(0, str::len);
        let problems = names::qualified_name(&key.to_lowercase());
        causes.extend(problems.iter().map(|p| StatusCause::invalid(path, key, p)));
    }
    if total > ANNOTATIONS_MAX {
        causes.push(StatusCause {
            reason: "FieldValueTooLong".into(),
            message: format!("Too long: may not be more than {ANNOTATIONS_MAX} bytes"),
            field: path.into(),
        });
    }
}

fn owners(object: &Value, causes: &mut Vec<StatusCause>) {
    const FIELD: &str = "metadata.ownerReferences";
    let mut controller: Option<String> = None;
    for owner in json::list(object, FIELD) {
        let api_version = json::text(owner, "apiVersion");
        let version = api_version.rsplit('/').next().unwrap_or("");
        if version.is_empty() {
            causes.push(StatusCause::invalid(
                &format!("{FIELD}.apiVersion"),
                api_version,
                "version must not be empty",
            ));
        }
        for part in ["kind", "name", "uid"] {
            if json::text(owner, part).is_empty() {
                causes.push(StatusCause::invalid(
                    &format!("{FIELD}.{part}"),
                    "",
                    "must not be empty",
                ));
            }
        }
        let (kind, name) = (json::text(owner, "kind"), json::text(owner, "name"));
        if api_version == "v1" && kind == "Event" {
            causes.push(StatusCause::invalid(
                FIELD,
                Owners(std::slice::from_ref(owner), false),
                "/v1, Kind=Event is disallowed from being an owner",
            ));
        }
        if json::flag(owner, "controller") {
            let this = format!("{kind}/{name}");
            match &controller {
                Some(first) => causes.push(StatusCause::invalid(
                    FIELD,
                    Owners(json::list(object, FIELD), true),
                    format_args!("Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"),
                )),
                None => controller = Some(this),
            }
        }
    }
}

fn finalizers(object: &Value, causes: &mut Vec<StatusCause>) {
    const FIELD: &str = "metadata.finalizers";
    let list = json::list(object, FIELD);
    for finalizer in list {
        let text = finalizer.as_str().unwrap_or("");
        causes.extend(
            names::qualified_name(text)
                .iter()
                .map(|p| StatusCause::invalid(FIELD, text, p)),
        );
    }
    if list.iter().any(|f| f == "orphan") && list.iter().any(|f| f == "foregroundDeletion") {
        causes.push(StatusCause::invalid(
            FIELD,
            list,
            "finalizer orphan and foregroundDeletion cannot be both set",
        ));
    }
}

/// Owner references as Go prints them: members in the order of the struct, in a list or alone.
struct Owners<'a>(&'a [Value], bool);

impl std::fmt::Debug for Owners<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const MEMBERS: [&str; 6] = ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
        let one = |owner: &Value| {
            let members = MEMBERS.iter().filter_map(|name| Some((name, owner.get(*name)?)));
            let texts: Vec<String> = members.map(|(name, value)| format!("{name:?}:{value}")).collect();
            format!("{{{}}}", texts.join(","))
        };
        let all = self.0.iter().map(one).collect::<Vec<_>>().join(",");
        if self.1 {
            write!(f, "[{all}]")
        } else {
            f.write_str(&all)
        }
    }
}

/// What may not have changed in the metadata of an object, and what is wrong with what may.
pub(crate) fn metadata_update(new: &Value, old: &Value) -> Vec<StatusCause> {
    let mut causes = Vec::new();
    if json::get(old, "metadata.deletionTimestamp").is_some() {
        let before = json::list(old, "metadata.finalizers");
        let added: Vec<String> = json::list(new, "metadata.finalizers")
            .iter()
            .filter(|f| !before.contains(f))
            .map(|f| format!("{:?}", f.as_str().unwrap_or("")))
            .collect();
        if !added.is_empty() {
            let list = added.join(", ");
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{list}}}"
            );
            causes.push(StatusCause::forbidden("metadata.finalizers", &why));
        }
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        let path = format!("metadata.{field}");
        if json::get(new, &path) != json::get(old, &path) {
            let value = json::get(new, &path).cloned().unwrap_or(Value::Null);
            causes.push(match &value {
                Value::String(text) => StatusCause::invalid(&path, text, "field is immutable"),
                other => StatusCause::invalid(&path, Shown(other), "field is immutable"),
            });
        }
    }
    labels(new, "metadata.labels", &mut causes);
    annotations(new, "metadata.annotations", &mut causes);
    owners(new, &mut causes);
    causes
}

/// Prints a value as JSON where upstream prints a Go value that looks the same.
struct Shown<'a>(&'a Value);

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(causes: &[StatusCause]) -> Vec<&str> {
        causes.iter().map(|c| c.field.as_str()).collect()
    }

    #[test]
    fn bad_metadata_is_refused_field_by_field() {
        let good = json!({"metadata": {"name": "a", "namespace": "n", "generateName": "a-", "labels": {"a/b": "c"}, "finalizers": ["x/y"]}});
        assert_eq!(metadata(&good, true, NameRule::Subdomain), []);
        for (meta, namespaced, expected) in [
            (json!({}), false, vec!["metadata.name"]),
            (json!({"name": "A_"}), false, vec!["metadata.name"]),
            (
                json!({"name": "a", "namespace": "n"}),
                false,
                vec!["metadata.namespace"],
            ),
            (json!({"name": "a"}), true, vec!["metadata.namespace"]),
            (
                json!({"name": "a", "labels": {"-": "v"}}),
                false,
                vec!["metadata.labels"],
            ),
            (
                json!({"name": "a", "labels": {"k": "no good"}}),
                false,
                vec!["metadata.labels"],
            ),
            (
                json!({"name": "a", "annotations": {"k": "x".repeat(300_000)}}),
                false,
                vec!["metadata.annotations"],
            ),
            (
                json!({"name": "a", "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}),
                false,
                vec!["metadata.ownerReferences.uid"],
            ),
            (
                json!({"name": "a", "finalizers": ["orphan", "foregroundDeletion"]}),
                false,
                vec!["metadata.finalizers"],
            ),
        ] {
            let object = json!({"metadata": meta});
            assert_eq!(
                fields(&metadata(&object, namespaced, NameRule::Subdomain)),
                expected,
                "{object}"
            );
        }
        assert_eq!(
            metadata(
                &json!({"metadata": {"name": "system:node"}}),
                false,
                NameRule::PathSegment
            ),
            []
        );
    }

    #[test]
    fn what_identifies_an_object_cannot_change() {
        let old = json!({"metadata": {"name": "a", "uid": "1", "deletionTimestamp": "t", "finalizers": ["a/b"]}});
        let new =
            json!({"metadata": {"name": "b", "uid": "2", "deletionTimestamp": "t", "finalizers": ["a/b", "c/d"]}});
        assert_eq!(
            fields(&metadata_update(&new, &old)),
            ["metadata.finalizers", "metadata.name", "metadata.uid"]
        );
        assert_eq!(metadata_update(&old, &old), []);
    }
}
