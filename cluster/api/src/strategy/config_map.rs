//! ConfigMap: the plainest worked example.

use super::{Causes, Column, Strategy, columns, secret::bytes_of};
use crate::{
    json,
    validate::{Field, formats::config_key},
};
use serde_json::Value;
use strata_meta::StatusCause;

pub(super) struct ConfigMap;

/// k8s.io/api/core/v1 MaxSecretSize holds for both.
const MAX_BYTES: usize = 1 << 20;

impl Strategy for ConfigMap {
    fn validate(&self, object: &Value, causes: &mut Causes) {
        let mut total = 0;
        for field in ["data", "binaryData"] {
            for (key, value) in Field::root(object).at(field).entries() {
                causes.extend(config_key(key).iter().map(|why| value.invalid_as(key, why)));
                let encoded = field == "binaryData";
                if !encoded && json::get(object, "binaryData").is_some_and(|d| d.get(key).is_some()) {
                    causes.push(value.invalid_as(key, "duplicate of key present in binaryData"));
                }
                total += if encoded {
                    bytes_of(value.text())
                } else {
                    value.text().len()
                };
            }
        }
        if total > MAX_BYTES {
            causes.push(StatusCause {
                reason: "FieldValueTooLong".into(),
                message: format!("Too long: may not be more than {MAX_BYTES} bytes"),
                // How upstream prints the path of the whole.
                field: "[]".into(),
            });
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, causes: &mut Causes) {
        immutable(new, old, &["data", "binaryData"], causes);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            columns::NAME,
            columns::column(
                "Data",
                "string",
                "Data contains the configuration data. Each key must consist of alphanumeric characters, '-', '_' or '.'.",
                |cx| (json::members(cx.object, "data").count() + json::members(cx.object, "binaryData").count()).into(),
            ),
            columns::AGE,
        ];
        COLUMNS
    }
}

/// What may not change once `immutable` is set; so may `immutable` itself.
pub(super) fn immutable(new: &Value, old: &Value, members: &[&str], causes: &mut Causes) {
    const WHY: &str = "field is immutable when `immutable` is set";
    if !json::flag(old, "immutable") {
        return;
    }
    if !json::flag(new, "immutable") {
        causes.push(StatusCause::forbidden("immutable", WHY));
    }
    let changed = members.iter().filter(|member| !json::same(new, old, member));
    causes.extend(changed.map(|member| StatusCause::forbidden(member, WHY)));
}
