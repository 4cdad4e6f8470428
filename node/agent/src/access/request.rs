//! What a request to the agent is about, as the API server's authorisers know it, and the token it carries.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, Method, header};

/// A browser cannot set a header on a WebSocket and says its token as a subprotocol.
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// The API verb of a method; none of the others' business.
pub(super) fn verb(method: &Method) -> &'static str {
    match method.as_str() {
        "POST" => "create",
        "GET" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

/// The subresources of the node of which any one permits the request, narrow ones first (KEP-2862).
pub(super) fn subresources(path: &str) -> Vec<&'static str> {
    let below = |folder: &str| {
        path.strip_prefix(folder)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let narrow = [
        ("/pods", "pods"),
        ("/healthz", "healthz"),
        ("/configz", "configz"),
        ("/runningpods", "pods"),
    ];
    let wide = [
        ("/stats", "stats"),
        ("/metrics", "metrics"),
        ("/logs", "log"),
        ("/checkpoint", "checkpoint"),
        ("/statusz", "statusz"),
        ("/flagz", "configz"),
    ];
    let of = |rows: &[(&str, &'static str)]| rows.iter().find(|(folder, _)| below(folder)).map(|(_, name)| *name);
    of(&narrow).into_iter().chain([of(&wide).unwrap_or("proxy")]).collect()
}

/// The bearer token of the Authorization header or of a WebSocket subprotocol.
pub(super) fn bearer_token(headers: &HeaderMap) -> Option<String> {
    let from_header = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.trim().split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim_start().to_owned())
        .filter(|token| !token.is_empty());
    from_header.or_else(|| {
        let lists = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
        lists
            .filter_map(|list| list.to_str().ok())
            .flat_map(|list| list.split(','))
            .find_map(|protocol| protocol.trim().strip_prefix(TOKEN_PROTOCOL))
            .and_then(|encoded| URL_SAFE_NO_PAD.decode(encoded).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_subresource_of_the_node() {
        for (path, expected) in [
            ("/metrics", &["metrics"][..]),
            ("/metrics/cadvisor", &["metrics"]),
            ("/stats/summary", &["stats"]),
            ("/logs/", &["log"]),
            ("/healthz/ping", &["healthz", "proxy"]),
            ("/pods", &["pods", "proxy"]),
            ("/podsecret", &["proxy"]),
            ("/runningpods/", &["pods", "proxy"]),
            ("/configz", &["configz", "proxy"]),
            ("/flagz", &["configz"]),
            ("/exec/ns/pod/container", &["proxy"]),
            ("//metrics", &["proxy"]),
            ("/metricsx", &["proxy"]),
        ] {
            assert_eq!(subresources(path), expected, "{path}");
        }
    }

    #[test]
    fn a_token_is_in_a_header_or_a_subprotocol() {
        let token = |name, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            bearer_token(&headers)
        };
        assert_eq!(token(header::AUTHORIZATION, "bearer a.b").as_deref(), Some("a.b"));
        assert_eq!(token(header::AUTHORIZATION, "Basic YTpi"), None);
        assert_eq!(token(header::AUTHORIZATION, "Bearer "), None);
        let protocols = format!("v5.channel.k8s.io, {TOKEN_PROTOCOL}YS5i");
        assert_eq!(
            token(header::SEC_WEBSOCKET_PROTOCOL, &protocols).as_deref(),
            Some("a.b")
        );
    }
}
