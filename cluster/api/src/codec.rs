//! From the bytes of a body to a value of the expected kind.

use crate::{metrics::waits, registry::Row, schema::RowSchema, verbs::Repeat, yaml};
use bytes::Bytes;
use http::{HeaderMap, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;
use strata_http::Body;
use strata_meta::{GroupKind, GroupVersion, GroupVersionKind, Reason, Status, StatusCause};
use strata_schema::{Decoded, Identity, Schema, protobuf};

/// Upstream's limit of a body.
pub(crate) const BODY_LIMIT: usize = 3 << 20;

/// What to do about unknown and duplicate fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    /// Drop them.
    Ignore,
    /// Drop them and say so in a header.
    Warn,
    /// Refuse the request.
    Strict,
}

impl FieldValidation {
    /// Reads the parameter. Errors: 422 naming the options kind.
    pub(crate) fn parse(text: &str, options: &str) -> Result<Self, Status> {
        match text {
            "" | "Warn" => Ok(Self::Warn),
            "Ignore" => Ok(Self::Ignore),
            "Strict" => Ok(Self::Strict),
            other => {
                let cause = StatusCause::not_supported("fieldValidation", other, &["", "Ignore", "Strict", "Warn"]);
                Err(invalid_options(options, cause))
            }
        }
    }
}

/// 422 about the parameters of a request.
pub(crate) fn invalid_options(kind: &str, cause: StatusCause) -> Status {
    let kind = strata_meta::GroupKind {
        group: "meta.k8s.io".into(),
        kind: kind.into(),
    };
    Status::invalid(&kind, "", vec![cause])
}

/// Reads a body. Errors: 413 above the limit, 400 when it breaks off.
pub(crate) async fn read_body(mut body: Body) -> Result<Bytes, Status> {
    match Limited::new(&mut body, BODY_LIMIT).collect().await {
        Ok(collected) => {
            let body = collected.to_bytes();
            waits::body(body.len());
            Ok(body)
        }
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            pass_over(body).await;
            Err(Status::failure(
                Reason::RequestEntityTooLarge,
                format_args!("Request entity too large: limit is {BODY_LIMIT}"),
            ))
        }
        Err(error) => Err(Status::bad_request(error)),
    }
}

/// Reads a little of what nobody wants, as Go's server does, so that the connection can be kept.
async fn pass_over(mut body: Body) {
    const MOST: usize = 256 << 10;
    let mut passed = 0;
    while passed < MOST
        && let Some(Ok(frame)) = body.frame().await
    {
        passed += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// The encodings of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyMedia {
    /// application/json
    Json,
    /// application/yaml
    Yaml,
    /// application/vnd.kubernetes.protobuf
    Protobuf,
}

const ACCEPTED: [&str; 3] = [
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];

/// Warnings tell of each key that repeats in YAML by itself.
fn one_by_one(why: &str) -> Vec<String> {
    match why.strip_prefix("yaml: unmarshal errors:") {
        Some(lines) => lines
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .map(str::to_owned)
            .collect(),
        None => vec![why.to_owned()],
    }
}

/// The encoding the Content-Type names; JSON when there is none. Errors: 415.
pub(crate) fn body_media(headers: &HeaderMap) -> Result<BodyMedia, Status> {
    let text = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    match text.split(';').next().unwrap_or("").trim() {
        "" if !text.is_empty() => Err(unsupported_media(&ACCEPTED)),
        "" | "application/json" => Ok(BodyMedia::Json),
        "application/yaml" => Ok(BodyMedia::Yaml),
        protobuf::MEDIA_TYPE => Ok(BodyMedia::Protobuf),
        _ => Err(unsupported_media(&ACCEPTED)),
    }
}

/// 415 as upstream words it.
pub(crate) fn unsupported_media(accepted: &[&str]) -> Status {
    Status::failure(
        Reason::UnsupportedMediaType,
        format_args!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        ),
    )
}

/// Decodes a body into the canonical form of `gvk`; what field validation says goes to `warnings`.
/// Errors: 400 with upstream's sentences.
pub(crate) fn decode_body(
    gvk: &GroupVersionKind,
    media: BodyMedia,
    bytes: &[u8],
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let value = decode_as(&RowSchema::Builtin, gvk, media, bytes, validation, warnings)?;
    crate::audit::brought(&RowSchema::Builtin, gvk, &value);
    Ok(value)
}

/// Decodes a body into an object of a row. Errors: as [`decode_body`], and 415 for what has no protobuf form.
pub(crate) fn decode_row(
    row: &Row,
    media: BodyMedia,
    bytes: &[u8],
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    if row.schema.is_custom() && media == BodyMedia::Protobuf {
        return Err(unsupported_media(&["application/json", "application/yaml"]));
    }
    let value = decode_as(&row.schema, &row.gvk, media, bytes, validation, warnings)?;
    crate::audit::brought(&row.schema, &row.gvk, &value);
    Ok(value)
}

fn decode_as(
    schema: &RowSchema,
    gvk: &GroupVersionKind,
    media: BodyMedia,
    bytes: &[u8],
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let unrecognised = |why: &str| {
        let kind = &gvk.kind;
        let summary = summary(bytes);
        Status::bad_request(format_args!(
            "the object provided is unrecognized (must be of type {kind}): {why} ({summary})"
        ))
    };
    let decoded = match media {
        BodyMedia::Json => {
            let identity = strata_schema::identify(bytes).map_err(|e| unrecognised(&e.to_string()))?;
            if schema.is_custom() && identity.kind.is_empty() {
                let body = String::from_utf8_lossy(bytes);
                return Err(unrecognised(&format!("Object 'Kind' is missing in '{body}'")));
            }
            if schema.is_custom() && identity.kind != gvk.kind && identity.api_version == gvk.api_version() {
                return Err(another_kind(gvk, &identity, bytes));
            }
            check_identity(gvk, &identity, bytes)?;
            schema.decode(gvk, bytes)
        }
        BodyMedia::Yaml => {
            let document = yaml::read(bytes).map_err(|e| unrecognised(&format!("yaml: {e}")))?;
            let repeated = document.strict_error();
            let value = document.value;
            let text = |name| value.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
            let identity = Identity {
                api_version: text("apiVersion"),
                kind: text("kind"),
            };
            check_identity(gvk, &identity, bytes)?;
            schema.decode_value(gvk, value).map(|mut decoded| {
                decoded.strict.splice(0..0, repeated);
                decoded
            })
        }
        BodyMedia::Protobuf => {
            if !protobuf::is_protobuf(bytes) {
                return Err(unrecognised(
                    "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]",
                ));
            }
            let envelope = protobuf::open(bytes).map_err(|e| unrecognised(&e.to_string()))?;
            let identity = Identity {
                api_version: envelope.api_version,
                kind: envelope.kind,
            };
            check_identity(gvk, &identity, bytes)?;
            protobuf::decode_to_json(bytes, Some(gvk)).map(|value| Decoded {
                value,
                strict: Vec::new(),
            })
        }
    };
    finish(gvk, decoded, validation, warnings)
}

/// A custom resource that says it is of another kind of its group is refused as one of that kind.
fn another_kind(wanted: &GroupVersionKind, identity: &Identity, bytes: &[u8]) -> Status {
    let body: Value = serde_json::from_slice(bytes).unwrap_or(Value::Null);
    let decoded = GroupVersionKind::new(&wanted.group, &wanted.version, &identity.kind);
    crate::audit::brought(&RowSchema::Builtin, &decoded, &body);
    let stated = GroupKind {
        group: wanted.group.clone(),
        kind: identity.kind.clone(),
    };
    let name = body["metadata"]["name"].as_str().unwrap_or("");
    let why = format!("must be {}", wanted.kind);
    let cause = StatusCause::invalid("kind", identity.kind.as_str(), why);
    Status::invalid(&stated, name, vec![cause])
}

/// Decodes what a patch made, or converts it where upstream does; to what strict validation objects in it comes what it objected to in the patch.
/// Errors: 400, 422 as upstream gives for a patched object that does not decode.
pub(crate) fn decode_patched(
    schema: &RowSchema,
    gvk: &GroupVersionKind,
    (value, converts): (Value, bool),
    (validation, of_patch, repeats): (FieldValidation, &[String], &[Repeat]),
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let decoded = match converts {
        true => schema.decode_converted(gvk, value),
        false => schema.decode_value(gvk, value),
    };
    let decoded = decoded.map(|mut decoded| {
        let again: Vec<String> = repeats.iter().filter_map(|r| r.sentence(&decoded.value)).collect();
        decoded.strict.splice(0..0, of_patch.iter().cloned().chain(again));
        decoded
    });
    finish(gvk, decoded, validation, warnings)
}

/// What a patch made is still an object of its kind, where upstream's decoder looks. Errors: 400.
pub(crate) fn check_patched(
    schema: &RowSchema,
    gvk: &GroupVersionKind,
    value: &Value,
    text: &str,
) -> Result<(), Status> {
    let same = |name: &str, wanted: &str| value.get(name).and_then(Value::as_str) == Some(wanted);
    let unchanged = same("kind", &gvk.kind) && same("apiVersion", &gvk.api_version());
    if unchanged || (value.is_object() && schema.is_custom()) {
        return Ok(());
    }
    let identity = strata_schema::identify(text.as_bytes()).map_err(Status::bad_request)?;
    check_identity(gvk, &identity, text.as_bytes())
}

fn finish(
    gvk: &GroupVersionKind,
    decoded: Result<Decoded, strata_schema::Error>,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let decoded = decoded.map_err(|e| cannot_be_handled(gvk, gvk, e))?;
    match validation {
        FieldValidation::Ignore => {}
        FieldValidation::Warn => warnings.extend(decoded.strict.iter().flat_map(|why| one_by_one(why))),
        FieldValidation::Strict => {
            if let Some(why) = decoded.strict_error() {
                return Err(cannot_be_handled(gvk, gvk, why));
            }
        }
    }
    Ok(decoded.value)
}

fn cannot_be_handled(found: &GroupVersionKind, wanted: &GroupVersionKind, why: impl std::fmt::Display) -> Status {
    Status::bad_request(format_args!(
        "{} in version {:?} cannot be handled as a {}: {why}",
        found.kind, found.version, wanted.kind
    ))
}

/// A body may leave out what it is, but not say something else.
fn check_identity(wanted: &GroupVersionKind, identity: &Identity, body: &[u8]) -> Result<(), Status> {
    let Some(version) = GroupVersion::parse(&identity.api_version)
        .or_else(|| identity.api_version.is_empty().then(|| wanted.group_version()))
    else {
        let text = &identity.api_version;
        return Err(Status::bad_request(format_args!(
            "the object provided is unrecognized (must be of type {}): unexpected GroupVersion string: {text} ({})",
            wanted.kind,
            summary(body)
        )));
    };
    let kind = if identity.kind.is_empty() {
        &wanted.kind
    } else {
        &identity.kind
    };
    let found = version.kind(kind);
    if found == *wanted {
        return Ok(());
    }
    let defined_at_run_time = Schema::builtin().type_of(wanted).is_none();
    if defined_at_run_time && found.version == wanted.version && found.group == wanted.group {
        return Err(other_kind(wanted, &found, body));
    }
    if !defined_at_run_time && Schema::builtin().type_of(&found).is_none() {
        let why =
            format!("no kind {kind:?} is registered for version \"{version}\" in scheme \"pkg/runtime/scheme.go:111\"");
        return Err(cannot_be_handled(&found, wanted, why));
    }
    if !defined_at_run_time && found.kind != wanted.kind {
        let package = |group: &str| {
            if group.is_empty() {
                "core".to_owned()
            } else {
                group.split('.').next().unwrap_or("").to_owned()
            }
        };
        let why = format!(
            "converting ({}.{}) to ({}.{}): unknown conversion",
            found.version,
            found.kind,
            package(&wanted.group),
            wanted.kind
        );
        return Err(cannot_be_handled(&found, wanted, why));
    }
    Err(Status::bad_request(format_args!(
        "the API version in the data ({version}) does not match the expected API version ({})",
        wanted.group_version()
    )))
}

/// A custom resource of another kind is an invalid one of this kind.
fn other_kind(wanted: &GroupVersionKind, found: &GroupVersionKind, body: &[u8]) -> Status {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Named {
        metadata: Metadata,
    }
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Metadata {
        name: String,
    }
    // A body without a name that can be read is told without one.
    let named: Named = serde_json::from_slice(body).unwrap_or_else(|_| Named::default());
    let cause = strata_meta::StatusCause::invalid("kind", &found.kind, format_args!("must be {}", wanted.kind));
    Status::invalid(&found.group_kind(), &named.metadata.name, vec![cause])
}

/// The beginning of a body that could not be understood.
fn summary(bytes: &[u8]) -> String {
    const SHOWN: usize = 30;
    let more = if bytes.len() > SHOWN { " ..." } else { "" };
    let start = &bytes[..bytes.len().min(SHOWN)];
    match bytes.first() {
        None => "<empty>".into(),
        Some(b'{') => String::from_utf8_lossy(start).into_owned() + more,
        Some(_) => start.iter().map(|b| format!("{b:02x}")).collect::<String>() + more,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(body: &str, validation: FieldValidation) -> Result<(Value, Vec<String>), String> {
        let gvk = GroupVersionKind::new("", "v1", "ConfigMap");
        let mut warnings = Vec::new();
        decode_body(&gvk, BodyMedia::Json, body.as_bytes(), validation, &mut warnings)
            .map(|value| (value, warnings))
            .map_err(|status| status.message)
    }

    #[test]
    fn bodies_that_are_something_else_are_refused_in_upstreams_words() {
        for (body, sentence) in [
            (
                r#"{"apiVersion":"v1","kind":"Pod"}"#,
                r#"Pod in version "v1" cannot be handled as a ConfigMap: converting (v1.Pod) to (core.ConfigMap): unknown conversion"#,
            ),
            (
                r#"{"apiVersion":"v9","kind":"ConfigMap"}"#,
                r#"ConfigMap in version "v9" cannot be handled as a ConfigMap: no kind "ConfigMap" is registered for version "v9" in scheme "pkg/runtime/scheme.go:111""#,
            ),
            (
                r#"{"apiVersion":"v1","kind":"ConfigMap","data":{"a":1}}"#,
                r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data of type string"#,
            ),
        ] {
            assert_eq!(decode(body, FieldValidation::Warn).expect_err(body), sentence);
        }
        let garbage = decode("nonsense", FieldValidation::Warn).expect_err("no JSON");
        assert!(garbage.starts_with("the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error:"), "{garbage}");
        assert!(garbage.ends_with("(6e6f6e73656e7365)"), "{garbage}");
    }

    #[test]
    fn unknown_fields_are_dropped_reported_or_refused() {
        let body = r#"{"metadata":{"name":"a"},"foo":1}"#;
        let (value, warnings) = decode(body, FieldValidation::Warn).expect("dropped");
        assert_eq!(
            (value.get("foo"), warnings.as_slice()),
            (None, [r#"unknown field "foo""#.to_owned()].as_slice())
        );
        assert!(decode(body, FieldValidation::Ignore).expect("dropped").1.is_empty());
        let strict = decode(body, FieldValidation::Strict).expect_err("refused");
        assert_eq!(
            strict,
            r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "foo""#
        );
    }
}
