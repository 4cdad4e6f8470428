//! Environment variables and the fields they may refer to.

use super::Causes;
use crate::validate::{
    Field,
    formats::{config_key, environment_name, no_backsteps},
};
use strata_meta::names;

/// What a variable may be set from.
pub(super) const VARIABLE_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// What a projected file may hold.
pub(super) const FILE_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// `env`.
pub(super) fn variables(list: &Field<'_>, causes: &mut Causes) {
    for variable in list.items() {
        variable.at("name").needs_text(causes, environment_name);
        let from = variable.at("valueFrom");
        if from.is_set() {
            value_from(&from, &variable.at("value"), causes);
        }
    }
}

fn value_from(from: &Field<'_>, value: &Field<'_>, causes: &mut Causes) {
    let mut sources = 0;
    let mut source = |name: &str| Some(from.at(name)).filter(Field::is_set).inspect(|_| sources += 1);
    if let Some(reference) = source("fieldRef") {
        field_reference(&reference, VARIABLE_FIELDS, causes);
    }
    if let Some(reference) = source("resourceFieldRef") {
        resource_reference(&reference, false, causes);
    }
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(reference) = source(kind) {
            let name = reference.at("name");
            name.problems(causes, names::dns1123_subdomain(name.text()));
            reference.at("key").needs_text(causes, config_key);
        }
    }
    if let Some(reference) = source("fileKeyRef") {
        reference.at("key").needs_text(causes, environment_name);
        reference.at("volumeName").needs_text(causes, names::dns1123_label);
        reference.at("path").needs(causes);
        no_backsteps(&reference.at("path"), causes);
    }
    if sources == 0 {
        let why =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        causes.push(from.invalid_as("", why));
    } else if !value.is_empty() {
        causes.push(from.invalid_as("", "may not be specified when `value` is not empty"));
    } else if sources > 1 {
        causes.push(from.invalid_as("", "may not have more than one field specified at a time"));
    }
}

/// The volumes of files with variables are there, and of the pod's own.
pub(super) fn files(spec: &Field<'_>, causes: &mut Causes) {
    let volumes = spec.at("volumes");
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.at(list).items() {
            for variable in container.at("env").items() {
                let reference = variable.at("valueFrom.fileKeyRef");
                if !reference.is_set() {
                    continue;
                }
                let name = reference.at("volumeName");
                match volumes.items().find(|volume| volume.at("name").text() == name.text()) {
                    None => causes.push(name.not_found()),
                    Some(volume) if !volume.at("emptyDir").is_set() => {
                        causes.push(name.invalid("referenced volume must be of type emptyDir"));
                    }
                    Some(_) => {}
                }
            }
        }
    }
}

/// `envFrom`.
pub(super) fn sources(list: &Field<'_>, causes: &mut Causes) {
    for source in list.items() {
        source.at("prefix").if_text(causes, environment_name);
        let references = ["configMapRef", "secretRef"].map(|name| source.at(name));
        let given: Vec<_> = references.iter().filter(|r| r.is_set()).collect();
        for reference in &given {
            reference.at("name").needs_text(causes, names::dns1123_subdomain);
        }
        match given.len() {
            0 => causes.push(list.invalid_as("", "must specify one of: `configMapRef` or `secretRef`")),
            1 => {}
            _ => causes.push(list.invalid_as("", "may not have more than one field specified at a time")),
        }
    }
}

/// A `fieldRef`.
pub(super) fn field_reference(reference: &Field<'_>, known: &[&str], causes: &mut Causes) {
    reference.at("apiVersion").needs(causes);
    let path = reference.at("fieldPath");
    if path.is_empty() {
        causes.push(path.required(""));
        return;
    }
    let text = path.text();
    let Some((base, subscript)) = text.strip_suffix("']").and_then(|t| t.split_once("['")) else {
        if !FILE_FIELDS.contains(&text) && !VARIABLE_FIELDS.contains(&text) {
            let why = format!("error converting fieldPath: field label not supported: {text}");
            causes.push(path.invalid(why));
        } else if !known.contains(&text) {
            causes.push(path.not_supported(known));
        }
        return;
    };
    match base {
        "metadata.annotations" => {
            let key = subscript.to_lowercase();
            causes.extend(
                names::qualified_name(&key)
                    .iter()
                    .map(|why| reference.invalid_as(key.as_str(), why)),
            );
        }
        "metadata.labels" => {
            causes.extend(
                names::qualified_name(subscript)
                    .iter()
                    .map(|why| reference.invalid_as(subscript, why)),
            );
        }
        _ => causes.push(path.invalid(format_args!(
            "error converting fieldPath: field label does not support subscript: {text}"
        ))),
    }
}

/// A `resourceFieldRef`.
pub(super) fn resource_reference(reference: &Field<'_>, needs_container: bool, causes: &mut Causes) {
    let (container, resource) = (reference.at("containerName"), reference.at("resource"));
    let huge = |name: &str| name.starts_with("requests.hugepages-") || name.starts_with("limits.hugepages-");
    if needs_container && container.is_empty() {
        causes.push(container.required(""));
    } else if resource.is_empty() {
        causes.push(resource.required(""));
    } else if !RESOURCES.contains(&resource.text()) && !huge(resource.text()) {
        causes.push(resource.not_supported(RESOURCES));
    }
    let divisor = reference.at("divisor");
    let Some(amount) = divisor.quantity().filter(|q| !q.is_zero()) else {
        return;
    };
    let amount = amount.to_string();
    let (known, what): (&[&str], _) = match resource.text() {
        "limits.cpu" | "requests.cpu" => (&["1m", "1"], "cpu"),
        "limits.memory" | "requests.memory" => (BYTES, "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => (BYTES, "local ephemeral storage"),
        name if huge(name) => (BYTES, "hugepages"),
        _ => return,
    };
    if !known.contains(&amount.as_str()) {
        let values = if what == "cpu" {
            "1m and 1".to_owned()
        } else {
            BYTES.join(", ")
        };
        let why = format!("only divisor's values {values} are supported with the {what} resource");
        causes.push(divisor.invalid_as(resource.text(), why));
    }
}

const BYTES: &[&str] = &[
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
];
