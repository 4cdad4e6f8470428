//! Compares what was read from Go sources with the published OpenAPI description, so that a
//! change of layout upstream fails the generator instead of corrupting the table.

use super::go_source::{Field, Package, Struct};
use super::modules::Modules;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Fails with the first differences, if there are any.
pub fn cross_check(modules: &Modules, packages: &[Package]) -> Result<(), String> {
    let path = modules.kubernetes.join("api/openapi-spec/swagger.json");
    let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let document: Value = serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", path.display()))?;
    let by_path: BTreeMap<&str, &Package> = packages.iter().map(|p| (p.path.as_str(), p)).collect();
    let mut differences = Vec::new();
    let definitions = document["definitions"].as_object().cloned().unwrap_or_default();
    let mut compared = 0;
    for (name, definition) in &definitions {
        let Some((path, kind)) = go_name(name) else { continue };
        let Some(package) = by_path.get(path.as_str()) else {
            continue;
        };
        let (Some(declared), Some(properties)) = (package.structs.get(kind), definition["properties"].as_object())
        else {
            continue;
        };
        compared += 1;
        compare(
            name,
            &flattened(&by_path, package, declared),
            properties,
            &definition["required"],
            &mut differences,
        );
    }
    if compared < 600 {
        return Err(format!(
            "only {compared} of {} definitions found in the Go sources",
            definitions.len()
        ));
    }
    match differences.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "Go sources and swagger.json disagree:\n{}",
            differences.join("\n")
        )),
    }
}

/// `io.k8s.api.apps.v1.Deployment` is `Deployment` of `k8s.io/api/apps/v1`.
fn go_name(definition: &str) -> Option<(String, &str)> {
    let (package, kind) = definition.strip_prefix("io.k8s.")?.rsplit_once('.')?;
    Some((format!("k8s.io/{}", package.replace('.', "/")), kind))
}

/// The fields as JSON shows them, inlined structs resolved.
fn flattened<'a>(packages: &BTreeMap<&str, &'a Package>, package: &'a Package, of: &'a Struct) -> Vec<&'a Field> {
    let mut fields = Vec::new();
    for field in &of.fields {
        if !field.json.is_empty() {
            fields.push(field);
            continue;
        }
        let (home, name) = declared_at(packages, package, &field.go_type);
        if let Some(inner) = home.structs.get(name) {
            fields.extend(flattened(packages, home, inner));
        }
    }
    fields
}

/// The package and name of a type, aliases followed.
fn declared_at<'a>(
    packages: &BTreeMap<&str, &'a Package>,
    package: &'a Package,
    go_type: &'a str,
) -> (&'a Package, &'a str) {
    let go_type = go_type.trim_start_matches('*');
    let (home, name) = match go_type.strip_prefix('<').and_then(|t| t.split_once('>')) {
        Some((path, name)) => (packages.get(path).copied().unwrap_or(package), name),
        None => (package, go_type),
    };
    match home.named.get(name) {
        Some(named) if named.alias => declared_at(packages, home, &named.underlying),
        _ => (home, name),
    }
}

fn compare(name: &str, fields: &[&Field], properties: &Map<String, Value>, required: &Value, out: &mut Vec<String>) {
    let required: Vec<&str> = required
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut seen = 0;
    for field in fields {
        let Some(property) = properties.get(&field.json) else {
            out.push(format!("{name}.{}: only in Go", field.json));
            continue;
        };
        seen += 1;
        let keys: Vec<&str> = property["x-kubernetes-list-map-keys"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let text = |key: &str| property[key].as_str().unwrap_or_default().to_owned();
        let pairs = [
            ("list type", text("x-kubernetes-list-type"), field.list_type.clone()),
            ("list keys", keys.join(","), field.list_keys.join(",")),
            (
                "patch strategy",
                text("x-kubernetes-patch-strategy"),
                field.patch_strategy.clone(),
            ),
            (
                "patch key",
                text("x-kubernetes-patch-merge-key"),
                field.patch_key.clone(),
            ),
            (
                "required",
                required.contains(&field.json.as_str()).to_string(),
                field.required.to_string(),
            ),
        ];
        for (what, published, read) in pairs {
            if published != read {
                out.push(format!("{name}.{}: {what}: {published:?}, read {read:?}", field.json));
            }
        }
    }
    if seen != properties.len() {
        out.push(format!("{name}: {seen} of {} properties", properties.len()));
    }
}
