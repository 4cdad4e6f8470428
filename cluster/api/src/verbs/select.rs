//! Selectors, revisions and pages of lists.

use crate::{
    cache::{FieldRef, Filter, Selectable},
    registry::Row,
    request::{Query, RequestInfo},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use strata_meta::{FieldSelector, Revision, Selector, Status};

/// The filter of a list or watch. Errors: 400 for a selector that cannot be read or names an unknown field.
pub(crate) fn filter(row: &Row, namespace: &str, labels: &str, fields: &str) -> Result<Filter, Status> {
    let labels =
        Selector::parse(labels).map_err(|e| Status::bad_request(format_args!("unable to parse requirement: {e}")))?;
    let fields = FieldSelector::parse(fields).map_err(Status::bad_request)?;
    let paths = row.cache.as_ref().map(|cache| cache.fields());
    let paths = paths.as_deref().unwrap_or(&[]);
    let mut resolved = Vec::new();
    let mut shown = Vec::new();
    for (path, equal, value) in fields.terms {
        let field = match path.as_str() {
            "metadata.name" => FieldRef::Name,
            "metadata.namespace" => FieldRef::Namespace,
            other
                if row
                    .schema
                    .custom()
                    .is_some_and(|c| !c.version().selectable.iter().any(|s| s == other)) =>
            {
                return Err(unknown_field(row, other));
            }
            other if row.converts_elsewhere() => {
                let field = Selectable {
                    path: other.into(),
                    absent: "".into(),
                    fallback: "".into(),
                };
                shown.push((field, equal, value));
                continue;
            }
            other => {
                let stored = stored_field(row, other);
                let at = paths.iter().position(|p| *p.path == *stored);
                FieldRef::Indexed(at.ok_or_else(|| unknown_field(row, other))?)
            }
        };
        resolved.push((field, equal, value));
    }
    let name = resolved
        .iter()
        .find(|(field, equal, _)| *field == FieldRef::Name && *equal)
        .map(|(_, _, name)| name.clone());
    Ok(Filter {
        namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
        name,
        labels,
        fields: resolved,
        shown,
    })
}

/// Fields are indexed by their stored names.
fn stored_field<'a>(row: &Row, path: &'a str) -> std::borrow::Cow<'a, str> {
    match (row.gvk.kind.as_str(), path) {
        ("Pod", "spec.host") => return "spec.nodeName".into(),
        ("Job", "status.successful") => return "status.succeeded".into(),
        _ => {}
    }
    if path == "source" && row.gvk.kind == "Event" {
        return "source.component".into();
    }
    if row.conversion.is_some() && row.gvk.kind == "Event" {
        if let Some(rest) = path.strip_prefix("regarding.") {
            return format!("involvedObject.{rest}").into();
        }
        if path == "reportingController" {
            return "reportingComponent".into();
        }
    }
    path.into()
}

fn unknown_field(row: &Row, path: &str) -> Status {
    let only = "\"metadata.name\", \"metadata.namespace\"";
    if row.schema.is_custom() || row.cache.as_ref().is_some_and(|c| !c.fields().is_empty()) {
        return Status::bad_request(format_args!("field label not supported: {path}"));
    }
    Status::bad_request(format_args!("{path:?} is not a known field selector: only {only}"))
}

/// Reads a resourceVersion parameter; absent and `0` differ. Errors: 400.
pub(crate) fn parse_revision(text: &str) -> Result<Option<Revision>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    Revision::parse(text).map(Some).ok_or_else(|| {
        Status::bad_request(format_args!(
            "invalid resource version: resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))
    })
}

/// The same where upstream does not look at it before its storage does. Errors: 500 without a reason.
pub(crate) fn stated_revision(text: &str) -> Result<Option<Revision>, Status> {
    parse_revision(text).map_err(|status| {
        let why = status.message.trim_start_matches("invalid resource version: ");
        let mut bare = Status::failure(strata_meta::Reason::Unknown, why);
        bare.code = 500;
        bare
    })
}

/// What `continue` holds: upstream's form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Token {
    v: String,
    rv: i64,
    start: String,
}

/// The place where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// The revision all pages show; `None` goes on at the present one.
    pub(crate) revision: Option<Revision>,
    /// The namespace of the first key.
    pub(crate) namespace: String,
    /// The least name in it.
    pub(crate) name: String,
}

impl Page {
    /// After an object.
    pub(crate) fn after(revision: Option<Revision>, namespace: &str, name: &str) -> Self {
        Self {
            revision,
            namespace: namespace.to_owned(),
            name: format!("{name}\0"),
        }
    }

    /// The token that says so; in a list of one namespace the key is relative to that.
    pub(crate) fn encode(&self, within: Option<&str>) -> String {
        let token = Token {
            v: "meta.k8s.io/v1".into(),
            rv: self.revision.map_or(-1, |r| i64::try_from(r.0).unwrap_or(-1)),
            start: match (within, self.namespace.as_str()) {
                (Some(_), _) | (None, "") => self.name.clone(),
                (None, namespace) => format!("{namespace}/{}", self.name),
            },
        };
        let json = serde_json::to_vec(&token).expect("texts and a number are always JSON");
        URL_SAFE_NO_PAD.encode(json)
    }

    /// Reads a token of a list of one namespace, or of all. Errors: 400.
    pub(crate) fn decode(text: &str, within: Option<&str>) -> Result<Self, Status> {
        let invalid = |why: &dyn std::fmt::Display| {
            Status::bad_request(format_args!("invalid continue token: continue key is not valid: {why}"))
        };
        let bytes = URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|e| invalid(&illegal_base64(&e)))?;
        let token: Token = serde_json::from_slice(&bytes)
            .map_err(|e| invalid(&strata_schema::syntax_error(&bytes).unwrap_or_else(|| e.to_string())))?;
        if token.v != "meta.k8s.io/v1" {
            return Err(invalid(&format_args!(
                "server does not recognize this encoded version {}",
                token.v
            )));
        }
        if token.start.is_empty() {
            return Err(invalid(&"encoded start key empty (version meta.k8s.io/v1)"));
        }
        let start = token.start.strip_prefix('/').unwrap_or(&token.start);
        if start.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(invalid(&token.start));
        }
        if token.rv == 0 {
            return Err(invalid(
                &"incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            ));
        }
        let (namespace, name) = match within {
            Some(namespace) => (namespace, start),
            None => start.split_once('/').unwrap_or(("", start)),
        };
        Ok(Self {
            revision: u64::try_from(token.rv).ok().map(Revision),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}

fn illegal_base64(error: &base64::DecodeError) -> String {
    match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => {
            format!("illegal base64 data at input byte {at}")
        }
        other => other.to_string(),
    }
}

/// The selectors of a request.
pub(crate) fn request_filter(row: &Row, info: &RequestInfo, query: &Query) -> Result<Filter, Status> {
    let mut filter = filter(
        row,
        &info.namespace,
        query.get("labelSelector"),
        query.get("fieldSelector"),
    )?;
    // A namespace is its own scope: the namespaces resource is not filtered by it.
    if !row.namespaced {
        filter.namespace = None;
    }
    if !info.name.is_empty() && filter.name.is_none() {
        filter.name = Some(info.name.clone());
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continue_tokens_come_back() {
        for (page, within) in [
            (Page::after(Some(Revision(7)), "ns", "a"), None),
            (Page::after(Some(Revision(7)), "ns", "a"), Some("ns")),
            (Page::after(None, "", "node-1"), None),
        ] {
            let token = page.encode(within);
            assert_eq!(Page::decode(&token, within).expect("own token"), page);
        }
        for bad in ["x", "e30", "AAAA"] {
            assert_eq!(Page::decode(bad, None).expect_err(bad).code, 400);
        }
    }
}
