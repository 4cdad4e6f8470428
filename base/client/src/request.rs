//! Paths, queries and bodies of requests.

use crate::{Error, ListParams, Resource};
use bytes::Bytes;
use serde_json::Value;
use std::fmt::Write as _;

/// The path of a resource's collection, of an object, or of a subresource.
/// `namespace` is `""` for cluster-scoped resources and for all namespaces.
pub fn path(resource: Resource, namespace: &str, name: &str, subresource: &str) -> String {
    let mut path = match resource.group {
        "" => format!("/api/{}", resource.version),
        group => format!("/apis/{group}/{}", resource.version),
    };
    if resource.namespaced && !namespace.is_empty() {
        path.push_str("/namespaces/");
        escape(&mut path, namespace);
    }
    path.push('/');
    path.push_str(resource.plural);
    for part in [name, subresource] {
        if !part.is_empty() {
            path.push('/');
            escape(&mut path, part);
        }
    }
    path
}

/// Appends query parameters, leaving out the empty ones.
pub fn with_query(mut path: String, pairs: &[(&str, &str)]) -> String {
    let mut separator = if path.contains('?') { '&' } else { '?' };
    for (key, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        path.push(separator);
        separator = '&';
        path.push_str(key);
        path.push('=');
        escape(&mut path, value);
    }
    path
}

/// The query of a list.
pub fn list_path(resource: Resource, namespace: Option<&str>, params: &ListParams) -> String {
    let limit = params.limit.map(|n| n.to_string()).unwrap_or_default();
    with_query(
        path(resource, namespace.unwrap_or(""), "", ""),
        &[
            ("labelSelector", &params.label_selector),
            ("fieldSelector", &params.field_selector),
            ("limit", &limit),
            ("continue", &params.continue_token),
            ("resourceVersion", &params.resource_version),
        ],
    )
}

/// A request with a JSON body, or without one.
pub fn request(
    method: http::Method,
    uri: String,
    content_type: &str,
    body: Option<&Value>,
) -> Result<http::Request<Bytes>, Error> {
    let mut request = http::Request::builder()
        .method(method)
        .uri(uri)
        .header(http::header::ACCEPT, "application/json");
    let bytes = match body {
        None => Bytes::new(),
        Some(value) => {
            request = request.header(http::header::CONTENT_TYPE, content_type);
            Bytes::from(serde_json::to_vec(value)?)
        }
    };
    request
        .body(bytes)
        .map_err(|e| Error::Transport(format!("building the request: {e}")))
}

/// RFC 3986 percent-encoding of everything that is not unreserved.
fn escape(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => write!(out, "%{byte:02X}").expect("writing to a String cannot fail"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::*;

    #[test]
    fn paths_follow_the_scope() {
        assert_eq!(path(PODS, "a", "b", "status"), "/api/v1/namespaces/a/pods/b/status");
        assert_eq!(path(PODS, "", "", ""), "/api/v1/pods");
        assert_eq!(path(NODES, "ignored", "n", ""), "/api/v1/nodes/n");
        assert_eq!(
            path(CLUSTER_ROLES, "", "system:node", ""),
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode"
        );
    }

    #[test]
    fn queries_are_escaped_and_empty_ones_left_out() {
        let params = ListParams {
            limit: Some(5),
            ..ListParams::labels("a in (b,c)")
        };
        assert_eq!(
            list_path(DEPLOYMENTS, Some("n"), &params),
            "/apis/apps/v1/namespaces/n/deployments?labelSelector=a%20in%20%28b%2Cc%29&limit=5"
        );
    }
}
