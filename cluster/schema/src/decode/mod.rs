//! Decoding of request bodies, guided by the table.
//!
//! One pass over the bytes does what a round trip through the upstream Go types does: unknown
//! fields go, quantities and times become canonical, nulls and empty values that have no meaning
//! go, zero structs that are always shown come; and it reports what strict field validation wants
//! to know, in document order.

mod number;
mod syntax;
mod visit;
mod zero;

use crate::{Error, Schema, Shape};
use serde::de::DeserializeSeed;
use serde_json::Value;
use std::borrow::Cow;
use strata_meta::GroupVersionKind;
use visit::{Context, ShapeSeed, UntypedSeed};

pub use number::{as_written_down, floating_numbers, has_whole_fractions, whole, whole_numbers};
pub use syntax::syntax_error;
pub use visit::kind_word;
pub(crate) use zero::{fill, is_empty, zero_item};

/// A decoded body.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object in canonical form.
    pub value: Value,
    /// What strict field validation objects to: `unknown field "spec.foo"`,
    /// `duplicate field "spec.bar"`; at most 100.
    pub strict: Vec<String>,
}

impl Decoded {
    /// The sentence of `fieldValidation=Strict`, if there is something to object to.
    pub fn strict_error(&self) -> Option<String> {
        (!self.strict.is_empty()).then(|| format!("strict decoding error: {}", self.strict.join(", ")))
    }
}

/// What a body says it is; both empty if it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Identity {
    /// `apiVersion`.
    #[serde(deserialize_with = "text_or_null")]
    pub api_version: String,
    /// `kind`.
    #[serde(deserialize_with = "text_or_null")]
    pub kind: String,
}

/// Reads apiVersion and kind alone.
///
/// Errors carry the sentence upstream gives for a body whose kind cannot be found out.
pub fn identify(bytes: &[u8]) -> Result<Identity, Error> {
    let text = as_text(bytes);
    let is_object = text.trim_start().starts_with('{');
    match serde_json::from_str::<Identity>(&text) {
        Ok(identity) if is_object => Ok(identity),
        _ => identify_slowly(&text)
            .map_err(|why| Error::Syntax(format!("couldn't get version/kind; json parse error: {why}"))),
    }
}

/// Finds out what is wrong with a body; one that repeats its kind is not wrong.
fn identify_slowly(text: &str) -> Result<Identity, String> {
    if let Some(why) = syntax_error(text.as_bytes()) {
        return Err(why);
    }
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let object = match &value {
        Value::Object(object) => object,
        Value::Null => return Ok(Identity::default()),
        other => {
            let shape = r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
            return Err(format!(
                "json: cannot unmarshal {} into Go value of type {shape}",
                visit::kind_word(other)
            ));
        }
    };
    let text = |name: &str| match object.get(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => {
            let kind = visit::kind_word(other);
            Err(format!(
                "json: cannot unmarshal {kind} into Go struct field .{name} of type string"
            ))
        }
    };
    Ok(Identity {
        api_version: text("apiVersion")?,
        kind: text("kind")?,
    })
}

/// Text, or nothing where it is null.
fn text_or_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(<Option<String> as serde::Deserialize>::deserialize(deserializer)?.unwrap_or_default())
}

/// Decodes a body of a built-in kind. apiVersion and kind of the result are those asked for.
pub fn decode(gvk: &GroupVersionKind, bytes: &[u8]) -> Result<Decoded, Error> {
    let text = as_text(bytes);
    let read = |source: &str| {
        let mut deserializer = serde_json::Deserializer::from_str(source);
        decode_with(gvk, &mut deserializer, Some(text.as_bytes()))
    };
    read(&text).or_else(|error| match number::tamed(&text) {
        Some(tamed) => read(&tamed),
        None => Err(error),
    })
}

/// Decodes an object that is JSON already, such as the outcome of a patch.
pub fn decode_value(gvk: &GroupVersionKind, value: Value) -> Result<Decoded, Error> {
    decode_with(gvk, value, None)
}

/// As [`decode_value`], but numbers are taken over as Go's conversion from untyped objects does: whole ones whatever they
/// are written as, and cut off to the width of their type.
pub fn decode_converted(gvk: &GroupVersionKind, value: Value) -> Result<Decoded, Error> {
    decode_as(gvk, value, None, true)
}

/// Checks an object without changing it.
pub fn decode_check(gvk: &GroupVersionKind, value: &Value) -> Result<Decoded, Error> {
    decode_with(gvk, value, None)
}

/// Drops what the kind has no field for. An object of an unknown kind stays as it is.
pub fn prune_unknown(gvk: &GroupVersionKind, value: &mut Value) {
    if let Some(id) = Schema::builtin().type_of(gvk) {
        zero::prune(Schema::builtin(), &Shape::Struct(id), value);
    }
}

/// Brings an object into the form a round trip through the Go types gives it.
pub fn normalise(gvk: &GroupVersionKind, value: &mut Value) -> Result<(), Error> {
    *value = decode_value(gvk, value.take())?.value;
    Ok(())
}

/// A member of a kind as JSON shows it when nothing in it is set; `None` when there is no such member.
pub fn unset_member(gvk: &GroupVersionKind, name: &str) -> Option<Value> {
    let schema = Schema::builtin();
    let fields = &schema.type_info(schema.type_of(gvk)?).fields;
    let field = fields.iter().find(|field| field.name == name)?;
    Some(zero::zero(schema, &field.shape))
}

/// Decodes JSON of no known type; finds duplicate keys and syntax errors.
pub fn decode_untyped(bytes: &[u8]) -> Result<Decoded, Error> {
    let text = as_text(bytes);
    let mut context = Context::new(Schema::builtin());
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    let value = UntypedSeed(&mut context).deserialize(&mut deserializer);
    match value.and_then(|value| deserializer.end().map(|()| value)) {
        Ok(value) => Ok(Decoded {
            value,
            strict: context.strict,
        }),
        Err(error) => {
            let text = text.as_bytes();
            let beyond = || number::beyond(text, &error);
            let why = syntax_error(text).or_else(beyond).unwrap_or_else(|| error.to_string());
            Err(Error::Syntax(why))
        }
    }
}

/// Text of the bytes; invalid UTF-8 is replaced, as Go does.
fn as_text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// A source of JSON that can say whether something follows it.
trait Source<'de> {
    fn read(self, seed: ShapeSeed<'_, '_>) -> serde_json::Result<Option<Value>>;
}

impl<'de> Source<'de> for &mut serde_json::Deserializer<serde_json::de::StrRead<'de>> {
    fn read(self, seed: ShapeSeed<'_, '_>) -> serde_json::Result<Option<Value>> {
        let value = seed.deserialize(&mut *self)?;
        self.end()?;
        Ok(value)
    }
}

impl<'de> Source<'de> for Value {
    fn read(self, seed: ShapeSeed<'_, '_>) -> serde_json::Result<Option<Value>> {
        seed.deserialize(self)
    }
}

impl<'de> Source<'de> for &'de Value {
    fn read(self, seed: ShapeSeed<'_, '_>) -> serde_json::Result<Option<Value>> {
        seed.deserialize(self)
    }
}

fn decode_with<'de>(gvk: &GroupVersionKind, source: impl Source<'de>, text: Option<&[u8]>) -> Result<Decoded, Error> {
    decode_as(gvk, source, text, false)
}

fn decode_as<'de>(
    gvk: &GroupVersionKind,
    source: impl Source<'de>,
    text: Option<&[u8]>,
    converts: bool,
) -> Result<Decoded, Error> {
    let schema = Schema::builtin();
    let id = schema.type_of(gvk).ok_or_else(|| Error::UnknownKind(gvk.to_string()))?;
    let mut context = Context::new(schema);
    context.converts = converts;
    let shape = Shape::Struct(id);
    let read = source.read(ShapeSeed {
        context: &mut context,
        shape: &shape,
    });
    if let Some(message) = context.fatal.take() {
        return Err(Error::Type(message));
    }
    let value =
        read.map_err(|error| Error::Syntax(text.and_then(syntax_error).unwrap_or_else(|| error.to_string())))?;
    if let Some(message) = context.type_error.take() {
        return Err(Error::Type(number::as_written(message, &context, text)));
    }
    let mut value = value.unwrap_or_else(|| zero::zero_struct(schema, id));
    if let Some(object) = value.as_object_mut() {
        object.insert("apiVersion".to_owned(), Value::String(gvk.api_version()));
        object.insert("kind".to_owned(), Value::String(gvk.kind.clone()));
    }
    Ok(Decoded {
        value,
        strict: context.strict,
    })
}

#[cfg(test)]
mod tests;
