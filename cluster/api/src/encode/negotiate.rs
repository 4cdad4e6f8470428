//! Which form of an answer the client asks for.

use http::{
    HeaderMap,
    header::{ACCEPT, ACCEPT_ENCODING, USER_AGENT},
};
use strata_meta::{Reason, Status};

/// The encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    /// application/json
    Json,
    /// application/yaml
    Yaml,
    /// application/vnd.kubernetes.protobuf
    Protobuf,
}

/// What is sent in place of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The object itself.
    Object,
    /// meta.k8s.io Table.
    Table,
    /// meta.k8s.io PartialObjectMetadata, or in lists and watches whichever of the two fits.
    Partial,
    /// meta.k8s.io PartialObjectMetadataList.
    PartialList,
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
    /// Whether the client reads gzip.
    pub(crate) gzip: bool,
}

/// The plain JSON answer.
pub(crate) const JSON: Negotiated = Negotiated {
    media: Media::Json,
    shape: Shape::Object,
    meta_version: "v1",
    pretty: false,
    gzip: false,
};

/// What an endpoint can answer with, besides JSON and YAML of its objects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    /// Partial metadata, and tables if there are columns.
    pub(crate) transforms: bool,
    /// Tables.
    pub(crate) tables: bool,
    /// Its objects have a protobuf form; those of custom resources have none.
    pub(crate) protobuf: bool,
    /// It is a watch.
    pub(crate) stream: bool,
}

/// What is offered for failures and for documents that are no objects.
pub(crate) const PLAIN: Offer = Offer {
    transforms: false,
    tables: false,
    protobuf: true,
    stream: false,
};

/// Chooses by the Accept header. Errors: 406 when nothing in it can be served.
pub(crate) fn negotiate(headers: &HeaderMap, pretty: Option<bool>, offer: Offer) -> Result<Negotiated, Status> {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
    let accept = text(ACCEPT);
    let mut found = match accept {
        "" => JSON,
        // What is chosen has to have a streamed form; the next choice is not looked at.
        _ => match choose(accept, offer) {
            Some(form) if offer.stream && form.media == Media::Yaml => return Err(not_acceptable(&STREAMED)),
            Some(form) => form,
            None => return Err(not_acceptable(&MEDIA)),
        },
    };
    let for_people = || {
        let agent = text(USER_AGENT);
        ["curl", "Wget", "Mozilla/5.0"]
            .iter()
            .any(|known| agent.starts_with(known))
    };
    found.pretty = !offer.stream && (pretty.unwrap_or_else(|| found.pretty || for_people()));
    found.gzip = reads_gzip(headers);
    Ok(found)
}

/// Whether the client reads gzip.
pub(crate) fn reads_gzip(headers: &HeaderMap) -> bool {
    let codings = headers.get(ACCEPT_ENCODING).and_then(|v| v.to_str().ok()).unwrap_or("");
    codings.split(',').any(|coding| coding.trim() == "gzip")
}

/// The first clause that can be served.
fn choose(accept: &str, offer: Offer) -> Option<Negotiated> {
    clauses(accept).iter().find_map(|clause| clause.served(offer))
}

/// Wished-for clauses and exact ones come first.
fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = accept.split(',').filter_map(Clause::parse).collect();
    clauses.sort_by(|a, b| {
        let wild = |c: &Clause<'_>| (c.kind == "*", c.subtype == "*");
        b.quality.total_cmp(&a.quality).then_with(|| wild(a).cmp(&wild(b)))
    });
    clauses
}

/// The first of the subtypes of `application` that the client wishes for, whatever its parameters.
pub(crate) fn subtype(accept: &str, served: &[&'static str]) -> Option<&'static str> {
    let accept = if accept.is_empty() { "*/*" } else { accept };
    clauses(accept).iter().find_map(|clause| {
        let fits = |subtype: &&&str| {
            matches!(clause.kind, "application" | "*") && (clause.subtype == "*" || clause.subtype == **subtype)
        };
        served.iter().find(fits).copied()
    })
}

struct Clause<'a> {
    kind: &'a str,
    subtype: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f64,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = match parts.next()? {
            "*" => ("*", "*"),
            media => media.split_once('/')?,
        };
        let mut clause = Self {
            kind,
            subtype,
            parameters: parts.filter_map(|p| p.split_once('=')).collect(),
            quality: 1.0,
        };
        if let Some((_, quality)) = clause.parameters.iter().find(|(name, _)| *name == "q") {
            clause.quality = quality.parse().unwrap_or(1.0);
        }
        Some(clause)
    }

    fn served(&self, offer: Offer) -> Option<Negotiated> {
        let media = match (self.kind, self.subtype) {
            ("application", "json" | "*") | ("*", "*") => Media::Json,
            ("application", "yaml") => Media::Yaml,
            ("application", "vnd.kubernetes.protobuf") => Media::Protobuf,
            _ => return None,
        };
        let mut found = Negotiated { media, ..JSON };
        let (mut kind, mut group, mut version) = (None, "", "");
        for (name, value) in &self.parameters {
            match *name {
                "as" => kind = Some(*value),
                "g" => group = value,
                "v" => version = value,
                // Only these encodings have a streamed form, and there is one of each.
                "stream" if *value != "watch" || media == Media::Yaml => return None,
                // No version of the server itself can be chosen.
                "sv" if !value.is_empty() => return None,
                "pretty" => found.pretty = *value == "1",
                _ => {}
            }
        }
        let kind = match kind {
            None if group.is_empty() && version.is_empty() => {
                let served = media != Media::Protobuf || offer.protobuf;
                return served.then_some(found);
            }
            None => return None,
            Some(kind) => kind,
        };
        found.meta_version = match version {
            "v1" => "v1",
            "v1beta1" => "v1beta1",
            _ => return None,
        };
        found.shape = match kind {
            "Table" if offer.tables && media != Media::Protobuf => Shape::Table,
            "PartialObjectMetadata" => Shape::Partial,
            "PartialObjectMetadataList" => Shape::PartialList,
            _ => return None,
        };
        (offer.transforms && group == "meta.k8s.io").then_some(found)
    }
}

/// Whether the header names any media type that the route produces; parameters and wishes come later.
/// Errors: 406 in the words of upstream's router.
pub(crate) fn acceptable(headers: &HeaderMap, streams: bool) -> Result<(), Status> {
    let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let (media, streamed) = (&MEDIA[..], &STREAMED[..if streams { 2 } else { 0 }]);
    let named = |clause: &str| {
        let name = clause.split(';').next().unwrap_or("").trim();
        name == "*/*" || media.contains(&name) || streamed.contains(&name)
    };
    if accept.is_empty() || accept.split(',').any(named) {
        return Ok(());
    }
    let all = [media, streamed].concat().join(", ");
    let mut status = Status::failure(
        Reason::NotAcceptable,
        format_args!("406: Not Acceptable\n\nAvailable representations: {all}"),
    );
    status.details = Some(Box::default());
    Err(status)
}

const MEDIA: [&str; 3] = [
    "application/json",
    "application/yaml",
    strata_schema::protobuf::MEDIA_TYPE,
];
const STREAMED: [&str; 2] = [
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];

/// 406 as upstream words it.
fn not_acceptable(media: &[&str]) -> Status {
    Status::failure(
        Reason::NotAcceptable,
        format_args!("only the following media types are accepted: {}", media.join(", ")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: Offer = Offer {
        transforms: true,
        tables: true,
        protobuf: true,
        stream: false,
    };

    fn read(accept: &str, offer: Offer) -> Option<(Media, Shape, &'static str)> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().expect("header"));
        let found = negotiate(&headers, None, offer).ok()?;
        Some((found.media, found.shape, found.meta_version))
    }

    #[test]
    fn the_first_acceptable_form_is_chosen() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let protobuf_table = "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1";
        let (json, protobuf) = (Media::Json, Media::Protobuf);
        for (accept, expected) in [
            (kubectl, Some((json, Shape::Table, "v1"))),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Some((protobuf, Shape::Object, "v1")),
            ),
            (
                "application/json;q=0.5,application/yaml",
                Some((Media::Yaml, Shape::Object, "v1")),
            ),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Some((json, Shape::PartialList, "v1")),
            ),
            ("*/*, application/yaml", Some((Media::Yaml, Shape::Object, "v1"))),
            ("*/*", Some((json, Shape::Object, "v1"))),
            (protobuf_table, None),
            (
                &format!("{protobuf_table},application/json"),
                Some((json, Shape::Object, "v1")),
            ),
            ("application/json;as=Table;g=meta.k8s.io;v=v9", None),
            ("application/cbor", None),
            ("text/html", None),
        ] {
            assert_eq!(read(accept, OFFER), expected, "{accept}");
        }
        assert_eq!(read(kubectl, PLAIN), Some((json, Shape::Object, "v1")));
        let custom = Offer {
            protobuf: false,
            ..OFFER
        };
        assert_eq!(
            read("application/vnd.kubernetes.protobuf,application/json", custom),
            Some((json, Shape::Object, "v1"))
        );
        assert!(
            negotiate(&HeaderMap::new(), Some(true), OFFER)
                .expect("anything goes")
                .pretty
        );
    }

    #[test]
    fn what_no_route_produces_is_refused_before_anything_else() {
        let asked = |accept: &str, streams| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().expect("header"));
            acceptable(&headers, streams).map_err(|status| status.message)
        };
        assert!(asked("text/html, */*", false).is_ok() && asked("application/json;as=Nonsense", false).is_ok());
        assert_eq!(
            asked("application/*", true).expect_err("not a wildcard of the router"),
            "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, application/vnd.kubernetes.protobuf, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
        );
    }
}
