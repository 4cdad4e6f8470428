//! What extension API servers say they serve: discovery and schemas, fetched when they are found available.

use super::{Remote, forward};
use crate::{core::Core, json, openapi::foreign::Described};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::ACCEPT};
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
    time::Duration,
};
use strata_auth::{GROUP_MASTERS, UserInfo};
use strata_http::{Body, Connection};

/// A check should be answered quickly (upstream's limits).
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest document that is taken from another server.
const MAX_DOCUMENT_BYTES: usize = 16 << 20;
/// Both forms of aggregated discovery, and the plain one.
const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

/// What one group and version said last.
#[derive(Clone, Default)]
pub(crate) struct Document {
    /// The version of aggregated discovery: `version`, `resources`, `freshness`.
    pub(crate) discovery: Value,
    /// OpenAPI.
    pub(crate) openapi: Option<Arc<Described>>,
}

/// By the APIService's name.
#[derive(Default)]
pub(crate) struct Documents(RwLock<HashMap<String, Document>>);

impl Documents {
    /// What a server said last; a bare version that is stale before it has said anything.
    pub(crate) fn get(&self, remote: &Remote) -> Document {
        let known = self
            .0
            .read()
            .expect("no panic under this lock")
            .get(&remote.name)
            .cloned();
        let mut document = known.unwrap_or_else(|| Document {
            discovery: json!({"version": remote.version.version, "freshness": "Stale"}),
            openapi: None,
        });
        if !remote.available {
            document.discovery["freshness"] = json!("Stale");
        }
        document
    }

    pub(super) fn forget(&self, name: &str) {
        self.0.write().expect("no panic under this lock").remove(name);
    }

    fn put(&self, name: &str, document: Document) {
        self.0
            .write()
            .expect("no panic under this lock")
            .insert(name.to_owned(), document);
    }
}

/// Asks for the group and version itself. Errors: why the check fails, in upstream's words.
pub(super) async fn check(core: &Arc<Core>, remote: &Remote) -> Result<(), String> {
    let url = format!("https://{}:{}{}", remote.server_name(), remote.port, remote.path());
    match fetch(core, remote, &remote.path(), "application/json").await {
        Ok(response) if response.status().is_success() => Ok(()),
        Ok(response) => Err(format!(
            "failing or missing response from {url}: bad status from {url}: {}",
            response.status().as_u16()
        )),
        Err(why) => Err(format!("failing or missing response from {url}: Get {url:?}: {why}")),
    }
}

/// Fetches discovery and schemas of an available server and keeps them.
pub(super) async fn refresh(core: &Arc<Core>, remote: &Remote) {
    let mut document = core.aggregator.documents.get(remote);
    match discovery(core, remote).await {
        Ok(found) => document.discovery = found,
        Err(why) => {
            tracing::warn!(service = remote.name, why, "discovery of an extension API server");
            document.discovery["freshness"] = json!("Stale");
        }
    }
    match openapi(core, remote).await {
        Ok(found) => document.openapi = Some(Arc::new(found)),
        Err(why) => tracing::debug!(service = remote.name, why, "no OpenAPI v3 of an extension API server"),
    }
    core.aggregator.documents.put(&remote.name, document);
}

async fn discovery(core: &Arc<Core>, remote: &Remote) -> Result<Value, String> {
    let response = fetch(core, remote, "/apis", DISCOVERY).await?;
    let aggregated = response.status().is_success()
        && response.headers().get("content-type").is_some_and(|media| {
            let media = media.to_str().unwrap_or("");
            media.contains("as=APIGroupDiscoveryList")
        });
    if aggregated {
        let list = body(response).await?;
        let group = json::list(&list, "items")
            .iter()
            .find(|g| json::text(g, "metadata.name") == remote.version.group);
        let mut versions = group.into_iter().flat_map(|g| json::list(g, "versions"));
        let found = versions.find(|v| json::text(v, "version") == remote.version.version);
        let mut found = found
            .cloned()
            .unwrap_or_else(|| json!({"version": remote.version.version}));
        found["freshness"] = json!("Current");
        return Ok(found);
    }
    let response = fetch(core, remote, &remote.path(), "application/json").await?;
    if !response.status().is_success() {
        return Err(format!("status {}", response.status()));
    }
    Ok(from_plain(&body(response).await?, &remote.version.version))
}

/// An APIResourceList in the aggregated form.
fn from_plain(list: &Value, version: &str) -> Value {
    let mut resources: Vec<Value> = Vec::new();
    for entry in json::list(list, "resources") {
        let kind = json!({
            "group": json::text(entry, "group"), "version": json::text(entry, "version"), "kind": json::text(entry, "kind"),
        });
        let verbs = json::get(entry, "verbs").cloned().unwrap_or_else(|| json!([]));
        let name = json::text(entry, "name");
        if let Some((parent, sub)) = name.split_once('/') {
            let found = resources.iter_mut().find(|r| r["resource"] == parent);
            if let Some(Value::Object(parent)) = found {
                let subs = parent.entry("subresources").or_insert_with(|| json!([]));
                if let Value::Array(subs) = subs {
                    subs.push(json!({"subresource": sub, "responseKind": kind, "verbs": verbs}));
                }
            }
            continue;
        }
        let mut resource = json!({
            "resource": name, "responseKind": kind, "verbs": verbs, "singularResource": json::text(entry, "singularName"),
            "scope": if json::flag(entry, "namespaced") { "Namespaced" } else { "Cluster" },
        });
        for member in ["shortNames", "categories"] {
            if let Some(value) = json::get(entry, member) {
                resource[member] = value.clone();
            }
        }
        resources.push(resource);
    }
    json!({"version": version, "resources": resources, "freshness": "Current"})
}

async fn openapi(core: &Arc<Core>, remote: &Remote) -> Result<Described, String> {
    let index = fetch(core, remote, "/openapi/v3", "application/json").await?;
    if !index.status().is_success() {
        return Err(format!("status {}", index.status()));
    }
    let index = body(index).await?;
    let path = remote.path();
    let member = path.trim_start_matches('/');
    let url = index["paths"][member]["serverRelativeURL"].as_str();
    let url = url.ok_or("the index does not name the group and version")?;
    let hash = url.split_once("hash=").map_or("", |(_, hash)| hash).to_owned();
    let document = fetch(core, remote, url, "application/json").await?;
    if !document.status().is_success() {
        return Err(format!("status {}", document.status()));
    }
    let v3 = bytes(document).await?;
    // What is no JSON is not passed on.
    serde_json::from_slice::<serde::de::IgnoredAny>(&v3).map_err(|e| e.to_string())?;
    let v2 = fetch(core, remote, "/openapi/v2", "application/json").await?;
    let v2 = match v2.status().is_success() {
        true => Some(body(v2).await?),
        false => None,
    };
    Described::new(hash, &v3, v2.as_ref(), &remote.version)
}

async fn fetch(core: &Arc<Core>, remote: &Remote, path: &str, accept: &str) -> Result<Response<Body>, String> {
    let ask = async {
        let io = forward::connect(core, remote).await?;
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = path.parse().map_err(|e| format!("{path:?}: {e}"))?;
        let headers = request.headers_mut();
        let aggregator = UserInfo {
            name: "system:kube-aggregator".into(),
            groups: vec![GROUP_MASTERS.into()],
            ..UserInfo::default()
        };
        forward::identify(headers, &aggregator).map_err(|e| e.to_string())?;
        for (name, value) in [("host", &*remote.server_name()), (ACCEPT.as_str(), accept)] {
            let name = http::HeaderName::from_bytes(name.as_bytes()).map_err(|e| e.to_string())?;
            headers.insert(name, HeaderValue::from_str(value).map_err(|e| e.to_string())?);
        }
        let mut connection = Connection::http1(io).await.map_err(|e| e.to_string())?;
        let response = connection.send(request).await.map_err(|e| e.to_string())?;
        // The whole document, while the connection is held.
        let (parts, body) = response.into_parts();
        let bytes = Limited::new(body, MAX_DOCUMENT_BYTES).collect().await;
        let bytes: Bytes = bytes.map_err(|e| e.to_string())?.to_bytes();
        Ok(Response::from_parts(parts, Body::full(bytes)))
    };
    match tokio::time::timeout(CHECK_TIMEOUT, ask).await {
        Ok(answer) => answer,
        Err(_) => Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".into()),
    }
}

async fn body(response: Response<Body>) -> Result<Value, String> {
    serde_json::from_slice(&bytes(response).await?).map_err(|e| e.to_string())
}

async fn bytes(response: Response<Body>) -> Result<Bytes, String> {
    let collected = response.into_body().collect().await;
    Ok(collected.map_err(|e| e.to_string())?.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_list_becomes_a_version_of_aggregated_discovery() {
        let list = json!({"resources": [
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get"]},
            {"name": "flunders/status", "namespaced": true, "kind": "Flunder", "verbs": ["update"]},
        ]});
        let version = from_plain(&list, "v1alpha1");
        assert_eq!(version["resources"][0]["scope"], "Namespaced");
        assert_eq!(version["resources"][0]["subresources"][0]["subresource"], "status");
        assert_eq!(version["freshness"], "Current");
    }
}
