//! From protobuf to JSON.

use super::special;
use super::wire::{Raw, Reader};
use super::{MAX_DEPTH, bad};
use crate::decode::{fill, is_empty};
use crate::{Error, Schema, Shape, TypeId, Wire};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// Decodes a message of a type.
pub(super) fn message(schema: &Schema, id: TypeId, bytes: &[u8], depth: usize) -> Result<Value, Error> {
    let info = schema.type_info(id);
    let mut members = Map::new();
    read(schema, id, bytes, depth, &mut members)?;
    for field in &info.fields {
        let unset = match members.get(field.name) {
            None => true,
            Some(value) => !field.pointer && is_empty(schema, &field.shape, value),
        };
        if unset {
            members.remove(field.name);
            fill(schema, field, &mut members);
        }
    }
    Ok(Value::Object(members))
}

/// Reads a message's fields; those of inlined structs come among them.
fn read(schema: &Schema, id: TypeId, bytes: &[u8], depth: usize, out: &mut Map<String, Value>) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(bad("messages are nested too deeply"));
    }
    let info = schema.type_info(id);
    let mut reader = Reader::new(bytes);
    while let Some((number, raw)) = reader.field()? {
        let Ok(at) = info.wire.binary_search_by_key(&number, |wire| wire.number()) else {
            continue;
        };
        match info.wire[at] {
            Wire::Inline(_, inner) => read(schema, inner, raw.bytes()?, depth + 1, out)?,
            Wire::Field(_, at) => {
                let field = &info.fields[usize::from(at)];
                match repeated(schema, &field.shape) {
                    Repeated::No => {
                        if let Some(value) = value(schema, &field.shape, raw, depth)? {
                            out.insert(field.name.to_owned(), value);
                        }
                    }
                    Repeated::List(item) => {
                        let slot = out.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
                        if let Value::Array(items) = slot {
                            items.extend(value(schema, item, raw, depth)?.or(Some(Value::Null)));
                        }
                    }
                    Repeated::Map(item) => {
                        let slot = out.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
                        if let Value::Object(members) = slot {
                            entry(schema, item, raw.bytes()?, depth, members)?;
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

/// How a shape's field recurs on the wire.
pub(super) enum Repeated<'s> {
    No,
    List(&'s Shape),
    Map(&'s Shape),
}

/// Lists and maps recur, except those wrapped into a message.
pub(super) fn repeated<'s>(schema: &'s Schema, shape: &'s Shape) -> Repeated<'s> {
    match shape {
        Shape::Named(index) if schema.named(*index).wrapped => Repeated::No,
        Shape::Named(index) => repeated(schema, &schema.named(*index).shape),
        Shape::List(item) => Repeated::List(item),
        Shape::Map(_, item) => Repeated::Map(item),
        _ => Repeated::No,
    }
}

fn entry(schema: &Schema, item: &Shape, bytes: &[u8], depth: usize, out: &mut Map<String, Value>) -> Result<(), Error> {
    let (mut key, mut found) = ("", None);
    let mut reader = Reader::new(bytes);
    while let Some((number, raw)) = reader.field()? {
        match number {
            1 => key = raw.text()?,
            2 => found = value(schema, item, raw, depth + 1)?,
            _ => {}
        }
    }
    let found = found.unwrap_or_else(|| crate::decode::zero_item(schema, item));
    out.insert(key.to_owned(), found);
    Ok(())
}

/// One value; `None` if it is the zero that JSON shows as null.
pub(super) fn value(schema: &Schema, shape: &Shape, raw: Raw<'_>, depth: usize) -> Result<Option<Value>, Error> {
    Ok(Some(match shape {
        Shape::Named(index) if schema.named(*index).wrapped => {
            return wrapped(schema, &schema.named(*index).shape, raw.bytes()?, depth).map(Some);
        }
        Shape::Named(index) => return value(schema, &schema.named(*index).shape, raw, depth),
        Shape::String => raw.text()?.into(),
        Shape::Bool => (raw.varint()? != 0).into(),
        Shape::Int32 => (raw.varint()? as i32).into(),
        Shape::Int64 => (raw.varint()? as i64).into(),
        Shape::Uint32 => (raw.varint()? as u32).into(),
        Shape::Uint64 => raw.varint()?.into(),
        Shape::Float64 => special::float(raw.double()?),
        Shape::Bytes => STANDARD.encode(raw.bytes()?).into(),
        Shape::Struct(id) => message(schema, *id, raw.bytes()?, depth + 1)?,
        // A list in a list or map has no protobuf form but the wrapped one.
        Shape::List(item) => wrapped(schema, &Shape::List(item.clone()), raw.bytes()?, depth)?,
        Shape::Map(..) => return Err(bad("a map within a map has no protobuf form")),
        other => return special::decode(schema, other, raw.bytes()?, depth + 1),
    }))
}

/// A message that holds a list in its field 1.
fn wrapped(schema: &Schema, shape: &Shape, bytes: &[u8], depth: usize) -> Result<Value, Error> {
    let Shape::List(item) = schema.resolve(shape) else {
        return Err(bad("a wrapped type is no list"));
    };
    let mut items = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some((number, raw)) = reader.field()? {
        if number == 1 {
            items.push(value(schema, item, raw, depth + 1)?.unwrap_or(Value::Null));
        }
    }
    Ok(Value::Array(items))
}
