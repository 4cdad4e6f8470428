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
use std::{fmt, marker::PhantomData};

/// How many repeated keys are reported.
const MAX_REPEATED: usize = 100;

/// A document that was read.
pub(crate) struct Document {
    /// What it says.
    pub(crate) value: Value,
    repeated: Vec<(u64, String)>,
}

impl Document {
    /// A sentence for each key that occurs twice.
    pub(crate) fn repeated(&self) -> impl Iterator<Item = String> {
        let sentence = |(line, key): &(u64, String)| format!("line {line}: key {key:?} already set in map");
        self.repeated.iter().map(sentence)
    }

    /// The sentence of strict decoding about keys that occur twice, if any do.
    pub(crate) fn strict_error(&self) -> Option<String> {
        let lines: Vec<String> = self.repeated().map(|line| format!("\n  {line}")).collect();
        (!lines.is_empty()).then(|| format!("yaml: unmarshal errors:{}", lines.concat()))
    }
}

/// Reads one document. Errors: the text is no YAML, or more than one document, or beyond the parser's limits.
///
/// Programs apply JSON, which is YAML too, and reading that as JSON takes a tenth of the time. What is no JSON
/// after all, or repeats keys and needs their lines, is read as what it was sent as.
pub(crate) fn read(bytes: &[u8]) -> Result<Document, serde_saphyr::Error> {
    if bytes.trim_ascii_start().starts_with(b"{")
        && let Ok(Read { value, repeated, .. }) = serde_json::from_slice::<Read<String>>(bytes)
        && repeated.is_empty()
    {
        return Ok(Document { value, repeated });
    }
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::LastWins,
    };
    let Read { value, repeated, .. } = serde_saphyr::from_slice_with_options::<Read<Spanned<String>>>(bytes, options)?;
    Ok(Document { value, repeated })
}

/// A key of a map, which may know where it stands.
trait Key: for<'de> Deserialize<'de> {
    fn line_and_text(self) -> (u64, String);
}

impl Key for String {
    fn line_and_text(self) -> (u64, String) {
        (0, self)
    }
}

impl Key for Spanned<String> {
    fn line_and_text(self) -> (u64, String) {
        (self.referenced.line(), self.value)
    }
}

/// A part of a document, its keys read as `K`.
struct Read<K> {
    value: Value,
    repeated: Vec<(u64, String)>,
    keys: PhantomData<K>,
}

impl<'de, K: Key> Deserialize<'de> for Read<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReadVisitor(PhantomData))
    }
}

struct ReadVisitor<K>(PhantomData<K>);

fn plain<K, E>(value: impl Into<Value>) -> Result<Read<K>, E> {
    read_as(value.into(), Vec::new())
}

fn read_as<K, E>(value: Value, mut repeated: Vec<(u64, String)>) -> Result<Read<K>, E> {
    repeated.truncate(MAX_REPEATED);
    let keys = PhantomData;
    Ok(Read { value, repeated, keys })
}

impl<'de, K: Key> Visitor<'de> for ReadVisitor<K> {
    type Value = Read<K>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON can hold")
    }

    fn visit_unit<E>(self) -> Result<Read<K>, E> {
        plain(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Read<K>, E> {
        plain(Value::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Read<K>, D::Error> {
        deserializer.deserialize_any(self)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Read<K>, E> {
        plain(value)
    }
    fn visit_i64<E>(self, value: i64) -> Result<Read<K>, E> {
        plain(value)
    }
    fn visit_u64<E>(self, value: u64) -> Result<Read<K>, E> {
        plain(value)
    }
    fn visit_f64<E>(self, value: f64) -> Result<Read<K>, E> {
        match strata_schema::whole(value) {
            Some(number) => plain(number),
            None => plain(value),
        }
    }
    fn visit_str<E>(self, value: &str) -> Result<Read<K>, E> {
        plain(value)
    }
    fn visit_string<E>(self, value: String) -> Result<Read<K>, E> {
        plain(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Read<K>, A::Error> {
        let (mut list, mut repeated) = (Vec::new(), Vec::new());
        while let Some(item) = items.next_element::<Self::Value>()? {
            list.push(item.value);
            repeated.extend(item.repeated);
        }
        read_as(Value::Array(list), repeated)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Read<K>, A::Error> {
        let (mut map, mut repeated) = (Map::new(), Vec::new());
        while let Some(key) = members.next_key::<K>()? {
            let member = members.next_value::<Self::Value>()?;
            let (line, key) = key.line_and_text();
            if map.contains_key(&key) {
                repeated.push((line, key.clone()));
            }
            map.insert(key, member.value);
            repeated.extend(member.repeated);
        }
        read_as(Value::Object(map), repeated)
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
        let text = br#"{"a": 1, "a": 2}"#;
        let document = read(text).expect("JSON");
        assert_eq!(document.value, json!({"a": 2}));
        assert!(
            document
                .strict_error()
                .expect("one repeats")
                .contains("line 1: key \"a\"")
        );
        assert_eq!(
            read(b"{a: 1, b: [x]}").expect("YAML").value,
            json!({"a": 1, "b": ["x"]})
        );
        assert_eq!(read(b"80: web\n").expect("YAML").value, json!({"80": "web"}));
    }

    #[test]
    fn what_is_whole_is_written_as_whole_numbers_are() {
        for text in [
            "n: [1.0, 2e3, 1.5, 1e18, 1e22]",
            r#"{"n": [1.0, 2e3, 1.5, 1e18, 1e22]}"#,
        ] {
            let value = read(text.as_bytes()).expect("YAML").value;
            assert_eq!(value.to_string(), r#"{"n":[1,2000,1.5,1000000000000000000,1e+22]}"#);
        }
    }

    #[test]
    fn what_is_no_yaml_is_refused() {
        assert!(read(b"a: [").is_err());
    }
}
