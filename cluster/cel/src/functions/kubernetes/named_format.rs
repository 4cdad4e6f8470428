//! Named formats of text.

use super::{
    super::{Row, row},
    Opaque,
    url::Url,
};
use crate::{EvalError, Value, env::Library, value::Timestamp};
use base64::Engine as _;
use strata_meta::names;

/// A named format.
pub struct Format {
    pub(crate) name: &'static str,
    /// How long its pattern is, or is taken to be.
    pub(crate) regex_size: u64,
    validate: fn(&str) -> Vec<String>,
}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// By the names of their functions.
static FORMATS: [(&str, Format); 13] = [
    ("dns1123Label", format("DNS1123Label", 30, names::dns1123_label)),
    (
        "dns1123Subdomain",
        format("DNS1123Subdomain", 60, names::dns1123_subdomain),
    ),
    ("dns1035Label", format("DNS1035Label", 30, names::dns1035_label)),
    ("qualifiedName", format("QualifiedName", 60, names::qualified_name)),
    (
        "dns1123LabelPrefix",
        format("DNS1123LabelPrefix", 30, |text| names::dns1123_label(&masked(text))),
    ),
    (
        "dns1123SubdomainPrefix",
        format("DNS1123SubdomainPrefix", 60, |text| {
            names::dns1123_subdomain(&masked(text))
        }),
    ),
    (
        "dns1035LabelPrefix",
        format("DNS1035LabelPrefix", 30, |text| names::dns1035_label(&masked(text))),
    ),
    ("labelValue", format("LabelValue", 40, names::label_value)),
    (
        "uri",
        format("URI", 1103, |text| Url::parse(text).err().into_iter().collect()),
    ),
    (
        "uuid",
        format("uuid", 70, |text| {
            unless(is_uuid(text), "does not match the UUID format")
        }),
    ),
    (
        "byte",
        format("byte", 84, |text| unless(is_base64(text), "invalid base64")),
    ),
    (
        "date",
        format("date", 71, |text| {
            unless(Timestamp::parse_date(text).is_some(), "invalid date")
        }),
    ),
    (
        "datetime",
        format("datetime", 71, |text| unless(is_datetime(text), "invalid datetime")),
    ),
];

const fn format(name: &'static str, regex_size: u64, validate: fn(&str) -> Vec<String>) -> Format {
    Format {
        name,
        regex_size,
        validate,
    }
}

fn unless(valid: bool, problem: &str) -> Vec<String> {
    if valid { Vec::new() } else { vec![problem.to_owned()] }
}

/// A prefix of a name may end in a dash; the character before goes with it, as it does upstream.
fn masked(text: &str) -> String {
    match text.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => {
            let end = rest.char_indices().next_back().map_or(0, |(at, _)| at);
            format!("{}a", &rest[..end])
        }
        _ => text.to_owned(),
    }
}

fn is_uuid(text: &str) -> bool {
    let mut rest = text;
    for (at, length) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if at > 0 {
            rest = rest.strip_prefix('-').unwrap_or(rest);
        }
        match rest.as_bytes().get(..length) {
            Some(part) if part.iter().all(u8::is_ascii_hexdigit) => rest = &rest[length..],
            _ => return false,
        }
    }
    rest.is_empty()
}

fn is_base64(text: &str) -> bool {
    !text.is_empty() && base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}

fn is_datetime(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    lower.contains('t') && Timestamp::parse(&lower.to_ascii_uppercase()).is_some()
}

pub(super) fn rows() -> Vec<Row> {
    let lib = Library::Format;
    let mut rows = vec![
        row(
            lib,
            "validate",
            "format-validate",
            "format.(string) -> optional(list(string))",
            validate,
        ),
        row(
            lib,
            "format.named",
            "format-named",
            "(string) -> optional(format)",
            named,
        ),
    ];
    let functions: [(&'static str, super::super::Implementation); 13] = [
        ("format.dns1123Label", |_| constant(0)),
        ("format.dns1123Subdomain", |_| constant(1)),
        ("format.dns1035Label", |_| constant(2)),
        ("format.qualifiedName", |_| constant(3)),
        ("format.dns1123LabelPrefix", |_| constant(4)),
        ("format.dns1123SubdomainPrefix", |_| constant(5)),
        ("format.dns1035LabelPrefix", |_| constant(6)),
        ("format.labelValue", |_| constant(7)),
        ("format.uri", |_| constant(8)),
        ("format.uuid", |_| constant(9)),
        ("format.byte", |_| constant(10)),
        ("format.date", |_| constant(11)),
        ("format.datetime", |_| constant(12)),
    ];
    rows.extend(
        functions.map(|(function, implementation)| row(lib, function, function, "() -> format", implementation)),
    );
    rows
}

fn constant<'a>(at: usize) -> Result<Value<'a>, EvalError> {
    Ok(Value::Opaque(Opaque::Format(&FORMATS[at].1)))
}

fn named<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let name = super::only_text(args)?;
    let found = FORMATS.iter().find(|(known, _)| *known == name);
    Ok(match found {
        Some((_, format)) => Value::some(Value::Opaque(Opaque::Format(format))),
        None => Value::Optional(None),
    })
}

fn validate<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let [Value::Opaque(Opaque::Format(format)), Value::String(text)] = args else {
        return Err(EvalError::no_such_overload());
    };
    let problems = (format.validate)(text);
    if problems.is_empty() {
        return Ok(Value::Optional(None));
    }
    Ok(Value::some(Value::list(
        problems.into_iter().map(Value::text).collect(),
    )))
}
