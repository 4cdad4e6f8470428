//! Filling in declared defaults.

use super::{Flags, Structural};
use serde_json::Value;

impl Structural {
    /// Fills in what the object leaves open.
    pub fn apply_defaults(&self, value: &mut Value) {
        if !self.is(Flags::DEFAULTS_BELOW) {
            return;
        }
        match value {
            Value::Object(map) => {
                for property in &self.properties {
                    let Some(default) = property.schema.default_value() else {
                        continue;
                    };
                    let member = map.get(property.name.as_ref());
                    if member.is_none_or(|m| property.schema.rejects(m)) {
                        map.insert(property.name.as_ref().to_owned(), default.clone());
                    }
                }
                for (name, member) in map.iter_mut() {
                    if let Some(schema) = self.property(name) {
                        schema.apply_defaults(member);
                    } else if let Some(schema) = self.others() {
                        schema.replace_null(member);
                        schema.apply_defaults(member);
                    }
                }
            }
            Value::Array(items) => {
                let Some(schema) = &self.items else { return };
                for item in items {
                    schema.replace_null(item);
                    schema.apply_defaults(item);
                }
            }
            _ => {}
        }
    }

    fn replace_null(&self, value: &mut Value) {
        if self.rejects(value)
            && let Some(default) = self.default_value()
        {
            *value = default.clone();
        }
    }

    /// Whether this is a null where none is allowed.
    fn rejects(&self, value: &Value) -> bool {
        value.is_null() && !self.is(Flags::NULLABLE)
    }
}
