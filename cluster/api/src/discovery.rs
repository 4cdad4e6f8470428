//! What is served: /api, /apis, their groups and versions, OpenAPI, and the keys of tokens.

use crate::{
    aggregate,
    core::Core,
    encode::{
        JSON, Media, Negotiated, acceptable, bytes_response, json_response, reads_gzip, status_response, value_response,
    },
    pipeline::Call,
    registry::{Row, Rows, Subresource},
};
use http::{
    HeaderValue, Method, Response,
    header::{ACCEPT, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use strata_http::Body;
use strata_meta::{GroupVersion, GroupVersionKind, Status};
use strata_schema::protobuf;

/// Answers if the path is one of these. Errors: 406, 405.
pub(crate) fn serve(call: &Call) -> Result<Option<Response<Body>>, Status> {
    let path = call.info.path.trim_matches('/');
    let parts: Vec<&str> = path.split('/').collect();
    let rows = call.core.registry.rows();
    let value = match parts.as_slice() {
        [""] => Some(root(&call.core, &rows)),
        // The two roots look at the path alone.
        ["api"] => return versions_or_groups(call, &rows, true).map(Some),
        ["apis"] => return versions_or_groups(call, &rows, false).map(Some),
        ["api", version] => resources(&rows, "", version),
        ["apis", group] => group_value(&call.core, &rows, group),
        ["apis", group, version] => resources(&rows, group, version),
        [".well-known", "openid-configuration"] => {
            let keys = format!("https://{}/openid/v1/jwks", call.core.advertise);
            return get_only(call, || {
                issuer_document(&call.core.issuer.discovery_document(&keys), "application/json")
            });
        }
        ["openid", "v1", "jwks"] => {
            return get_only(call, || {
                issuer_document(&call.core.issuer.key_set(), "application/jwk-set+json")
            });
        }
        _ => None,
    };
    let Some(value) = value else {
        return Ok(None);
    };
    if parts[0].is_empty() {
        return get_only(call, || Ok(value_response(200, &value, call.form()?)));
    }
    if call.method != Method::GET {
        return Err(Status::method_not_allowed());
    }
    acceptable(&call.headers, false)?;
    Ok(Some(value_response(200, &value, call.form()?)))
}

/// What verifies tokens; seldom changes.
fn issuer_document(value: &Value, media: &'static str) -> Result<Response<Body>, Status> {
    let bytes = serde_json::to_vec(value).map_err(Status::internal)?;
    let mut response = json_response(200, Body::full(bytes));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert("cache-control", HeaderValue::from_static("public, max-age=3600"));
    Ok(response)
}

fn get_only(
    call: &Call,
    answer: impl FnOnce() -> Result<Response<Body>, Status>,
) -> Result<Option<Response<Body>>, Status> {
    if !matches!(call.method, Method::GET | Method::HEAD) {
        return Ok(Some(status_response(&Status::method_not_allowed())));
    }
    answer().map(Some)
}

fn root(core: &Core, rows: &Rows) -> Value {
    let mut paths = vec![
        "/.well-known/openid-configuration".to_owned(),
        "/api".into(),
        "/api/v1".into(),
        "/apis".into(),
        "/apis/".into(),
    ];
    for group in groups(core, rows).iter().filter(|g| !g.name.is_empty()) {
        paths.push(format!("/apis/{}", group.name));
        paths.extend(group.versions.iter().map(|(v, _)| format!("/apis/{}/{v}", group.name)));
    }
    paths.extend(
        [
            "/flagz",
            "/metrics",
            "/metrics/slis",
            "/openapi/v2",
            "/openapi/v3",
            "/openapi/v3/",
            "/openid/v1/jwks",
            "/statusz",
            "/version",
        ]
        .map(str::to_owned),
    );
    paths.extend(crate::health::paths());
    paths.sort();
    json!({"paths": paths})
}

struct Group {
    name: String,
    /// Each with its priority.
    versions: Vec<(String, i64)>,
    priority: i64,
}

/// The groups of this server and of others, in upstream's order of preference.
fn groups(core: &Core, rows: &Rows) -> Vec<Group> {
    // The aggregation's own group comes first after core.
    let own = |version: &GroupVersion| aggregate::priority(version).unwrap_or((17900, 15));
    let remotes = core.aggregator.all();
    let mut groups: Vec<Group> = Vec::new();
    let local = rows.iter().map(|row| row.gvk.group_version());
    let local = local.map(|version| (own(&version), version));
    let remote = remotes.iter().map(|r| (r.priority, r.version.clone()));
    for ((of_group, of_version), GroupVersion { group: name, version }) in local.chain(remote) {
        let at = groups.iter().position(|g| g.name == name).unwrap_or_else(|| {
            groups.push(Group {
                name,
                versions: Vec::new(),
                priority: 0,
            });
            groups.len() - 1
        });
        let group = &mut groups[at];
        group.priority = group.priority.max(of_group);
        if !group.versions.iter().any(|(known, _)| *known == version) {
            group.versions.push((version, of_version));
        }
    }
    for group in &mut groups {
        group
            .versions
            .sort_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then_with(|| by_stability(a, b)));
    }
    groups.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.name.cmp(&b.name)));
    groups
}

/// A stable version before a beta before an alpha, a higher number before a lower; then whatever else, by name.
fn by_stability(a: &str, b: &str) -> std::cmp::Ordering {
    fn read(version: &str) -> Option<(u8, u32, u32)> {
        let rest = version.strip_prefix('v')?;
        let (stability, major, minor) = match (rest.split_once("alpha"), rest.split_once("beta")) {
            (Some((major, minor)), _) => (1, major, minor),
            (_, Some((major, minor))) => (2, major, minor),
            _ => (3, rest, "0"),
        };
        Some((stability, major.parse().ok()?, minor.parse().ok()?))
    }
    match (read(a), read(b)) {
        (Some(x), Some(y)) => y.cmp(&x),
        (x, y) => y.is_some().cmp(&x.is_some()).then_with(|| a.cmp(b)),
    }
}

fn version_value(group: &str, version: &str) -> Value {
    json!({"groupVersion": GroupVersion::new(group, version).to_string(), "version": version})
}

fn group_body(group: &Group) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|(v, _)| version_value(&group.name, v))
        .collect();
    json!({"name": group.name, "versions": versions, "preferredVersion": versions.first()})
}

fn group_value(core: &Core, rows: &Rows, name: &str) -> Option<Value> {
    let groups = groups(core, rows);
    let group = groups.iter().find(|g| g.name == name && !name.is_empty())?;
    let mut value = group_body(group);
    value["kind"] = json!("APIGroup");
    value["apiVersion"] = json!("v1");
    Some(value)
}

fn resources(rows: &Rows, group: &str, version: &str) -> Option<Value> {
    let mut list = Vec::new();
    for row in rows.iter().filter(|r| r.gvk.group == group && r.gvk.version == version) {
        list.push(resource_value(row));
        list.extend(row.subresources.iter().map(|sub| subresource_value(row, sub)));
    }
    if list.is_empty() {
        return None;
    }
    let group_version = GroupVersion::new(group, version).to_string();
    let mut value = json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": list});
    // The oldest document of the kind says no version.
    if !group.is_empty() {
        value["apiVersion"] = json!("v1");
    }
    Some(value)
}

fn resource_value(row: &Row) -> Value {
    let mut value = json!({
        "name": row.resource.resource, "singularName": row.singular, "namespaced": row.namespaced,
        "kind": row.gvk.kind, "verbs": row.verbs,
    });
    if !row.short_names.is_empty() {
        value["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        value["categories"] = json!(row.categories);
    }
    if !row.storage_version_hash.is_empty() {
        value["storageVersionHash"] = json!(row.storage_version_hash);
    }
    value
}

fn subresource_value(row: &Row, sub: &Subresource) -> Value {
    let mut value = json!({
        "name": format!("{}/{}", row.resource.resource, sub.name), "singularName": "", "namespaced": row.namespaced,
        "kind": sub.gvk.kind, "verbs": sub.verbs,
    });
    if sub.gvk.group_version() != row.gvk.group_version() {
        value["group"] = json!(sub.gvk.group);
        value["version"] = json!(sub.gvk.version);
    }
    value
}

/// Which encoding of the aggregated form the client prefers to the plain one.
fn aggregated_media(call: &Call) -> Option<Media> {
    let accept = call.headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    for clause in accept.split(',') {
        let mut parts = clause.split(';').map(str::trim);
        let media = match parts.next() {
            Some("application/json" | "application/*" | "*/*") => Media::Json,
            Some("application/yaml") => Media::Yaml,
            Some(protobuf::MEDIA_TYPE) => Media::Protobuf,
            _ => continue,
        };
        let parameters: Vec<&str> = parts.collect();
        let has = |part: &str| parameters.contains(&part);
        if has("g=apidiscovery.k8s.io") && has("as=APIGroupDiscoveryList") && has("v=v2") {
            return Some(media);
        }
        if !parameters.iter().any(|p| p.starts_with("as=")) {
            return None;
        }
    }
    None
}

fn versions_or_groups(call: &Call, rows: &Rows, core: bool) -> Result<Response<Body>, Status> {
    if let Some(media) = aggregated_media(call) {
        return aggregated(call, rows, core, media);
    }
    let value = if core {
        let address = call.core.advertise.to_string();
        json!({"kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]})
    } else {
        let list: Vec<Value> = groups(&call.core, rows)
            .iter()
            .filter(|g| !g.name.is_empty())
            .map(group_body)
            .collect();
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list})
    };
    Ok(value_response(200, &value, call.form()?))
}

fn aggregated(call: &Call, rows: &Rows, core: bool, media: Media) -> Result<Response<Body>, Status> {
    let items: Vec<Value> = groups(&call.core, rows)
        .iter()
        .filter(|g| g.name.is_empty() == core)
        .map(|group| {
            let versions: Vec<Value> = group
                .versions
                .iter()
                .map(|(v, _)| {
                    if let Some(remote) = call.core.aggregator.serving(&GroupVersion::new(&group.name, v)) {
                        return call.core.aggregator.documents.get(&remote).discovery;
                    }
                    let resources: Vec<Value> = rows
                        .iter()
                        .filter(|r| r.gvk.group == group.name && r.gvk.version == *v)
                        .map(aggregated_resource)
                        .collect();
                    json!({"version": v, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let metadata = if core { json!({}) } else { json!({"name": group.name}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    let value = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items});
    let (bytes, name) = match media {
        Media::Json => (
            serde_json::to_vec(&value).map_err(Status::internal)?,
            "application/json",
        ),
        Media::Yaml => {
            let text = serde_saphyr::to_string(&value).map_err(Status::internal)?;
            (text.into_bytes(), "application/yaml")
        }
        Media::Protobuf => {
            let gvk = GroupVersionKind::new("apidiscovery.k8s.io", "v2", "APIGroupDiscoveryList");
            let bytes = protobuf::encode_from_json(&gvk, &value).map_err(Status::internal)?;
            (bytes, protobuf::MEDIA_TYPE)
        }
    };
    cacheable(
        call,
        bytes,
        &format!("{name};g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"),
    )
}

fn aggregated_resource(row: &Arc<Row>) -> Value {
    let kind = |gvk: &strata_meta::GroupVersionKind| {
        let own = gvk.group_version() == row.gvk.group_version();
        let (group, version) = if own {
            ("", "")
        } else {
            (gvk.group.as_str(), gvk.version.as_str())
        };
        json!({"group": group, "version": version, "kind": gvk.kind})
    };
    let mut value = json!({
        "resource": row.resource.resource, "responseKind": kind(&row.gvk), "singularResource": row.singular,
        "scope": if row.namespaced { "Namespaced" } else { "Cluster" }, "verbs": row.verbs,
    });
    if !row.short_names.is_empty() {
        value["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        value["categories"] = json!(row.categories);
    }
    if !row.subresources.is_empty() {
        let list: Vec<Value> = row
            .subresources
            .iter()
            .map(|sub| json!({"subresource": sub.name, "responseKind": kind(&sub.gvk), "verbs": sub.verbs}))
            .collect();
        value["subresources"] = json!(list);
    }
    value
}

/// An answer with an ETag; 304 when the client has it.
fn cacheable(call: &Call, bytes: Vec<u8>, media: &str) -> Result<Response<Body>, Status> {
    let digest = Sha256::digest(&bytes);
    let hex: String = digest.iter().map(|b| format!("{b:02X}")).collect();
    let tag = format!("\"{hex}\"");
    let known = call
        .headers
        .get(IF_NONE_MATCH)
        .is_some_and(|v| v.as_bytes() == tag.as_bytes());
    let mut response = match known {
        true => json_response(304, Body::empty()),
        false => {
            // The form is chosen already, by names that only discovery knows.
            let gzip = reads_gzip(&call.headers);
            bytes_response(200, "application/json", bytes, Negotiated { gzip, ..JSON })
        }
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, HeaderValue::from_str(&tag).map_err(Status::internal)?);
    match known {
        true => headers.remove(CONTENT_TYPE),
        false => headers.insert(CONTENT_TYPE, HeaderValue::from_str(media).map_err(Status::internal)?),
    };
    headers.append("vary", HeaderValue::from_static("Accept"));
    headers.insert("cache-control", HeaderValue::from_static("public"));
    Ok(response)
}
