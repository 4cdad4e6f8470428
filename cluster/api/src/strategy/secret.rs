//! Secret: each type has its keys.

use super::{
    Causes, columns,
    row::{ROW, Row, field},
};
use crate::{
    json,
    validate::{Field, formats::config_key},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use strata_auth::key_pair_problem;

/// k8s.io/api/core/v1 MaxSecretSize.
const MAX_BYTES: usize = 1 << 20;

pub(super) static SECRETS: Row = Row {
    fields: &[field("type")],
    columns: &[
        columns::NAME,
        columns::column("Type", "string", "What the secret is for.", |cx| {
            columns::text(cx, "type")
        }),
        columns::column("Data", "string", "How many values there are.", |cx| {
            json::members(cx.object, "data").count().into()
        }),
        columns::AGE,
    ],
    prepare_update: |new, old| {
        // A client that does not say what it is does not change what it is.
        if json::text(new, "type").is_empty() {
            json::copy(old, new, "type");
        }
    },
    validate,
    validate_update: |new, old, causes| {
        Field::root(new)
            .at("type")
            .unchanged(causes, &Field::root(old).at("type"));
        super::config_map::immutable(new, old, &["data"], causes);
    },
    warnings: |new, _| {
        let tls = json::text(new, "type") == "kubernetes.io/tls";
        let value = |key: &str| STANDARD.decode(new["data"][key].as_str().unwrap_or("")).ok();
        match (value("tls.crt"), value("tls.key")) {
            (Some(certificate), Some(key)) if tls => key_pair_problem(&certificate, &key).into_iter().collect(),
            _ => Vec::new(),
        }
    },
    ..ROW
};

fn validate(object: &Value, causes: &mut Causes) {
    let data = Field::root(object).at("data");
    let mut total = 0;
    for (key, value) in data.entries() {
        causes.extend(config_key(key).iter().map(|why| value.invalid_as(key, why)));
        total += bytes_of(value.text());
    }
    if total > MAX_BYTES {
        causes.push(data.too_long(MAX_BYTES));
    }
    let required = |key: &str| data.key(key).required("");
    let has = |key: &str| data.key(key).is_set();
    match json::text(object, "type") {
        "kubernetes.io/service-account-token" => {
            const NAME: &str = "kubernetes.io/service-account.name";
            let name = Field::root(object).at("metadata.annotations").key(NAME);
            name.needs(causes);
        }
        "kubernetes.io/dockercfg" => is_json(&data.key(".dockercfg"), causes),
        "kubernetes.io/dockerconfigjson" => is_json(&data.key(".dockerconfigjson"), causes),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            causes.extend(["username", "password"].map(required));
        }
        "kubernetes.io/ssh-auth" => data.key("ssh-privatekey").needs(causes),
        "kubernetes.io/tls" => {
            let missing = ["tls.crt", "tls.key"].into_iter().filter(|key| !has(key));
            causes.extend(missing.map(required));
        }
        _ => {}
    }
}

/// The length of what base64 text stands for.
pub(super) fn bytes_of(encoded: &str) -> usize {
    let padding = encoded.bytes().rev().take_while(|b| *b == b'=').count();
    (encoded.len() / 4 * 3).saturating_sub(padding)
}

fn is_json(field: &Field<'_>, causes: &mut Causes) {
    if !field.is_set() {
        causes.push(field.required(""));
        return;
    }
    let parsed = STANDARD.decode(field.text()).ok().and_then(|bytes| {
        let value: Result<serde_json::Map<String, Value>, _> = serde_json::from_slice(&bytes);
        value.err()
    });
    if let Some(why) = parsed {
        // Never the content itself.
        let why = match why.classify() {
            serde_json::error::Category::Eof => "unexpected end of JSON input",
            serde_json::error::Category::Data => "json: cannot unmarshal into Go value of type map[string]interface {}",
            _ => "invalid character looking for beginning of value",
        };
        causes.push(field.invalid_as("<secret contents redacted>", why));
    }
}
