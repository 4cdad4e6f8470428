//! Which form of an answer the client asks for.

use http::{HeaderMap, header::ACCEPT};
use strata_meta::{Reason, Status};

/// The encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    /// application/json
    Json,
    /// application/yaml
    Yaml,
    /// application/vnd.kubernetes.protobuf, for clients that take nothing else: JSON is what is at hand.
    Protobuf,
}

/// What is sent in place of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The object itself.
    Object,
    /// meta.k8s.io Table.
    Table,
    /// meta.k8s.io PartialObjectMetadata or its list.
    Partial,
}

/// The outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Negotiated {
    /// The encoding.
    pub(crate) media: Media,
    /// The shape.
    pub(crate) shape: Shape,
    /// `v1` or `v1beta1` of meta.k8s.io, for tables and partial metadata.
    pub(crate) meta_version: &'static str,
    /// Whether JSON is indented.
    pub(crate) pretty: bool,
}

/// The plain JSON answer.
pub(crate) const JSON: Negotiated = Negotiated {
    media: Media::Json,
    shape: Shape::Object,
    meta_version: "v1",
    pretty: false,
};

/// Chooses by the Accept header. Errors: 406 when nothing in it can be served.
pub(crate) fn negotiate(headers: &HeaderMap, pretty: bool) -> Result<Negotiated, Status> {
    negotiate_among(headers, pretty, |_| true)
}

/// The same for an answer that is no stored object and so has no table.
pub(crate) fn negotiate_untabled(headers: &HeaderMap, pretty: bool) -> Result<Negotiated, Status> {
    negotiate_among(headers, pretty, |form| form.shape != Shape::Table)
}

fn negotiate_among(headers: &HeaderMap, pretty: bool, served: fn(&Negotiated) -> bool) -> Result<Negotiated, Status> {
    let mut any = false;
    let mut best: Option<(f32, Negotiated)> = None;
    for value in headers.get_all(ACCEPT) {
        for clause in value.to_str().unwrap_or("").split(',').filter(|c| !c.trim().is_empty()) {
            any = true;
            let Some((mut quality, found)) = read_clause(clause).filter(|(_, form)| served(form)) else {
                continue;
            };
            if found.media == Media::Protobuf {
                quality *= 0.001;
            }
            if best.is_none_or(|(q, _)| quality > q) {
                best = Some((quality, found));
            }
        }
    }
    match best {
        Some((_, found)) => Ok(Negotiated { pretty, ..found }),
        None if !any => Ok(Negotiated { pretty, ..JSON }),
        None => Err(not_acceptable()),
    }
}

/// 406 as upstream words it.
pub(crate) fn not_acceptable() -> Status {
    Status::failure(
        Reason::NotAcceptable,
        "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf",
    )
}

fn read_clause(clause: &str) -> Option<(f32, Negotiated)> {
    let mut parts = clause.split(';').map(str::trim);
    let media = match parts.next()? {
        "application/json" | "*/*" | "application/*" => Media::Json,
        "application/yaml" => Media::Yaml,
        strata_schema::protobuf::MEDIA_TYPE => Media::Protobuf,
        _ => return None,
    };
    let mut found = Negotiated { media, ..JSON };
    let mut quality = 1.0;
    let mut group = "";
    let mut version = "";
    let mut shape = "";
    for (name, value) in parts.filter_map(|p| p.split_once('=')) {
        match name.trim() {
            "q" => quality = value.trim().parse().ok()?,
            "as" => shape = value.trim(),
            "g" => group = value.trim(),
            "v" => version = value.trim(),
            _ => {}
        }
    }
    if !shape.is_empty() {
        if media == Media::Protobuf {
            return None;
        }
        found.shape = match shape {
            "Table" => Shape::Table,
            "PartialObjectMetadata" | "PartialObjectMetadataList" => Shape::Partial,
            _ => return None,
        };
        if group != "meta.k8s.io" {
            return None;
        }
        found.meta_version = match version {
            "v1" => "v1",
            "v1beta1" => "v1beta1",
            _ => return None,
        };
    }
    Some((quality, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(accept: &str) -> Option<(Media, Shape, &'static str)> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().expect("header"));
        negotiate(&headers, false)
            .ok()
            .map(|n| (n.media, n.shape, n.meta_version))
    }

    #[test]
    fn the_first_acceptable_form_is_chosen() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(read(kubectl), Some((Media::Json, Shape::Table, "v1")));
        assert_eq!(
            read("application/vnd.kubernetes.protobuf,application/json"),
            Some((Media::Json, Shape::Object, "v1"))
        );
        assert_eq!(
            read("application/json;q=0.5,application/yaml"),
            Some((Media::Yaml, Shape::Object, "v1"))
        );
        assert_eq!(
            read("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
            Some((Media::Json, Shape::Partial, "v1"))
        );
        assert_eq!(read("*/*"), Some((Media::Json, Shape::Object, "v1")));
        let only = read("application/vnd.kubernetes.protobuf").expect("served");
        assert_eq!(only.0, Media::Protobuf);
        assert_eq!(
            read("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1"),
            None
        );
        assert_eq!(read("text/html"), None);
        let mut table_only = HeaderMap::new();
        table_only.insert(
            ACCEPT,
            "application/json;as=Table;v=v1;g=meta.k8s.io".parse().expect("header"),
        );
        assert!(negotiate_untabled(&table_only, false).is_err());
        assert!(negotiate(&HeaderMap::new(), true).expect("anything goes").pretty);
    }
}
