//! proxy of pods, services and nodes: the request goes on as it came, without the way to it.

use super::agent::{dial_agent, dial_pod};
use crate::{
    admission,
    core::Core,
    json,
    pipeline::{Call, RequestBody},
    registry::Row,
    webhook,
};
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{HOST, LOCATION, UPGRADE},
};
use serde_json::Value;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use strata_http::{Body, proxy};
use strata_meta::{GroupResource, Status, Uid};

pub(super) async fn serve(
    call: &mut Call,
    row: &Arc<Row>,
    request: Request<RequestBody>,
) -> Result<Response<Body>, Status> {
    let (prefix, rest) = split_path(request.uri().path(), row.namespaced);
    admission::connect(call, row).await?;
    let place = locate(call, row)?;
    if rest.is_empty() && matches!(call.method, Method::GET | Method::HEAD) {
        return redirect(request.uri());
    }
    let query = request.uri().query().map_or(String::new(), |q| format!("?{q}"));
    let uri = format!("/{}{query}", rest.trim_start_matches('/'));
    let (mut parts, body) = request.into_parts();
    if matches!(body, RequestBody::Memory(_)) && parts.headers.contains_key(UPGRADE) {
        return Err(Status::bad_request(
            "streams are not served to clients inside the process",
        ));
    }
    let (upstream, host) = match place {
        Place::Node(name) => (dial_agent(&call.core, &row.resource, &name).await?, name),
        Place::Pod(node, address) => (dial_pod(&call.core, &node, address).await?, address.to_string()),
    };
    parts.uri = uri.parse().map_err(Status::bad_request)?;
    parts
        .headers
        .insert(HOST, HeaderValue::from_str(&host).map_err(Status::bad_request)?);
    parts.headers.insert(
        "x-forwarded-uri",
        HeaderValue::from_str(&format!("{prefix}{rest}")).map_err(Status::bad_request)?,
    );
    let forwarded = proxy::forward(Request::from_parts(parts, body), upstream, call.core.cancel.clone());
    let mut response = forwarded
        .await
        .map_err(|e| Status::unavailable(format_args!("error trying to reach service: {e}")))?;
    keep_inside(&mut response, &prefix);
    Ok(response)
}

/// The way up to `proxy`, and what follows it with its slash, as they stand in the request.
fn split_path(path: &str, namespaced: bool) -> (String, String) {
    // /api/v1/[namespaces/NS/]PLURAL/NAME/proxy
    let segments = if namespaced { 8 } else { 6 };
    let at = path
        .match_indices('/')
        .nth(segments - 1)
        .map_or(path.len(), |(at, _)| at);
    (path[..at].to_owned(), path[at..].to_owned())
}

/// Relative links need the slash.
fn redirect(uri: &http::Uri) -> Result<Response<Body>, Status> {
    let query = uri.query().map_or(String::new(), |q| format!("?{q}"));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let location = HeaderValue::from_str(&format!("{}/{query}", uri.path())).map_err(Status::bad_request)?;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// A redirect to an absolute path stays within the proxied place.
fn keep_inside(response: &mut Response<Body>, prefix: &str) {
    let location = response.headers().get(LOCATION).and_then(|l| l.to_str().ok());
    if let Some(path) = location.filter(|l| l.starts_with('/') && !l.starts_with("//"))
        && let Ok(inside) = HeaderValue::from_str(&format!("{prefix}{path}"))
    {
        response.headers_mut().insert(LOCATION, inside);
    }
}

/// `[SCHEME:]NAME[:PORT]`.
fn split_name(name: &str) -> (&str, &str, &str) {
    let parts: Vec<&str> = name.split(':').collect();
    match parts.as_slice() {
        [scheme, name, port] => (scheme, name, port),
        [name, port] => ("", name, port),
        _ => ("", name, ""),
    }
}

/// Where a request goes.
enum Place {
    /// To the agent of a node.
    Node(String),
    /// To an address on a node.
    Pod(String, SocketAddr),
}

fn locate(call: &Call, row: &Row) -> Result<Place, Status> {
    let core = &call.core;
    let (scheme, name, port) = split_name(&call.info.name);
    let namespace = &call.info.namespace;
    let cache = core.stored(row)?;
    let object = cache.get(if row.namespaced { namespace } else { "" }, name);
    let object = object.ok_or_else(|| Status::not_found(&row.resource, name))?;
    let value = object.to_value().map_err(Status::internal)?;
    if row.resource.resource == "nodes" {
        return Ok(Place::Node(name.to_owned()));
    }
    if scheme == "https" {
        return Err(Status::bad_request("proxying to https endpoints is not supported"));
    }
    let (node, address) = match row.resource.resource.as_str() {
        "pods" => pod_address(&value, name, port)?,
        _ => service_address(core, &value, namespace, name, port)?,
    };
    Ok(Place::Pod(node, address))
}

fn pod_address(pod: &Value, name: &str, port: &str) -> Result<(String, SocketAddr), Status> {
    let number = match port {
        "" => json::list(pod, "spec.containers")
            .iter()
            .flat_map(|c| json::list(c, "ports"))
            .find_map(|p| json::int(p, "containerPort"))
            .and_then(|n| u16::try_from(n).ok())
            .unwrap_or(80),
        text => text.parse().map_err(|_| {
            Status::bad_request(format_args!("invalid pod request {name:?}: port {text:?} is no number"))
        })?,
    };
    let address: IpAddr = json::text(pod, "status.podIP")
        .parse()
        .map_err(|_| Status::bad_request("address not allowed"))?;
    if address.is_loopback() || address.is_unspecified() {
        return Err(Status::bad_request("address not allowed"));
    }
    Ok((
        json::text(pod, "spec.nodeName").to_owned(),
        SocketAddr::new(address, number),
    ))
}

fn service_address(
    core: &Core,
    service: &Value,
    namespace: &str,
    name: &str,
    port: &str,
) -> Result<(String, SocketAddr), Status> {
    let ports = json::list(service, "spec.ports");
    let resource = GroupResource::new("", "services");
    let chosen = match (port, ports) {
        ("", [only]) => Some(only),
        ("", many) => many.iter().find(|p| json::text(p, "name").is_empty()),
        (text, many) => many
            .iter()
            .find(|p| json::text(p, "name") == text || json::int(p, "port").is_some_and(|n| n.to_string() == text)),
    };
    let unavailable = || Status::unavailable(format_args!("no endpoints available for service {name:?}"));
    let Some(chosen) = chosen else {
        if ports.is_empty() {
            return Err(unavailable());
        }
        let mut status = Status::unavailable(format_args!("no service port {port:?} found for service {name:?}"));
        if let Some(details) = &mut status.details {
            details.kind = resource.resource;
        }
        return Err(status);
    };
    let wanted = json::text(chosen, "name");
    let mut found = webhook::endpoints(core, namespace, name, wanted).map_err(Status::internal)?;
    if found.is_empty() {
        return Err(unavailable());
    }
    let random = usize::from_str_radix(&Uid::random().as_str()[..8], 16).unwrap_or(0);
    Ok(found.swap_remove(random % found.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_and_the_rest_are_told_apart() {
        for (path, namespaced, way, rest) in [
            (
                "/api/v1/nodes/n/proxy/stats/summary",
                false,
                "/api/v1/nodes/n/proxy",
                "/stats/summary",
            ),
            (
                "/api/v1/namespaces/a/pods/proxy/proxy",
                true,
                "/api/v1/namespaces/a/pods/proxy/proxy",
                "",
            ),
            (
                "/api/v1/namespaces/a/services/s:80/proxy/",
                true,
                "/api/v1/namespaces/a/services/s:80/proxy",
                "/",
            ),
            (
                "/api/v1/namespaces/a/pods/p/proxy/a%2Fb",
                true,
                "/api/v1/namespaces/a/pods/p/proxy",
                "/a%2Fb",
            ),
        ] {
            assert_eq!(
                split_path(path, namespaced),
                (way.to_owned(), rest.to_owned()),
                "{path}"
            );
        }
        assert_eq!(split_name("https:web:443"), ("https", "web", "443"));
        assert_eq!(split_name("web:http"), ("", "web", "http"));
        assert_eq!(split_name("web"), ("", "web", ""));
    }
}
