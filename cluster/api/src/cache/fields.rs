//! The values a field selector looks at, taken from the encoded body in one pass.

use serde::de::{DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// A selectable field: its dotted path and the value an absent one counts as.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FieldPath {
    /// Such as `spec.nodeName`.
    pub(crate) path: &'static str,
    /// Such as `""` or `"false"`.
    pub(crate) absent: &'static str,
    /// The selectable field that counts in its place when it is empty; "" for none.
    pub(crate) fallback: &'static str,
}

impl FieldPath {
    /// A field whose absence reads as `absent`.
    pub(crate) const fn new(path: &'static str, absent: &'static str) -> Self {
        Self {
            path,
            absent,
            fallback: "",
        }
    }

    /// The same field, for which another counts when it is empty.
    pub(crate) const fn or(self, fallback: &'static str) -> Self {
        Self { fallback, ..self }
    }
}

/// A [`FieldPath`] that may come from a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selectable {
    /// The dotted path.
    pub(crate) path: Box<str>,
    /// What an absent field counts as.
    pub(crate) absent: Box<str>,
    /// The selectable field that counts in its place when it is empty; "" for none.
    pub(crate) fallback: Box<str>,
}

impl From<&FieldPath> for Selectable {
    fn from(field: &FieldPath) -> Self {
        Self {
            path: field.path.into(),
            absent: field.absent.into(),
            fallback: field.fallback.into(),
        }
    }
}

/// The value of each path in a JSON body. Errors: the body is not JSON.
pub(crate) fn extract(body: &[u8], paths: &[Selectable]) -> Result<Vec<Box<str>>, serde_json::Error> {
    let mut values: Vec<Box<str>> = paths.iter().map(|p| p.absent.clone()).collect();
    let wanted: Vec<(usize, &str)> = paths.iter().enumerate().map(|(i, p)| (i, &*p.path)).collect();
    let mut reader = serde_json::Deserializer::from_slice(body);
    reader.deserialize_map(Members {
        wanted,
        values: &mut values,
    })?;
    for (i, path) in paths.iter().enumerate().filter(|(_, p)| !p.fallback.is_empty()) {
        if let (true, Some(other)) = (values[i].is_empty(), paths.iter().position(|p| p.path == path.fallback)) {
            values[i] = values[other].clone();
        }
    }
    Ok(values)
}

struct Members<'p, 'v> {
    wanted: Vec<(usize, &'p str)>,
    values: &'v mut Vec<Box<str>>,
}

struct Value<'p, 'v> {
    /// Paths below this value; an empty path means the value itself.
    wanted: Vec<(usize, &'p str)>,
    values: &'v mut Vec<Box<str>>,
}

impl<'de> Visitor<'de> for Members<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let below = self.wanted.iter().filter_map(|&(i, path)| {
                let (first, rest) = path.split_once('.').unwrap_or((path, ""));
                (first == name).then_some((i, rest))
            });
            let wanted: Vec<_> = below.collect();
            if wanted.is_empty() {
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value_seed(Value {
                    wanted,
                    values: &mut *self.values,
                })?;
            }
        }
        Ok(())
    }
}

impl Value<'_, '_> {
    fn set(self, text: &str) {
        for (i, rest) in self.wanted {
            if rest.is_empty() {
                self.values[i] = text.into();
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Members {
            wanted: self.wanted,
            values: self.values,
        }
        .visit_map(map)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.set(text);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.set(if value { "true" } else { "false" });
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.set(&value.to_string());
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.set(&value.to_string());
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.set(&value.to_string());
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_from_the_body() {
        let paths = [
            FieldPath::new("spec.nodeName", ""),
            FieldPath::new("status.phase", ""),
            FieldPath::new("spec.hostNetwork", "false"),
            FieldPath::new("status.replicas", "0"),
            FieldPath::new("spec.host", "").or("spec.nodeName"),
        ];
        let paths = paths.each_ref().map(Selectable::from);
        let body = br#"{"metadata":{"a":[1,{"nodeName":"x"}]},"spec":{"nodeName":"n1","c":[{}]},"status":{"replicas":3,"phase":null}}"#;
        let values = extract(body, &paths).expect("json");
        assert_eq!(values, ["n1", "", "false", "3", "n1"].map(Box::from));
    }
}
