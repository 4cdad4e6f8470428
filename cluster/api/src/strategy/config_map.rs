//! ConfigMap: the plainest worked example.

use super::{Causes, Column, Strategy, columns};
use crate::json;
use serde_json::Value;
use strata_meta::StatusCause;

pub(super) struct ConfigMap;

/// k8s.io/api/core/v1 MaxSecretSize holds for both.
const MAX_BYTES: usize = 1 << 20;

impl Strategy for ConfigMap {
    fn validate(&self, object: &Value, causes: &mut Causes) {
        let mut total = 0;
        for field in ["data", "binaryData"] {
            for (key, value) in json::members(object, field) {
                let path = format!("{field}[{key}]");
                causes.extend(config_key(key).into_iter().map(|p| StatusCause::invalid(&path, key, p)));
                let len = value.as_str().map_or(0, str::len);
                total += if field == "data" { len } else { len / 4 * 3 };
                if field == "binaryData" && json::get(object, "data").is_some_and(|d| d.get(key).is_some()) {
                    causes.push(StatusCause::invalid(&path, key, "duplicate of key present in data"));
                }
            }
        }
        if total > MAX_BYTES {
            causes.push(StatusCause {
                reason: "FieldValueTooLong".into(),
                message: format!("Too long: may not be more than {MAX_BYTES} bytes"),
                field: String::new(),
            });
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, causes: &mut Causes) {
        if !json::flag(old, "immutable") {
            return;
        }
        if !json::flag(new, "immutable") {
            causes.push(StatusCause::forbidden(
                "immutable",
                "field is immutable when `immutable` is set",
            ));
        }
        for field in ["data", "binaryData"] {
            if !json::same(new, old, field) {
                causes.push(StatusCause::forbidden(
                    field,
                    "field is immutable when `immutable` is set",
                ));
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            columns::NAME,
            columns::column(
                "Data",
                "integer",
                "Data contains the configuration data. Each key must consist of alphanumeric characters, '-', '_' or '.'.",
                |cx| (json::members(cx.object, "data").count() + json::members(cx.object, "binaryData").count()).into(),
            ),
            columns::AGE,
        ];
        COLUMNS
    }
}

/// What is wrong with a key of a ConfigMap or Secret.
pub(super) fn config_key(key: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if key.len() > 253 {
        problems.push("must be no more than 253 characters".to_owned());
    }
    let fits = !key.is_empty()
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !fits {
        problems.push(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')".to_owned(),
        );
    }
    if key == "." || key == ".." {
        problems.push(format!("must not be '{key}'"));
    } else if key.starts_with("..") {
        problems.push("must not start with '..'".to_owned());
    }
    problems
}
