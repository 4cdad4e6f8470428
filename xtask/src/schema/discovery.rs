//! Reads the resources a server serves from its recorded discovery documents.

use serde_json::Value;
use std::path::Path;

/// One served resource or subresource.
pub struct Resource {
    /// Group of its path.
    pub group: String,
    /// Version of its path.
    pub version: String,
    /// Plural name, with `/subresource` for a subresource.
    pub name: String,
    /// Singular name, empty for a subresource.
    pub singular: String,
    /// Group and version of the body, if not those of the path.
    pub body: Option<(String, String)>,
    /// Kind of the body.
    pub kind: String,
    /// Whether it lies in a namespace.
    pub namespaced: bool,
    /// Verbs.
    pub verbs: Vec<String>,
    /// Short names.
    pub short_names: Vec<String>,
    /// Categories.
    pub categories: Vec<String>,
    /// Opaque hash that says whether two servers store alike.
    pub storage_hash: String,
}

/// All resources: core first, then the groups in the order a server prefers them.
pub fn read(kubernetes: &Path) -> Result<Vec<Resource>, String> {
    let folder = kubernetes.join("api/discovery");
    let mut resources = read_list(&folder.join("api__v1.json"), "", "v1")?;
    let order = read_json(&folder.join("aggregated_v2.json"))?;
    for group in items(&order["items"]) {
        let name = text(&group["metadata"]["name"]);
        for version in items(&group["versions"]) {
            let version = text(&version["version"]);
            let file = folder.join(format!("apis__{name}__{version}.json"));
            resources.extend(read_list(&file, &name, &version)?);
        }
    }
    Ok(resources)
}

fn read_json(path: &Path) -> Result<Value, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", path.display()))
}

fn read_list(path: &Path, group: &str, version: &str) -> Result<Vec<Resource>, String> {
    let list = read_json(path)?;
    let resources = items(&list["resources"]).iter().map(|r| {
        let body_version = text(&r["version"]);
        Resource {
            group: group.to_owned(),
            version: version.to_owned(),
            name: text(&r["name"]),
            singular: text(&r["singularName"]),
            body: (!body_version.is_empty()).then(|| (text(&r["group"]), body_version)),
            kind: text(&r["kind"]),
            namespaced: r["namespaced"] == true,
            verbs: texts(&r["verbs"]),
            short_names: texts(&r["shortNames"]),
            categories: texts(&r["categories"]),
            storage_hash: text(&r["storageVersionHash"]),
        }
    });
    Ok(resources.collect())
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    items(value).iter().map(text).collect()
}
