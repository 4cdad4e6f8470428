//! YAML bodies: the value as JSON, and the keys that occur twice.
//!
//! Of a key that occurs twice the last counts, as upstream has it; field validation decides what the
//! caller is told.

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};
use serde_saphyr::{Spanned, options::DuplicateKeyPolicy};
use std::fmt;

/// How many repeated keys are reported.
const MAX_REPEATED: usize = 100;

/// A document that was read.
pub(crate) struct Document {
    /// What it says.
    pub(crate) value: Value,
    repeated: Vec<(u64, String)>,
}

impl Document {
    /// The sentence of strict decoding about keys that occur twice, if any do.
    pub(crate) fn strict_error(&self) -> Option<String> {
        let lines: Vec<String> = self
            .repeated
            .iter()
            .map(|(line, key)| format!("\n  line {line}: key {key:?} already set in map"))
            .collect();
        (!lines.is_empty()).then(|| format!("yaml: unmarshal errors:{}", lines.concat()))
    }
}

/// Reads one document. Errors: the text is no YAML, or more than one document, or beyond the parser's limits.
pub(crate) fn read(bytes: &[u8]) -> Result<Document, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::LastWins,
    };
    serde_saphyr::from_slice_with_options(bytes, options)
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor)
    }
}

struct DocumentVisitor;

fn plain<E>(value: impl Into<Value>) -> Result<Document, E> {
    Ok(Document {
        value: value.into(),
        repeated: Vec::new(),
    })
}

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON can hold")
    }

    fn visit_unit<E>(self) -> Result<Document, E> {
        plain(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Document, E> {
        plain(Value::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Document, D::Error> {
        deserializer.deserialize_any(self)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Document, E> {
        plain(value)
    }
    fn visit_i64<E>(self, value: i64) -> Result<Document, E> {
        plain(value)
    }
    fn visit_u64<E>(self, value: u64) -> Result<Document, E> {
        plain(value)
    }
    fn visit_f64<E>(self, value: f64) -> Result<Document, E> {
        plain(value)
    }
    fn visit_str<E>(self, value: &str) -> Result<Document, E> {
        plain(value)
    }
    fn visit_string<E>(self, value: String) -> Result<Document, E> {
        plain(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Document, A::Error> {
        let (mut list, mut repeated) = (Vec::new(), Vec::new());
        while let Some(item) = items.next_element::<Document>()? {
            list.push(item.value);
            repeated.extend(item.repeated);
        }
        repeated.truncate(MAX_REPEATED);
        Ok(Document {
            value: Value::Array(list),
            repeated,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Document, A::Error> {
        let (mut map, mut repeated) = (Map::new(), Vec::new());
        while let Some(key) = members.next_key::<Spanned<String>>()? {
            let member = members.next_value::<Document>()?;
            let line = key.referenced.line();
            if map.insert(key.value.clone(), member.value).is_some() {
                repeated.push((line, key.value));
            }
            repeated.extend(member.repeated);
        }
        repeated.truncate(MAX_REPEATED);
        Ok(Document {
            value: Value::Object(map),
            repeated,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_that_occur_twice_are_told_with_their_lines_and_the_last_counts() {
        let text = "\na: 1\nb:\n  c: v\n  c: w\nlist:\n- d: true\n  e: null\n  d: 2.5\n";
        let document = read(text.as_bytes()).expect("YAML");
        assert_eq!(
            document.value,
            json!({"a": 1, "b": {"c": "w"}, "list": [{"d": 2.5, "e": null}]})
        );
        assert_eq!(
            document.strict_error().expect("two repeat"),
            "yaml: unmarshal errors:\n  line 5: key \"c\" already set in map\n  line 9: key \"d\" already set in map"
        );
    }

    #[test]
    fn json_is_yaml_and_keys_need_not_be_text() {
        let document = read(br#"{"a": {"b": ["x", -3]}, "c": ""}"#).expect("JSON");
        assert_eq!(document.value, json!({"a": {"b": ["x", -3]}, "c": ""}));
        assert!(document.strict_error().is_none());
        assert_eq!(read(b"80: web\n").expect("YAML").value, json!({"80": "web"}));
    }

    #[test]
    fn what_is_no_yaml_is_refused() {
        assert!(read(b"a: [").is_err());
    }
}
