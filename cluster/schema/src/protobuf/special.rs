//! Types whose JSON form is not that of their message's fields.

use super::encode::{text, value as encode_value};
use super::wire::{Reader, put_bytes, put_number};
use super::{bad, decode};
use crate::{Error, Schema, Shape};
use serde_json::Value;
use strata_meta::{GoDuration, GroupVersionKind, MicroTime, Time};

/// Decodes a special type's message; `None` where JSON shows null.
pub(super) fn decode(schema: &Schema, shape: &Shape, bytes: &[u8], depth: usize) -> Result<Option<Value>, Error> {
    match shape {
        Shape::Quantity => {
            let amount = first_text(bytes)?;
            let amount = amount
                .parse::<strata_meta::Quantity>()
                .map_err(|e| bad(&e.to_string()))?;
            Ok(Some(amount.to_string().into()))
        }
        Shape::IntOrString => int_or_string(bytes).map(Some),
        Shape::Time | Shape::MicroTime => timestamp(shape, bytes),
        Shape::Duration => {
            let nanoseconds = numbers(bytes)?[1] as i64;
            Ok(Some(GoDuration::from_nanos(nanoseconds).to_string().into()))
        }
        Shape::Raw | Shape::Fields | Shape::Json => {
            let raw = first_bytes(bytes)?;
            if raw.is_empty() {
                return Ok(None);
            }
            let value: Value = serde_json::from_slice(raw).map_err(|e| bad(&format!("embedded JSON: {e}")))?;
            Ok(Some(value))
        }
        _ => schema_or(schema, shape, bytes, depth),
    }
}

/// Encodes a special type's message.
pub(super) fn encode(schema: &Schema, shape: &Shape, value: &Value, out: &mut Vec<u8>) -> Result<(), Error> {
    match shape {
        Shape::Quantity => put_bytes(out, 1, quantity_text(value)?.as_bytes()),
        Shape::IntOrString => {
            put_number(out, 1, value.is_string().into());
            put_number(out, 2, value.as_i64().unwrap_or(0) as u64);
            put_bytes(out, 3, value.as_str().unwrap_or_default().as_bytes());
        }
        Shape::Time => {
            if !value.is_null() {
                let time = Time::parse(text(value)?).ok_or_else(|| bad("a time is malformed"))?;
                put_number(out, 1, time.as_second() as u64);
                put_number(out, 2, 0);
            }
        }
        Shape::MicroTime => {
            if !value.is_null() {
                let time = MicroTime::parse(text(value)?).ok_or_else(|| bad("a time is malformed"))?;
                let nanoseconds = time.0.as_nanosecond();
                put_number(out, 1, nanoseconds.div_euclid(1_000_000_000) as u64);
                put_number(out, 2, nanoseconds.rem_euclid(1_000_000_000) as u64);
            }
        }
        Shape::Duration => put_number(out, 1, duration(text(value)?)?.nanos() as u64),
        Shape::Raw | Shape::Fields | Shape::Json => {
            if !value.is_null() {
                put_bytes(out, 1, value.to_string().as_bytes());
            }
        }
        _ => return encode_schema_or(schema, shape, value, out),
    }
    Ok(())
}

/// Whole floats are shown as integers.
pub(super) fn float(n: f64) -> Value {
    if n.fract() == 0.0 && n.abs() < 1e15 {
        (n as i64).into()
    } else {
        n.into()
    }
}

fn quantity_text(value: &Value) -> Result<String, Error> {
    let written = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let amount = written
        .parse::<strata_meta::Quantity>()
        .map_err(|e| bad(&e.to_string()))?;
    Ok(amount.to_string())
}

fn first_bytes(bytes: &[u8]) -> Result<&[u8], Error> {
    let mut found: &[u8] = &[];
    let mut reader = Reader::new(bytes);
    while let Some((number, raw)) = reader.field()? {
        if number == 1 {
            found = raw.bytes()?;
        }
    }
    Ok(found)
}

fn first_text(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(first_bytes(bytes)?).map_err(|_| bad("text is not UTF-8"))
}

/// The varints of fields 1 and 2.
fn numbers(bytes: &[u8]) -> Result<[u64; 3], Error> {
    let mut found = [0; 3];
    let mut reader = Reader::new(bytes);
    while let Some((number, raw)) = reader.field()? {
        if let Some(slot) = found.get_mut(number as usize) {
            *slot = raw.varint()?;
        }
    }
    Ok(found)
}

fn int_or_string(bytes: &[u8]) -> Result<Value, Error> {
    let (mut is_text, mut number, mut text) = (false, 0, "");
    let mut reader = Reader::new(bytes);
    while let Some((at, raw)) = reader.field()? {
        match at {
            1 => is_text = raw.varint()? == 1,
            2 => number = raw.varint()? as i32,
            3 => text = raw.text()?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

/// Go's zero time, which stands for none: the beginning of the year one.
const NO_TIME: i64 = -62_135_596_800;

/// An empty message is no time; one that says nothing but zeros is 1970.
fn timestamp(shape: &Shape, bytes: &[u8]) -> Result<Option<Value>, Error> {
    let [_, seconds, nanoseconds] = numbers(bytes)?;
    let seconds = seconds as i64;
    let micro = matches!(shape, Shape::MicroTime);
    let microseconds = if micro { nanoseconds as i32 / 1000 } else { 0 };
    if bytes.is_empty() || (seconds, microseconds) == (NO_TIME, 0) {
        return Ok(None);
    }
    let time = Time::from_second(seconds);
    if !micro {
        return Ok(Some(time.to_string().into()));
    }
    let fraction = std::time::Duration::from_micros(microseconds.unsigned_abs().into());
    let moved = match microseconds < 0 {
        true => time.0.saturating_sub(fraction),
        false => time.0.saturating_add(fraction),
    };
    let time = MicroTime(moved.map_err(|_| bad("a time is out of range"))?);
    Ok(Some(time.to_string().into()))
}

fn duration(text: &str) -> Result<GoDuration, Error> {
    text.parse().map_err(|_| bad("a duration is malformed"))
}

/// The type that the unions of apiextensions hold.
fn schema_props(schema: &Schema) -> Result<Shape, Error> {
    let gvk = GroupVersionKind::new("apiextensions.k8s.io", "v1", "JSONSchemaProps");
    schema
        .type_of(&gvk)
        .map(Shape::Struct)
        .ok_or_else(|| bad("JSONSchemaProps is not in the table"))
}

/// A schema, or else an array of schemas, a truth value, or texts.
fn schema_or(schema: &Schema, shape: &Shape, bytes: &[u8], depth: usize) -> Result<Option<Value>, Error> {
    let props = schema_props(schema)?;
    let schema_number = if *shape == Shape::SchemaOrBool { 2 } else { 1 };
    let (mut one, mut many, mut allows) = (None, Vec::new(), false);
    let mut reader = Reader::new(bytes);
    while let Some((number, raw)) = reader.field()? {
        match (number, shape) {
            (number, _) if number == schema_number => one = decode::value(schema, &props, raw, depth)?,
            (1, Shape::SchemaOrBool) => allows = raw.varint()? != 0,
            (2, Shape::SchemaOrArray) => many.extend(decode::value(schema, &props, raw, depth)?),
            (2, Shape::SchemaOrStrings) => many.push(raw.text()?.into()),
            _ => {}
        }
    }
    let alternative = match shape {
        Shape::SchemaOrBool => Some(Value::Bool(allows)),
        _ => (!many.is_empty()).then_some(Value::Array(many.clone())),
    };
    Ok(match shape {
        Shape::SchemaOrStrings if !many.is_empty() => alternative,
        Shape::SchemaOrArray if !many.is_empty() => alternative,
        _ => one.or(alternative),
    })
}

fn encode_schema_or(schema: &Schema, shape: &Shape, value: &Value, out: &mut Vec<u8>) -> Result<(), Error> {
    let props = schema_props(schema)?;
    match (shape, value) {
        (Shape::SchemaOrBool, Value::Bool(allows)) => put_number(out, 1, u64::from(*allows)),
        (Shape::SchemaOrBool, Value::Object(_)) => {
            put_number(out, 1, 1);
            encode_value(schema, 2, &props, value, out)?;
        }
        (_, Value::Object(_)) => encode_value(schema, 1, &props, value, out)?,
        (Shape::SchemaOrArray, Value::Array(items)) => {
            items
                .iter()
                .try_for_each(|item| encode_value(schema, 2, &props, item, out))?;
        }
        (Shape::SchemaOrStrings, Value::Array(items)) => {
            items
                .iter()
                .try_for_each(|item| text(item).map(|item| put_bytes(out, 2, item.as_bytes())))?;
        }
        _ => return Err(bad("a schema is something else")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_message_is_no_time_and_zeros_are_1970() {
        let read = |shape: &Shape, bytes: &[u8]| timestamp(shape, bytes).expect("a time").map(|t| t.to_string());
        let begin = Some("\"1970-01-01T00:00:00Z\"".to_owned());
        assert_eq!(read(&Shape::Time, &[]), None);
        assert_eq!(read(&Shape::Time, &[0x08, 0, 0x10, 0]), begin);
        assert_eq!(read(&Shape::Time, &[0x10, 0x40]), begin);
        assert_eq!(
            read(&Shape::MicroTime, &[0x10, 0xc0, 0x3e]),
            Some("\"1970-01-01T00:00:00.000008Z\"".to_owned())
        );
        let mut zero = Vec::new();
        put_number(&mut zero, 1, NO_TIME as u64);
        assert_eq!(read(&Shape::Time, &zero), None);
        let mut written = Vec::new();
        encode(
            Schema::builtin(),
            &Shape::Time,
            &Value::from("1970-01-01T00:00:00Z"),
            &mut written,
        )
        .expect("a time");
        assert_eq!(read(&Shape::Time, &written), begin);
    }
}
