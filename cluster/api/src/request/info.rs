//! RequestInfo: verb, group, version, resource, subresource, namespace and name.

use super::Query;
use http::Method;
use strata_meta::FieldSelector;

/// What a request is about, as authorisation and dispatch see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestInfo {
    /// get, list, watch, create, update, patch, delete, deletecollection; for other paths the method in lower case.
    pub(crate) verb: &'static str,
    /// Whether the path names a resource.
    pub(crate) is_resource: bool,
    /// The whole path.
    pub(crate) path: String,
    /// The group, `""` for core.
    pub(crate) group: String,
    /// The version.
    pub(crate) version: String,
    /// The plural resource name.
    pub(crate) resource: String,
    /// The subresource, `""` for none.
    pub(crate) subresource: String,
    /// The namespace, `""` for none.
    pub(crate) namespace: String,
    /// The name, `""` for a collection.
    pub(crate) name: String,
    /// What follows the subresource: the path to proxy.
    pub(crate) tail: String,
}

impl RequestInfo {
    /// Reads method, decoded path and query.
    pub(crate) fn new(method: &Method, path: &str, query: &Query) -> Self {
        let mut info = Self {
            verb: plain_verb(method),
            path: path.to_owned(),
            ..Self::default()
        };
        let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let grouped = match parts.first() {
            Some(&"api") if parts.len() >= 3 => false,
            Some(&"apis") if parts.len() >= 4 => true,
            _ => return info,
        };
        parts.remove(0);
        if grouped {
            info.group = parts.remove(0).to_owned();
        }
        info.version = parts.remove(0).to_owned();
        info.is_resource = true;
        info.verb = resource_verb(method);
        if parts.first() == Some(&"watch") && parts.len() > 1 {
            info.verb = "watch";
            parts.remove(0);
        }
        info.read_parts(&parts, path);
        info.narrow_verb(query);
        info
    }

    fn read_parts(&mut self, parts: &[&str], path: &str) {
        let mut rest = parts;
        if let [first, namespace, more @ ..] = parts
            && *first == "namespaces"
        {
            self.namespace = (*namespace).to_owned();
            // `namespaces/x/status` and `/finalize` are subresources, anything else lives in the namespace.
            if let [resource, ..] = more
                && !matches!(*resource, "status" | "finalize")
            {
                rest = more;
            }
        }
        let part = |at: usize| rest.get(at).map_or(String::new(), |p| (*p).to_owned());
        self.resource = part(0);
        self.name = part(1);
        self.subresource = part(2);
        if rest.len() > 3 || (rest.len() == 3 && path.ends_with('/')) {
            self.tail = rest[3..].join("/");
            if path.ends_with('/') && !self.tail.is_empty() {
                self.tail.push('/');
            }
        }
    }

    fn narrow_verb(&mut self, query: &Query) {
        if self.name.is_empty() && self.verb == "get" {
            self.verb = if query.is_true("watch") { "watch" } else { "list" };
        } else if self.name.is_empty() && self.verb == "delete" {
            self.verb = "deletecollection";
        }
        // A collection that is read and narrowed to one name is authorised as that name.
        if matches!(self.verb, "list" | "watch")
            && self.name.is_empty()
            && let Ok(fields) = FieldSelector::parse(query.get("fieldSelector"))
            && let Some(name) = fields.required("metadata.name")
            && strata_meta::names::path_segment(name).is_empty()
        {
            self.name = name.to_owned();
        }
    }

    /// Whether the answer is a stream without an end of its own, which no request timeout cuts off.
    pub(crate) fn is_long_running(&self) -> bool {
        self.verb == "watch"
            || matches!(
                self.subresource.as_str(),
                "log" | "exec" | "attach" | "portforward" | "proxy"
            )
    }
}

fn plain_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::HEAD => "head",
        Method::OPTIONS => "options",
        _ => "",
    }
}

fn resource_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &str, path_and_query: &str) -> RequestInfo {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        RequestInfo::new(&method.parse().expect("method"), path, &Query::parse(query))
    }

    #[test]
    fn paths_read_as_upstream_reads_them() {
        for (method, path, expected) in [
            ("GET", "/api/v1/pods", "list||v1|pods||||"),
            ("GET", "/api/v1/namespaces/n/pods?watch=true", "watch||v1|pods||n||"),
            ("GET", "/api/v1/watch/namespaces/n/pods/p", "watch||v1|pods||n|p|"),
            ("GET", "/api/v1/namespaces/n", "get||v1|namespaces||n|n|"),
            ("GET", "/api/v1/namespaces", "list||v1|namespaces||||"),
            (
                "PUT",
                "/api/v1/namespaces/n/finalize",
                "update||v1|namespaces|finalize|n|n|",
            ),
            (
                "DELETE",
                "/apis/apps/v1/namespaces/n/deployments",
                "deletecollection|apps|v1|deployments||n||",
            ),
            (
                "DELETE",
                "/api/v1/namespaces/n/pods?fieldSelector=metadata.name%3Da",
                "deletecollection||v1|pods||n||",
            ),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/n/deployments/d/scale",
                "patch|apps|v1|deployments|scale|n|d|",
            ),
            ("GET", "/api/v1/nodes/a/proxy/x/y/", "get||v1|nodes|proxy||a|x/y/"),
            (
                "GET",
                "/api/v1/namespaces/n/services/s/proxy/",
                "get||v1|services|proxy|n|s|",
            ),
            (
                "GET",
                "/api/v1/pods?fieldSelector=metadata.name%3Da",
                "list||v1|pods|||a|",
            ),
            (
                "POST",
                "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                "create|authorization.k8s.io|v1|selfsubjectaccessreviews||||",
            ),
        ] {
            let i = read(method, path);
            let got = format!(
                "{}|{}|{}|{}|{}|{}|{}|{}",
                i.verb, i.group, i.version, i.resource, i.subresource, i.namespace, i.name, i.tail
            );
            assert_eq!(got, expected, "{method} {path}");
            assert!(i.is_resource);
        }
        for path in [
            "/",
            "/healthz",
            "/api",
            "/api/v1",
            "/apis/apps/v1",
            "/openapi/v3/apis/apps/v1",
        ] {
            let i = read("GET", path);
            assert!(!i.is_resource && i.verb == "get", "{path}");
        }
    }
}
