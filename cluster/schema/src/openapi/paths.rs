//! The paths of a resource and its subresources, and what each operation takes and gives.

use super::{DescribedKind, DescribedSubresource};
use serde_json::{Map, Value, json};

/// Query parameters: name and type.
type Parameters = &'static [(&'static str, &'static str)];

const WRITE: Parameters = &[
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
];
const PATCH: Parameters = &[
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
    ("force", "boolean"),
];
const DELETE: Parameters = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const LIST: Parameters = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const DELETE_LIST: Parameters = &[
    ("continue", "string"),
    ("dryRun", "string"),
    ("fieldSelector", "string"),
    ("gracePeriodSeconds", "integer"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
];

const PATCH_TYPES: &[&str] = &[
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// A discovery verb, the HTTP method it is and what the description calls it.
struct Operation {
    verb: &'static str,
    method: &'static str,
    action: &'static str,
    parameters: Parameters,
}

const fn operation(
    verb: &'static str,
    method: &'static str,
    action: &'static str,
    parameters: Parameters,
) -> Operation {
    Operation {
        verb,
        method,
        action,
        parameters,
    }
}

const ON_COLLECTION: &[Operation] = &[
    operation("list", "get", "list", LIST),
    operation("create", "post", "post", WRITE),
    operation("deletecollection", "delete", "deletecollection", DELETE_LIST),
];
const ON_ITEM: &[Operation] = &[
    operation("get", "get", "get", &[]),
    operation("update", "put", "put", WRITE),
    operation("patch", "patch", "patch", PATCH),
    operation("delete", "delete", "delete", DELETE),
];
const CREATE: Operation = operation("create", "post", "post", WRITE);

/// Group, version and kind of an operation's object.
#[derive(Clone, Copy)]
struct Body<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
}

/// Adds every path of a resource.
pub(super) fn add_resource(kind: &DescribedKind<'_>, paths: &mut Map<String, Value>) {
    let root = match kind.group.is_empty() {
        true => format!("/api/{}", kind.version),
        false => format!("/apis/{}/{}", kind.group, kind.version),
    };
    let scope = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{root}{scope}/{}", kind.plural);
    let body = Body {
        group: kind.group,
        version: kind.version,
        kind: kind.kind,
    };
    let namespace: &[&str] = if kind.namespaced { &["namespace"] } else { &[] };
    let item: &[&str] = if kind.namespaced {
        &["name", "namespace"]
    } else {
        &["name"]
    };
    add(paths, &collection, namespace, ON_COLLECTION, &kind.verbs, body);
    if kind.namespaced && kind.verbs.contains(&"list") {
        add(
            paths,
            &format!("{root}/{}", kind.plural),
            &[],
            &ON_COLLECTION[..1],
            &kind.verbs,
            body,
        );
    }
    let path = format!("{collection}/{{name}}");
    add(paths, &path, item, ON_ITEM, &kind.verbs, body);
    for sub in &kind.subresources {
        add_subresource(&path, item, sub, paths);
    }
}

fn add_subresource(item: &str, names: &[&str], sub: &DescribedSubresource<'_>, paths: &mut Map<String, Value>) {
    let path = format!("{item}/{}", sub.name);
    let body = Body {
        group: sub.group,
        version: sub.version,
        kind: sub.kind,
    };
    if !sub.kind.ends_with("Options") {
        add(paths, &path, names, ON_ITEM, &sub.verbs, body);
        add(paths, &path, names, &[CREATE], &sub.verbs, body);
        return;
    }
    let methods: &[&str] = match sub.name {
        "proxy" => &["get", "put", "post", "delete", "options", "head", "patch"],
        _ => &["get", "post"],
    };
    let connect: Map<String, Value> = methods
        .iter()
        .map(|method| ((*method).to_owned(), connection(body)))
        .collect();
    paths.insert(path.clone(), with_parameters(connect.clone(), names));
    if sub.name == "proxy" {
        let names: Vec<&str> = names.iter().copied().chain(["path"]).collect();
        paths.insert(format!("{path}/{{path}}"), with_parameters(connect, &names));
    }
}

fn connection(body: Body<'_>) -> Value {
    json!({
        "x-kubernetes-action": "connect",
        "x-kubernetes-group-version-kind": gvk(body),
        "responses": {"200": {"description": "OK", "content": {"*/*": {"schema": {"type": "string"}}}},
            "401": {"description": "Unauthorized"}},
    })
}

fn gvk(body: Body<'_>) -> Value {
    json!({"group": body.group, "version": body.version, "kind": body.kind})
}

/// Adds those operations of a path that the verbs allow.
fn add(paths: &mut Map<String, Value>, path: &str, names: &[&str], all: &[Operation], verbs: &[&str], body: Body<'_>) {
    for operation in all.iter().filter(|operation| verbs.contains(&operation.verb)) {
        let entry = paths.entry(path).or_insert_with(|| with_parameters(Map::new(), names));
        if let Some(entry) = entry.as_object_mut() {
            entry.insert(operation.method.to_owned(), describe(operation, body));
        }
    }
}

fn with_parameters(mut operations: Map<String, Value>, names: &[&str]) -> Value {
    let mut parameters: Vec<Value> = names
        .iter()
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}}))
        .collect();
    parameters.push(query("pretty", "string"));
    operations.insert("parameters".to_owned(), Value::Array(parameters));
    Value::Object(operations)
}

fn query(name: &str, kind: &str) -> Value {
    json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
}

fn describe(operation: &Operation, body: Body<'_>) -> Value {
    let parameters: Vec<Value> = operation
        .parameters
        .iter()
        .map(|(name, kind)| query(name, kind))
        .collect();
    let own = schema_reference(body);
    let answer = match operation.action {
        "delete" | "deletecollection" => meta_reference("Status"),
        "list" => schema_reference(Body {
            kind: &format!("{}List", body.kind),
            ..body
        }),
        _ => own.clone(),
    };
    let mut description = json!({
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": gvk(body),
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": answer}}},
            "401": {"description": "Unauthorized"}},
    });
    let mut set = |name: &str, value: Value| description[name] = value;
    if !parameters.is_empty() {
        set("parameters", json!(parameters));
    }
    let content = match operation.method {
        "post" | "put" => json!({"*/*": {"schema": own}}),
        "delete" => json!({"*/*": {"schema": meta_reference("DeleteOptions")}}),
        "patch" => {
            let custom = strata_meta::GroupVersionKind::new(body.group, body.version, body.kind);
            let custom = crate::Schema::builtin().type_of(&custom).is_none();
            let types = PATCH_TYPES
                .iter()
                .filter(|kind| !custom || !kind.contains("strategic"))
                .map(|kind| ((*kind).to_owned(), json!({"schema": meta_reference("Patch")})));
            Value::Object(types.collect())
        }
        _ => return description,
    };
    let required = operation.method != "delete";
    let request = if required {
        json!({"content": content, "required": true})
    } else {
        json!({"content": content})
    };
    set("requestBody", request);
    description
}

fn meta_reference(kind: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.{kind}")})
}

fn schema_reference(body: Body<'_>) -> Value {
    let gvk = strata_meta::GroupVersionKind::new(body.group, body.version, body.kind);
    let name = super::schemas::definition_of(&gvk);
    json!({"$ref": format!("#/components/schemas/{name}")})
}
