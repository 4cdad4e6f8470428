//! The protobuf form of objects, from and to their JSON form, driven by the table.
//!
//! A stored or transmitted object is the four bytes `k8s\0` and a `runtime.Unknown` message that
//! names the kind and holds the object's own message.

mod decode;
mod encode;
mod special;
pub mod wire;

use crate::{Error, Schema};
use serde_json::Value;
use strata_meta::{GroupVersion, GroupVersionKind};
use wire::{Reader, put_bytes, put_length, put_message, varint_length};

/// The media type of what is made here.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

const MAGIC: &[u8; 4] = b"k8s\0";

/// Messages nested deeper than this are refused.
const MAX_DEPTH: usize = 100;

/// What stands around an object's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// `apiVersion` of the object; may be empty.
    pub api_version: String,
    /// `kind` of the object; may be empty.
    pub kind: String,
    /// The object's own message.
    pub raw: &'a [u8],
}

/// Whether bytes are an object in protobuf form.
pub fn is_protobuf(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Opens the envelope.
pub fn open(bytes: &[u8]) -> Result<Envelope<'_>, Error> {
    let message = bytes
        .strip_prefix(MAGIC)
        .ok_or_else(|| bad("the magic number is missing"))?;
    let mut envelope = Envelope {
        api_version: String::new(),
        kind: String::new(),
        raw: &[],
    };
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.field()? {
        match number {
            1 => {
                let mut type_meta = Reader::new(value.bytes()?);
                while let Some((number, value)) = type_meta.field()? {
                    match number {
                        1 => envelope.api_version = value.text()?.to_owned(),
                        2 => envelope.kind = value.text()?.to_owned(),
                        _ => {}
                    }
                }
            }
            2 => envelope.raw = value.bytes()?,
            3 if !value.bytes()?.is_empty() => return Err(bad("encoded content is not supported")),
            _ => {}
        }
    }
    Ok(envelope)
}

/// Decodes an object into the canonical JSON form that [`crate::decode()`] gives. Where the envelope
/// names no kind, it is `default`.
pub fn decode_to_json(bytes: &[u8], default: Option<&GroupVersionKind>) -> Result<Value, Error> {
    let envelope = open(bytes)?;
    let named = GroupVersion::parse(&envelope.api_version).filter(|_| !envelope.kind.is_empty());
    let gvk = match (named, default) {
        (Some(version), _) => version.kind(&envelope.kind),
        (None, Some(gvk)) => gvk.clone(),
        (None, None) => return Err(bad("the kind is missing")),
    };
    let mut value = decode_message(&gvk, envelope.raw)?;
    if let Some(object) = value.as_object_mut() {
        object.insert("apiVersion".to_owned(), Value::String(gvk.api_version()));
        object.insert("kind".to_owned(), Value::String(gvk.kind));
    }
    Ok(value)
}

/// Decodes an object's own message, without its envelope; apiVersion and kind are not in it.
pub fn decode_message(gvk: &GroupVersionKind, message: &[u8]) -> Result<Value, Error> {
    let schema = Schema::builtin();
    let id = schema.type_of(gvk).ok_or_else(|| Error::UnknownKind(gvk.to_string()))?;
    decode::message(schema, id, message, 0)
}

/// Encodes an object with its envelope.
pub fn encode_from_json(gvk: &GroupVersionKind, value: &Value) -> Result<Vec<u8>, Error> {
    Ok(seal(gvk, &encode_message(gvk, value)?))
}

/// Encodes an object's own message, without an envelope.
pub fn encode_message(gvk: &GroupVersionKind, value: &Value) -> Result<Vec<u8>, Error> {
    let schema = Schema::builtin();
    let id = schema.type_of(gvk).ok_or_else(|| Error::UnknownKind(gvk.to_string()))?;
    let object = value.as_object().ok_or_else(|| bad("an object is not a JSON object"))?;
    let mut out = Vec::with_capacity(1024);
    encode::message(schema, id, object, &mut out)?;
    Ok(out)
}

/// Puts the envelope around an object's message.
pub fn seal(gvk: &GroupVersionKind, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 64);
    out.extend_from_slice(MAGIC);
    put_message(&mut out, 1, |out| {
        put_bytes(out, 1, gvk.api_version().as_bytes());
        put_bytes(out, 2, gvk.kind.as_bytes());
    });
    put_bytes(&mut out, 2, message);
    put_bytes(&mut out, 3, b"");
    put_bytes(&mut out, 4, b"");
    out
}

/// Encodes a list from its metadata and its items' own messages, with the envelope.
pub fn encode_list<'a>(
    list: &GroupVersionKind,
    metadata: &Value,
    items: impl Iterator<Item = &'a [u8]> + Clone,
) -> Result<Vec<u8>, Error> {
    let mut out = list_head(list, metadata, items.clone().map(<[u8]>::len))?;
    items.for_each(|item| put_item(&mut out, item));
    out.extend_from_slice(LIST_TAIL);
    Ok(out)
}

/// What stands before the items of a list: everything but the items and [`LIST_TAIL`], for items of these sizes.
pub fn list_head(
    list: &GroupVersionKind,
    metadata: &Value,
    sizes: impl Iterator<Item = usize>,
) -> Result<Vec<u8>, Error> {
    let list_meta = GroupVersionKind::new("meta.k8s.io", "v1", "ListMeta");
    let mut metadata_field = Vec::new();
    put_bytes(&mut metadata_field, 1, &encode_message(&list_meta, metadata)?);
    // An item's field: a tag of one byte, its length, itself.
    let items: usize = sizes.map(|size| 1 + varint_length(size as u64) + size).sum();
    let mut out = MAGIC.to_vec();
    put_message(&mut out, 1, |out| {
        put_bytes(out, 1, list.api_version().as_bytes());
        put_bytes(out, 2, list.kind.as_bytes());
    });
    put_length(&mut out, 2, metadata_field.len() + items);
    out.extend_from_slice(&metadata_field);
    Ok(out)
}

/// Writes an item of a list: its own message.
pub fn put_item(out: &mut Vec<u8>, message: &[u8]) {
    put_bytes(out, 2, message);
}

/// What stands behind the items of a list: contentEncoding and contentType, both empty.
pub const LIST_TAIL: &[u8] = &[3 << 3 | 2, 0, 4 << 3 | 2, 0];

/// One frame of a watch: the event's type and its object with envelope, length in front.
/// Errors: the frame is 4 GiB or longer.
pub fn watch_frame(event_type: &str, object: &[u8]) -> Result<Vec<u8>, Error> {
    let mut out = vec![0; 4];
    put_bytes(&mut out, 1, event_type.as_bytes());
    put_message(&mut out, 2, |out| put_bytes(out, 1, object));
    let length = u32::try_from(out.len() - 4).map_err(|_| bad("a watch event is too large"))?;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(out)
}

fn bad(what: &str) -> Error {
    Error::Protobuf(what.to_owned())
}
