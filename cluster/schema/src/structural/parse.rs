//! From a JSON schema (`openAPIV3Schema`) to the tree.

use super::{Additional, Flags, Kind, Property, Rule, Structural, Validation, intern};
use serde_json::{Map, Value};
use std::sync::Arc;

impl Structural {
    /// Reads a schema. What it cannot say is left out: whoever stores a schema has validated it.
    pub fn parse(schema: &Value) -> Self {
        Reader.node(schema)
    }
}

/// What is equal is kept once, whoever's schema it is in.
struct Reader;

impl Reader {
    fn shared(&mut self, schema: &Value) -> Arc<Structural> {
        intern::node(self.node(schema))
    }

    fn node(&mut self, schema: &Value) -> Structural {
        let Some(map) = schema.as_object() else {
            return Structural::default();
        };
        let mut node = Structural {
            kind: kind(map),
            flags: flags(map),
            ..Structural::default()
        };
        let mut properties: Vec<Property> = Vec::new();
        for (name, schema) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let property = Property {
                name: intern::name(name),
                schema: self.shared(schema),
            };
            properties.push(property);
        }
        properties.sort_by(|a, b| a.name.cmp(&b.name));
        node.properties = properties.into();
        node.items = map
            .get("items")
            .filter(|v| v.is_object())
            .map(|items| self.shared(items));
        node.additional = match map.get("additionalProperties") {
            Some(Value::Bool(allowed)) => Additional::Allowed(*allowed),
            Some(schema @ Value::Object(_)) => Additional::Of(self.shared(schema)),
            _ => Additional::Absent,
        };
        node.rules = self.rules(map).into();
        let below = |flag: u16, own: &dyn Fn(&Structural) -> bool| {
            let any = |s: &Structural| s.is(flag) || own(s);
            node.properties.iter().any(|p| any(&p.schema))
                || node.items.as_deref().is_some_and(any)
                || node.others().is_some_and(any)
        };
        let defaults = below(Flags::DEFAULTS_BELOW, &|s| s.default_value().is_some());
        let expressions = below(Flags::EXPRESSIONS, &|_| false) || !node.validations().is_empty();
        node.flags.set(Flags::DEFAULTS_BELOW, defaults);
        node.flags.set(Flags::EXPRESSIONS, expressions);
        node
    }

    fn list(&mut self, value: &Value) -> Box<[Structural]> {
        let list = value.as_array().map_or(&[][..], Vec::as_slice);
        list.iter().map(|schema| self.node(schema)).collect()
    }

    fn rules(&mut self, map: &Map<String, Value>) -> Vec<Rule> {
        let flag = |name: &str| map.get(name).and_then(Value::as_bool).unwrap_or(false);
        let mut rules = Vec::new();
        for (name, value) in map {
            let whole = value.as_i64();
            let text = || value.as_str().filter(|t| !t.is_empty()).map(Box::<str>::from);
            let rule = match name.as_str() {
                "default" if !value.is_null() => Some(Rule::Default(Box::new(value.clone()))),
                "enum" => value.as_array().map(|list| Rule::Enum(list.clone().into())),
                "format" => text().map(Rule::Format),
                "pattern" => text().map(Rule::Pattern),
                "maximum" => value.as_f64().map(|n| Rule::Maximum(n, flag("exclusiveMaximum"))),
                "minimum" => value.as_f64().map(|n| Rule::Minimum(n, flag("exclusiveMinimum"))),
                "multipleOf" => value.as_f64().map(Rule::MultipleOf),
                "maxLength" => whole.map(Rule::MaxLength),
                "minLength" => whole.map(Rule::MinLength),
                "maxItems" => whole.map(Rule::MaxItems),
                "minItems" => whole.map(Rule::MinItems),
                "maxProperties" => whole.map(Rule::MaxProperties),
                "minProperties" => whole.map(Rule::MinProperties),
                "required" => Some(Rule::Required(
                    texts(value).map(intern::name).collect::<Vec<_>>().into(),
                )),
                "allOf" => Some(Rule::AllOf(self.list(value))),
                "anyOf" => Some(Rule::AnyOf(self.list(value))),
                "oneOf" => Some(Rule::OneOf(self.list(value))),
                "not" => Some(Rule::Not(Box::new(self.node(value)))),
                "x-kubernetes-list-map-keys" => Some(Rule::ListKeys(texts(value).map(str::to_owned).collect())),
                "x-kubernetes-validations" => value
                    .as_array()
                    .map(|list| Rule::Validations(list.iter().map(validation).collect())),
                _ => None,
            };
            rules.extend(rule);
        }
        rules
    }
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn kind(map: &Map<String, Value>) -> Kind {
    match map.get("type").and_then(Value::as_str) {
        Some("object") => Kind::Object,
        Some("array") => Kind::Array,
        Some("string") => Kind::String,
        Some("integer") => Kind::Integer,
        Some("number") => Kind::Number,
        Some("boolean") => Kind::Boolean,
        _ => Kind::Any,
    }
}

fn flags(map: &Map<String, Value>) -> Flags {
    let on = |name: &str| map.get(name).and_then(Value::as_bool).unwrap_or(false);
    let says = |name: &str, text: &str| map.get(name).and_then(Value::as_str) == Some(text);
    let mut flags = Flags::default();
    flags.set(Flags::NULLABLE, on("nullable"));
    flags.set(Flags::PRESERVE, on("x-kubernetes-preserve-unknown-fields"));
    flags.set(Flags::EMBEDDED, on("x-kubernetes-embedded-resource"));
    flags.set(Flags::INT_OR_STRING, on("x-kubernetes-int-or-string"));
    flags.set(Flags::SET, says("x-kubernetes-list-type", "set"));
    flags.set(Flags::LIST_MAP, says("x-kubernetes-list-type", "map"));
    let atomic = says("x-kubernetes-list-type", "atomic") || says("x-kubernetes-map-type", "atomic");
    flags.set(Flags::ATOMIC, atomic);
    flags.set(Flags::UNIQUE, on("uniqueItems"));
    flags
}

fn validation(value: &Value) -> Validation {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    Validation {
        rule: text("rule"),
        message: text("message"),
        message_expression: text("messageExpression"),
        reason: text("reason"),
        field_path: text("fieldPath"),
        optional_old_self: value.get("optionalOldSelf").and_then(Value::as_bool).unwrap_or(false),
    }
}
