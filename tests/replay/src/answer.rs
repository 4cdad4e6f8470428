//! Bodies of answers as values, whatever their encoding.

use crate::{Outcome, openapi};
use serde_json::{Value, json};
use std::io::Read;
use strata_schema::protobuf;

/// A whole body.
pub fn decode(media: &str, coding: &str, bytes: &[u8]) -> Outcome<Value> {
    let mut plain = Vec::new();
    let bytes = match coding {
        "gzip" => {
            flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain)?;
            &plain
        }
        _ => bytes,
    };
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    if media.contains("stream=watch") || bytes.starts_with(br#"{"type":""#) {
        return Ok(Value::Array(frames(media, bytes)?));
    }
    // The index of OpenAPI documents says that it is text.
    let media = if bytes.starts_with(br#"{"paths":{"#) {
        "application/json"
    } else {
        media
    };
    Ok(openapi::essence(match media.split(';').next().unwrap_or("") {
        protobuf::MEDIA_TYPE => object(bytes),
        "application/json" | "application/jwk-set+json" => match serde_json::from_slice(bytes) {
            Ok(value) => value,
            Err(why) => json!({"not JSON": why.to_string(), "text": String::from_utf8_lossy(bytes)}),
        },
        "application/yaml" => serde_saphyr::from_slice(bytes)?,
        media if media.contains("proto-openapi") => openapi::decode(media, bytes).unwrap_or(Value::Null),
        _ => json!(String::from_utf8_lossy(bytes)),
    }))
}

/// The frames of a stream that are whole.
pub fn frames(media: &str, bytes: &[u8]) -> Outcome<Vec<Value>> {
    if !media.starts_with(protobuf::MEDIA_TYPE) {
        let whole = bytes
            .split_inclusive(|b| *b == b'\n')
            .filter(|line| line.ends_with(b"\n"));
        return Ok(whole.map(serde_json::from_slice).collect::<Result<_, _>>()?);
    }
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some((length, more)) = rest.split_first_chunk::<4>() {
        let Some((frame, more)) = more.split_at_checked(u32::from_be_bytes(*length) as usize) else {
            break;
        };
        // meta.k8s.io WatchEvent: a type and a RawExtension with the object.
        let mut event = json!({});
        for (number, value) in fields(frame) {
            match number {
                1 => event["type"] = json!(String::from_utf8_lossy(value)),
                2 => event["object"] = fields(value).first().map_or(Value::Null, |(_, raw)| object(raw)),
                _ => {}
            }
        }
        out.push(event);
        rest = more;
    }
    Ok(out)
}

/// An object in protobuf form. What the schema does not know is told by its kind.
fn object(bytes: &[u8]) -> Value {
    match protobuf::decode_to_json(bytes, None) {
        Ok(value) => value,
        Err(why) => {
            let kind = protobuf::open(bytes).map(|e| format!("{} {}", e.api_version, e.kind));
            json!({"not protobuf": why.to_string(), "kind": kind.ok()})
        }
    }
}

/// A JSON object in protobuf form.
pub fn encode(group: &str, version: &str, kind: &str, value: &Value) -> Outcome<Vec<u8>> {
    // The table's own types; the schema gives no other way to name one.
    let bytes = protobuf::encode_from_json(&strata_meta::GroupVersionKind::new(group, version, kind), value)?;
    Ok(bytes)
}

/// The length-delimited fields of a message.
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    let mut out = Vec::new();
    while let Some(tag) = varint(&mut bytes) {
        match tag & 7 {
            0 => drop(varint(&mut bytes)),
            2 => {
                let length = varint(&mut bytes).unwrap_or(0) as usize;
                let Some((value, rest)) = bytes.split_at_checked(length) else {
                    break;
                };
                out.push((tag >> 3, value));
                bytes = rest;
            }
            _ => break,
        }
    }
    out
}

/// A number as protobuf writes it.
pub fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
