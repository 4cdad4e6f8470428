//! From JSON to protobuf, byte for byte as upstream's generated code writes it: fields by number,
//! values that are no pointers always, maps by key.

use super::bad;
use super::decode::{Repeated, repeated};
use super::special;
use super::wire::{put_bytes, put_double, put_number, try_message};
use crate::{Error, Field, Schema, Shape, TypeId, Wire};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

type Object = Map<String, Value>;

/// Encodes a message of a type.
pub(super) fn message(schema: &Schema, id: TypeId, object: &Object, out: &mut Vec<u8>) -> Result<(), Error> {
    let info = schema.type_info(id);
    for wire in &info.wire {
        match *wire {
            Wire::Inline(number, inner) => try_message(out, number, |out| message(schema, inner, object, out))?,
            Wire::Field(number, at) => {
                let field = &info.fields[usize::from(at)];
                let named = |e: Error| Error::Protobuf(format!("{}.{}: {e}", info.name, field.name));
                encode_field(schema, number, field, object.get(field.name), out).map_err(named)?;
            }
        }
    }
    Ok(())
}

fn encode_field(
    schema: &Schema,
    number: u32,
    field: &Field,
    found: Option<&Value>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let found = found.filter(|value| !value.is_null());
    match (repeated(schema, &field.shape), found) {
        (Repeated::No, Some(found)) => value(schema, number, &field.shape, found, out),
        (Repeated::No, None) if field.pointer => Ok(()),
        (Repeated::No, None) => zero(schema, number, &field.shape, out),
        (_, None) => Ok(()),
        (Repeated::List(item), Some(Value::Array(items))) => {
            items.iter().try_for_each(|each| value(schema, number, item, each, out))
        }
        (Repeated::Map(item), Some(Value::Object(members))) => members.iter().try_for_each(|(key, member)| {
            try_message(out, number, |out| {
                put_bytes(out, 1, key.as_bytes());
                value(schema, 2, item, member, out)
            })
        }),
        _ => Err(bad("a list or map is something else")),
    }
}

/// What is written of a value that is no pointer and not set.
fn zero(schema: &Schema, number: u32, shape: &Shape, out: &mut Vec<u8>) -> Result<(), Error> {
    match shape {
        Shape::Named(index) if schema.named(*index).wrapped => Ok(()),
        Shape::Named(index) => zero(schema, number, &schema.named(*index).shape, out),
        Shape::Bytes => Ok(()),
        Shape::String => value(schema, number, shape, &Value::String(String::new()), out),
        Shape::Bool => value(schema, number, shape, &Value::Bool(false), out),
        Shape::Int32 | Shape::Int64 | Shape::Uint32 | Shape::Uint64 | Shape::Float64 | Shape::IntOrString => {
            value(schema, number, shape, &0.into(), out)
        }
        Shape::Quantity => value(schema, number, shape, &"0".into(), out),
        Shape::Duration => value(schema, number, shape, &"0s".into(), out),
        Shape::Struct(id) => try_message(out, number, |out| message(schema, *id, &Object::new(), out)),
        _ => {
            put_bytes(out, number, b"");
            Ok(())
        }
    }
}

/// One value with its tag.
pub(super) fn value(
    schema: &Schema,
    number: u32,
    shape: &Shape,
    value: &Value,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let integer = || value.as_i64().ok_or_else(|| bad("a number is not an integer"));
    match shape {
        Shape::Named(index) if schema.named(*index).wrapped => {
            wrapped(schema, number, &schema.named(*index).shape, value, out)?
        }
        Shape::Named(index) => self::value(schema, number, &schema.named(*index).shape, value, out)?,
        Shape::String => put_bytes(out, number, text(value)?.as_bytes()),
        Shape::Bool => put_number(
            out,
            number,
            value
                .as_bool()
                .ok_or_else(|| bad("a truth value is something else"))?
                .into(),
        ),
        Shape::Int32 | Shape::Int64 | Shape::Uint32 => put_number(out, number, integer()? as u64),
        Shape::Uint64 => put_number(
            out,
            number,
            value.as_u64().ok_or_else(|| bad("a number is not an integer"))?,
        ),
        Shape::Float64 => put_double(
            out,
            number,
            value.as_f64().ok_or_else(|| bad("a number is something else"))?,
        ),
        Shape::Bytes => {
            let bytes = STANDARD
                .decode(text(value)?)
                .map_err(|e| bad(&format!("base64: {e}")))?;
            put_bytes(out, number, &bytes);
        }
        Shape::Struct(id) => {
            let empty = Object::new();
            let object = match value {
                Value::Object(object) => object,
                Value::Null => &empty,
                _ => return Err(bad("an object is something else")),
            };
            try_message(out, number, |out| message(schema, *id, object, out))?;
        }
        Shape::List(_) => wrapped(schema, number, shape, value, out)?,
        Shape::Map(..) => return Err(bad("a map within a map has no protobuf form")),
        other => try_message(out, number, |out| special::encode(schema, other, value, out))?,
    }
    Ok(())
}

fn wrapped(schema: &Schema, number: u32, shape: &Shape, value: &Value, out: &mut Vec<u8>) -> Result<(), Error> {
    let (Shape::List(item), Value::Array(items)) = (schema.resolve(shape), value) else {
        return Err(bad("a list is something else"));
    };
    try_message(out, number, |out| {
        items
            .iter()
            .try_for_each(|each| self::value(schema, 1, item, each, out))
    })
}

/// The text of a value.
pub(super) fn text(value: &Value) -> Result<&str, Error> {
    value.as_str().ok_or_else(|| bad("text is something else"))
}
