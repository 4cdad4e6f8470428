//! Zero values: what is shown where nothing is set.

use crate::{Field, Schema, Shape, TypeId};
use serde_json::{Map, Value};

/// What a value that was never set looks like in JSON.
pub(crate) fn zero(schema: &Schema, shape: &Shape) -> Value {
    match schema.resolve(shape) {
        Shape::String => Value::String(String::new()),
        Shape::Bool => Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::Uint32 | Shape::Uint64 | Shape::Float64 | Shape::IntOrString => 0.into(),
        Shape::Quantity => "0".into(),
        Shape::Duration => "0s".into(),
        Shape::Struct(id) => zero_struct(schema, *id),
        _ => Value::Null,
    }
}

/// The zero of a list's item or a map's value; bytes are there, though none.
pub(crate) fn zero_item(schema: &Schema, shape: &Shape) -> Value {
    match schema.resolve(shape) {
        Shape::Bytes => Value::String(String::new()),
        _ => zero(schema, shape),
    }
}

/// A struct of which nothing is set.
pub(crate) fn zero_struct(schema: &Schema, id: TypeId) -> Value {
    let mut object = Map::new();
    for field in &schema.type_info(id).fields {
        fill(schema, field, &mut object);
    }
    Value::Object(object)
}

/// Adds what JSON shows of a field that is not set.
pub(crate) fn fill(schema: &Schema, field: &Field, object: &mut Map<String, Value>) {
    let shown = match field.pointer {
        true => !field.omit_empty,
        false => !field.omit_zero && (!field.omit_empty || always_shown(schema, &field.shape)),
    };
    if shown {
        let value = if field.pointer {
            Value::Null
        } else {
            zero(schema, &field.shape)
        };
        object.insert(field.name.to_owned(), value);
    }
}

/// Structs are never empty to Go's omitempty.
fn always_shown(schema: &Schema, shape: &Shape) -> bool {
    let scalar = matches!(
        schema.resolve(shape),
        Shape::String
            | Shape::Bool
            | Shape::Int32
            | Shape::Int64
            | Shape::Uint32
            | Shape::Uint64
            | Shape::Float64
            | Shape::Bytes
            | Shape::List(_)
            | Shape::Map(..)
    );
    !scalar
}

/// Whether Go's omitempty leaves a value out. Structs are never empty.
pub(crate) fn is_empty(schema: &Schema, shape: &Shape, value: &Value) -> bool {
    match value {
        Value::Null => !always_shown(schema, shape),
        _ if always_shown(schema, shape) => false,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

/// Drops members that the shape has no field for.
pub(super) fn prune(schema: &Schema, shape: &Shape, value: &mut Value) {
    match (schema.resolve(shape), value) {
        (Shape::Struct(id), Value::Object(members)) => {
            let info = schema.type_info(*id);
            members.retain(|name, member| match info.field(name) {
                Some(field) => {
                    prune(schema, &field.shape, member);
                    true
                }
                None => false,
            });
        }
        (Shape::List(item), Value::Array(items)) => items.iter_mut().for_each(|each| prune(schema, item, each)),
        (Shape::Map(_, item), Value::Object(members)) => {
            members.values_mut().for_each(|each| prune(schema, item, each));
        }
        _ => {}
    }
}
