//! What expressions have to know of a schema.

use super::{Additional, Flags, Rule, Structural};
use serde_json::Value;
use std::sync::Arc;
use strata_cel::{AdditionalProperties, Schema, SharedSchema};

impl Structural {
    fn rule<T>(&self, pick: impl Fn(&Rule) -> Option<T>) -> Option<T> {
        self.rules.iter().find_map(pick)
    }
}

impl Schema for Structural {
    fn kind(&self) -> &str {
        if self.is(Flags::INT_OR_STRING) {
            return "";
        }
        self.type_words()
    }
    fn format(&self) -> &str {
        let format = self.rules.iter().find_map(|rule| match rule {
            Rule::Format(format) => Some(&**format),
            _ => None,
        });
        format.unwrap_or("")
    }
    fn items(&self) -> Option<&Self> {
        self.items.as_deref()
    }
    fn properties(&self) -> Option<Vec<(&str, &Self)>> {
        let all = self.properties.iter().map(|p| (&*p.name, &*p.schema));
        (!self.properties.is_empty()).then(|| all.collect())
    }
    fn additional_properties(&self) -> AdditionalProperties<'_, Self> {
        match &self.additional {
            Additional::Absent => AdditionalProperties::Absent,
            Additional::Allowed(_) => AdditionalProperties::Bool,
            Additional::Of(schema) => AdditionalProperties::Schema(schema),
        }
    }
    fn is_required(&self, property: &str) -> bool {
        self.rules.iter().any(|rule| match rule {
            Rule::Required(names) => names.iter().any(|name| &**name == property),
            _ => false,
        })
    }
    fn has_default(&self) -> bool {
        self.default_value().is_some()
    }
    fn nullable(&self) -> bool {
        self.is(Flags::NULLABLE)
    }
    fn max_length(&self) -> Option<i64> {
        self.rule(|rule| match rule {
            Rule::MaxLength(most) => Some(*most),
            _ => None,
        })
    }
    fn max_items(&self) -> Option<i64> {
        self.rule(|rule| match rule {
            Rule::MaxItems(most) => Some(*most),
            _ => None,
        })
    }
    fn max_properties(&self) -> Option<i64> {
        self.rule(|rule| match rule {
            Rule::MaxProperties(most) => Some(*most),
            _ => None,
        })
    }
    fn longest_enum(&self) -> Option<u64> {
        self.rule(|rule| match rule {
            Rule::Enum(values) => {
                let lengths = values.iter().filter_map(Value::as_str).map(|text| text.len() as u64);
                Some(lengths.max().unwrap_or(0))
            }
            _ => None,
        })
    }
    fn int_or_string(&self) -> bool {
        self.is(Flags::INT_OR_STRING)
    }
    fn embedded_resource(&self) -> bool {
        self.is(Flags::EMBEDDED)
    }
    fn preserve_unknown_fields(&self) -> bool {
        self.is(Flags::PRESERVE)
    }
    fn list_type(&self) -> &str {
        match (self.is(Flags::LIST_MAP), self.is(Flags::SET)) {
            (true, _) => "map",
            (_, true) => "set",
            _ => "",
        }
    }
    fn list_map_keys(&self) -> Vec<String> {
        self.list_keys().to_vec()
    }
}

impl SharedSchema for Structural {
    fn shared_items(&self) -> Option<Arc<Self>> {
        self.items.clone()
    }
    fn shared_properties(&self) -> Vec<(&str, Arc<Self>)> {
        let all = self.properties.iter();
        all.map(|p| (&*p.name, p.schema.clone())).collect()
    }
    fn shared_additional(&self) -> Option<Arc<Self>> {
        match &self.additional {
            Additional::Of(schema) => Some(schema.clone()),
            _ => None,
        }
    }
}
