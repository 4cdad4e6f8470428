//! A member of an object together with its path, for rules that say where a problem is.

use crate::json;
use serde_json::Value;
use strata_meta::{Quantity, StatusCause};

static ABSENT: Value = Value::Null;

/// A member, present or not, and its path as clients are told it.
#[derive(Clone, Debug)]
pub(crate) struct Field<'v> {
    value: &'v Value,
    path: String,
}

impl<'v> Field<'v> {
    /// The object itself.
    pub(crate) fn root(object: &'v Value) -> Self {
        Self {
            value: object,
            path: String::new(),
        }
    }

    /// A member by dotted path.
    pub(crate) fn at(&self, name: &str) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        Self {
            value: json::get(self.value, name).unwrap_or(&ABSENT),
            path: format!("{}{dot}{name}", self.path),
        }
    }

    /// The same value under another path: where upstream's rule names another field.
    pub(crate) fn named(&self, path: impl Into<String>) -> Self {
        Self {
            value: self.value,
            path: path.into(),
        }
    }

    /// The entries of a list.
    pub(crate) fn items(&self) -> impl Iterator<Item = Self> + use<'v> {
        let path = self.path.clone();
        let list = self.value.as_array().map_or(&[][..], Vec::as_slice);
        list.iter().enumerate().map(move |(i, value)| Self {
            value,
            path: format!("{path}[{i}]"),
        })
    }

    /// The entries of a map, in order of key.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'v str, Self)> + use<'v> {
        let path = self.path.clone();
        self.value.as_object().into_iter().flatten().map(move |(key, value)| {
            let field = Self {
                value,
                path: format!("{path}[{key}]"),
            };
            (key.as_str(), field)
        })
    }

    /// An entry of a map.
    pub(crate) fn key(&self, key: &str) -> Self {
        Self {
            value: self.value.get(key).unwrap_or(&ABSENT),
            path: format!("{}[{key}]", self.path),
        }
    }

    /// The value; null when it is absent.
    pub(crate) fn value(&self) -> &'v Value {
        self.value
    }

    /// The path.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Its text; `""` when it is absent or no text.
    pub(crate) fn text(&self) -> &'v str {
        self.value.as_str().unwrap_or("")
    }

    /// Its number.
    pub(crate) fn int(&self) -> Option<i64> {
        self.value.as_i64()
    }

    /// Whether it is true.
    pub(crate) fn flag(&self) -> bool {
        self.value.as_bool().unwrap_or(false)
    }

    /// Its amount, if it is one.
    pub(crate) fn quantity(&self) -> Option<Quantity> {
        match self.value {
            Value::String(text) => text.parse().ok(),
            Value::Number(number) => number.to_string().parse().ok(),
            _ => None,
        }
    }

    /// Whether it is present.
    pub(crate) fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    /// Whether it is absent or an empty text, list or map.
    pub(crate) fn is_empty(&self) -> bool {
        match self.value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        }
    }

    /// How many entries it has.
    pub(crate) fn len(&self) -> usize {
        match self.value {
            Value::Array(list) => list.len(),
            Value::Object(map) => map.len(),
            _ => 0,
        }
    }

    fn shown(&self) -> String {
        if self.is_set() {
            self.value.to_string()
        } else {
            "\"\"".to_owned()
        }
    }

    fn cause(&self, reason: &str, message: String) -> StatusCause {
        StatusCause {
            reason: reason.to_owned(),
            message,
            field: self.path.clone(),
        }
    }

    /// The value may not be what it is.
    pub(crate) fn invalid(&self, why: impl std::fmt::Display) -> StatusCause {
        self.cause("FieldValueInvalid", format!("Invalid value: {}: {why}", self.shown()))
    }

    /// The field may not be what it is; `shown` is said instead of the value.
    pub(crate) fn invalid_as(&self, shown: impl Into<Value>, why: impl std::fmt::Display) -> StatusCause {
        let shown: Value = shown.into();
        self.cause("FieldValueInvalid", format!("Invalid value: {shown}: {why}"))
    }

    /// As [`Self::invalid`], with a text for the value that is printed as it stands.
    pub(crate) fn invalid_shown(&self, shown: impl std::fmt::Display, why: impl std::fmt::Display) -> StatusCause {
        self.cause("FieldValueInvalid", format!("Invalid value: {shown}: {why}"))
    }

    /// The field must be there.
    pub(crate) fn required(&self, why: &str) -> StatusCause {
        StatusCause::required(&self.path, why)
    }

    /// The field may not be there.
    pub(crate) fn forbidden(&self, why: &str) -> StatusCause {
        StatusCause::forbidden(&self.path, why)
    }

    /// The value names nothing that there is.
    pub(crate) fn not_found(&self) -> StatusCause {
        self.cause("FieldValueNotFound", format!("Not found: {}", self.shown()))
    }

    /// As [`Self::not_found`], with what it could name.
    pub(crate) fn not_found_because(&self, shown: impl Into<Value>, why: impl std::fmt::Display) -> StatusCause {
        let shown: Value = shown.into();
        self.cause("FieldValueNotFound", format!("Not found: {shown}: {why}"))
    }

    /// The value may stand once only.
    pub(crate) fn duplicate(&self) -> StatusCause {
        self.cause("FieldValueDuplicate", format!("Duplicate value: {}", self.shown()))
    }

    /// As [`Self::duplicate`], with another text for the value.
    pub(crate) fn duplicate_as(&self, shown: impl Into<Value>) -> StatusCause {
        let shown: Value = shown.into();
        self.cause("FieldValueDuplicate", format!("Duplicate value: {shown}"))
    }

    /// As [`Self::duplicate`], with a text for the value that is printed as it stands.
    pub(crate) fn duplicate_shown(&self, shown: impl std::fmt::Display) -> StatusCause {
        self.cause("FieldValueDuplicate", format!("Duplicate value: {shown}"))
    }

    /// The value is none of the supported ones.
    pub(crate) fn not_supported(&self, supported: &[&str]) -> StatusCause {
        StatusCause::not_supported(&self.path, Bare(self.shown()), supported)
    }

    /// The value has more bytes than it may.
    pub(crate) fn too_long(&self, most: usize) -> StatusCause {
        let message = format!("Too long: may not be more than {most} bytes");
        self.cause("FieldValueTooLong", message)
    }

    /// The list has more entries than it may.
    pub(crate) fn too_many(&self, most: usize) -> StatusCause {
        let message = format!("Too many: {}: must have at most {most} items", self.len());
        self.cause("FieldValueTooMany", message)
    }

    /// Adds a cause for each problem.
    pub(crate) fn problems(&self, causes: &mut Vec<StatusCause>, problems: impl IntoIterator<Item = String>) {
        causes.extend(problems.into_iter().map(|why| self.invalid(why)));
    }

    /// Adds a cause for each problem of a text that need not be there.
    pub(crate) fn if_text(&self, causes: &mut Vec<StatusCause>, rule: fn(&str) -> Vec<String>) {
        if !self.is_empty() {
            self.problems(causes, rule(self.text()));
        }
    }

    /// A text that fits a rule where it is given at all, though it be empty.
    pub(crate) fn where_set(&self, causes: &mut Vec<StatusCause>, rule: fn(&str) -> Vec<String>) {
        if self.is_set() {
            self.problems(causes, rule(self.text()));
        }
    }

    /// A text that must fit a rule; where it is absent, as the empty text.
    pub(crate) fn fits(&self, causes: &mut Vec<StatusCause>, rule: fn(&str) -> Vec<String>) {
        let text = self.text();
        causes.extend(rule(text).into_iter().map(|why| self.invalid_as(text, why)));
    }

    /// A text that must be there and fit a rule.
    pub(crate) fn needs_text(&self, causes: &mut Vec<StatusCause>, rule: fn(&str) -> Vec<String>) {
        if self.is_empty() {
            causes.push(self.required(""));
        } else {
            self.problems(causes, rule(self.text()));
        }
    }

    /// A text, list or map that must not be empty.
    pub(crate) fn needs(&self, causes: &mut Vec<StatusCause>) {
        if self.is_empty() {
            causes.push(self.required(""));
        }
    }

    /// A text that must be there and one of a few.
    pub(crate) fn needs_one_of(&self, causes: &mut Vec<StatusCause>, supported: &[&str]) {
        if self.is_empty() {
            causes.push(self.required(""));
        } else {
            self.if_one_of(causes, supported);
        }
    }

    /// A text that need not be there, but if it is, is one of a few.
    pub(crate) fn if_one_of(&self, causes: &mut Vec<StatusCause>, supported: &[&str]) {
        if self.is_set() && !supported.contains(&self.text()) {
            causes.push(self.not_supported(supported));
        }
    }

    /// A number that may not be below 0.
    pub(crate) fn not_negative(&self, causes: &mut Vec<StatusCause>) {
        if self.int().is_some_and(|n| n < 0) {
            causes.push(self.invalid("must be greater than or equal to 0"));
        }
    }

    /// A number that must be above 0.
    pub(crate) fn positive(&self, causes: &mut Vec<StatusCause>) {
        if self.int().is_some_and(|n| n <= 0) {
            causes.push(self.invalid("must be greater than zero"));
        }
    }

    /// A number within bounds.
    pub(crate) fn within(&self, causes: &mut Vec<StatusCause>, low: i64, high: i64) {
        if self.int().is_some_and(|n| n < low || n > high) {
            causes.push(self.invalid(format_args!("must be between {low} and {high}, inclusive")));
        }
    }

    /// A member that may not differ from what it was.
    pub(crate) fn unchanged(&self, causes: &mut Vec<StatusCause>, old: &Field<'_>) {
        if !json::equal(Some(self.value), Some(old.value)) {
            // Upstream shows an absent text as empty, and other absent things as null.
            let shown = match (self.is_set(), old.value) {
                (false, Value::String(_)) => Value::from(""),
                _ => self.value.clone(),
            };
            causes.push(self.invalid_as(shown, "field is immutable"));
        }
    }
}

/// Text that is printed as it stands.
struct Bare(String);

impl std::fmt::Debug for Bare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn causes_name_path_and_value() {
        let object = json!({"spec": {"ports": [{"port": 0}, {"name": "x"}], "limits": {"cpu": "1"}}});
        let root = Field::root(&object);
        let port = root.at("spec.ports").items().next().unwrap();
        let cause = port.at("port").invalid("no");
        assert_eq!(
            (cause.field.as_str(), cause.message.as_str()),
            ("spec.ports[0].port", "Invalid value: 0: no")
        );
        let (key, limit) = root.at("spec.limits").entries().next().unwrap();
        assert_eq!((key, limit.path()), ("cpu", "spec.limits[cpu]"));
        let mut causes = Vec::new();
        port.at("protocol").needs_one_of(&mut causes, &["TCP"]);
        port.at("port").within(&mut causes, 1, 65535);
        root.at("spec.limits.cpu").if_one_of(&mut causes, &["a", "b"]);
        let messages: Vec<&str> = causes.iter().map(|c| c.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "Required value",
                "Invalid value: 0: must be between 1 and 65535, inclusive",
                "Unsupported value: \"1\": supported values: \"a\", \"b\""
            ]
        );
    }
}
