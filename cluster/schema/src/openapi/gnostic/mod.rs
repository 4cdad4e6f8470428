//! The protobuf forms that github.com/google/gnostic-models defines for OpenAPI documents.
//!
//! Messages are tables ([`v2`], [`v3`]): which member of the JSON object is which field. What the
//! tables do not name is left out, as gnostic has no place for it.

pub mod v2;
pub mod v3;

use serde_json::Value;
use std::io::{self, Write};

/// A message.
pub struct Message {
    /// Members with a field of their own.
    pub fields: &'static [Field],
    /// The field of all other members, each as a message of its name and value; those that start with `x-` go
    /// to the second one.
    pub others: Option<(u32, Kind)>,
    /// The field of members that start with `x-`.
    pub extensions: Option<u32>,
}

/// A member that is a field.
pub struct Field {
    /// The name of the member.
    pub name: &'static str,
    /// The number of the field.
    pub number: u32,
    /// What it is; of a list, what its items are.
    pub kind: Kind,
}

/// What a field holds.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Text.
    Text,
    /// `true` or `false`; the latter is not sent.
    Bool,
    /// A whole number.
    Int,
    /// Any number.
    Double,
    /// Any value, as YAML.
    Any,
    /// A message.
    Message(&'static Message),
    /// A message that is one of several fields.
    Choice(&'static Choice),
    /// A message with one repeated field, of a list or of a single value.
    Wrapped(&'static (u32, Kind)),
}

/// One of several fields, chosen by the value, which is sent whatever it is.
pub struct Choice {
    /// The fields.
    pub branches: &'static [(u32, Kind)],
    /// The number of a value's field, if it has one.
    pub choose: fn(&Value) -> Option<u32>,
}

/// A field of the table.
const fn field(name: &'static str, number: u32, kind: Kind) -> Field {
    Field { name, number, kind }
}

/// A message of named members, and a field for those that start with `x-`.
const fn message(fields: &'static [Field], extensions: u32) -> Message {
    Message {
        fields,
        others: None,
        extensions: Some(extensions),
    }
}

/// A message of members by any name.
const fn map(number: u32, kind: Kind) -> Message {
    Message {
        fields: &[],
        others: Some((number, kind)),
        extensions: None,
    }
}

/// A value as a message.
pub fn encode(message: &Message, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, member) in value.as_object().into_iter().flatten() {
        encode_member(message, name, member, &mut out);
    }
    out
}

/// One member of a message's value.
pub fn encode_member(message: &Message, name: &str, value: &Value, out: &mut Vec<u8>) {
    if let Some(field) = message.fields.iter().find(|field| field.name == name) {
        match (value, field.kind) {
            (Value::Array(items), kind)
                if !matches!(kind, Kind::Any | Kind::Wrapped(_) | Kind::Choice(_)) || REPEATED.contains(&name) =>
            {
                items
                    .iter()
                    .for_each(|item| encode_field(field.number, kind, item, true, out));
            }
            (_, kind) => encode_field(field.number, kind, value, false, out),
        }
        return;
    }
    let named = match (name.starts_with("x-"), message.extensions, message.others) {
        (true, Some(number), _) => Some((number, Kind::Any)),
        (_, _, others) => others,
    };
    if let Some((number, kind)) = named {
        let mut entry = Vec::new();
        text(1, name, &mut entry);
        encode_field(2, kind, value, true, &mut entry);
        bytes(number, &entry, out);
    }
}

/// Lists of what may be one thing or another, and of any values.
const REPEATED: &[&str] = &["enum", "parameters", "allOf", "oneOf", "anyOf"];

/// A field; unless `always`, zero values are not sent.
fn encode_field(number: u32, kind: Kind, value: &Value, always: bool, out: &mut Vec<u8>) {
    match (kind, value) {
        (Kind::Text, Value::String(content)) if always || !content.is_empty() => text(number, content, out),
        (Kind::Bool, Value::Bool(set)) if always || *set => {
            tag(number, 0, out);
            out.push(u8::from(*set));
        }
        (Kind::Int, Value::Number(count)) => {
            let count = count.as_i64().unwrap_or_else(|| count.as_f64().unwrap_or(0.0) as i64);
            if always || count != 0 {
                tag(number, 0, out);
                varint(count as u64, out);
            }
        }
        (Kind::Double, Value::Number(count)) => {
            let count = count.as_f64().unwrap_or(0.0);
            if always || count != 0.0 {
                tag(number, 1, out);
                out.extend_from_slice(&count.to_le_bytes());
            }
        }
        (Kind::Any, value) => {
            // JSON is YAML.
            let mut any = Vec::new();
            text(2, &format!("{value}\n"), &mut any);
            bytes(number, &any, out);
        }
        (Kind::Message(message), value) => bytes(number, &encode(message, value), out),
        (Kind::Choice(choice), value) => {
            let mut chosen = Vec::new();
            let branch = (choice.choose)(value);
            for (branch, kind) in choice.branches.iter().filter(|(number, _)| Some(*number) == branch) {
                encode_field(*branch, *kind, value, true, &mut chosen);
            }
            bytes(number, &chosen, out);
        }
        (Kind::Wrapped((inner, kind)), value) => {
            let mut wrapped = Vec::new();
            match value {
                Value::Array(items) => items
                    .iter()
                    .for_each(|item| encode_field(*inner, *kind, item, true, &mut wrapped)),
                single => encode_field(*inner, *kind, single, true, &mut wrapped),
            }
            bytes(number, &wrapped, out);
        }
        _ => {}
    }
}

/// A field that is a message. Errors: those of `out`.
pub fn write_message(out: &mut dyn Write, number: u32, message: &[u8]) -> io::Result<()> {
    let mut head = Vec::new();
    tag(number, 2, &mut head);
    varint(message.len() as u64, &mut head);
    out.write_all(&head)?;
    out.write_all(message)
}

fn text(number: u32, content: &str, out: &mut Vec<u8>) {
    bytes(number, content.as_bytes(), out);
}

fn bytes(number: u32, content: &[u8], out: &mut Vec<u8>) {
    tag(number, 2, out);
    varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

fn tag(number: u32, wire: u32, out: &mut Vec<u8>) {
    varint(u64::from(number << 3 | wire), out);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
