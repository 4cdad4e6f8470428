//! Numbers as they are written: messages repeat them, and Go writes whole ones without a point.

use super::visit::{Context, Part};
use serde_json::{Number, Value, value::RawValue};
use std::{borrow::Cow, collections::BTreeMap};

/// From here on Go writes floating numbers with an exponent.
const EXPONENT: f64 = 1e21;

/// A whole number as Go writes one of its floating numbers, if it reads as an integer again.
pub fn whole(float: f64) -> Option<Number> {
    let is_plain = float.fract() == 0.0 && float.abs() < EXPONENT;
    // The fewest digits that tell it from others, and zeros: not its exact value.
    is_plain
        .then(|| float.to_string().parse::<i64>().ok())
        .flatten()
        .map(Number::from)
}

/// Makes the whole numbers of a value floating that are beyond 63 bits: others there are not.
pub fn floating_numbers(value: &mut Value) {
    match value {
        Value::Number(number) if !number.is_f64() && number.as_i64().is_none() => {
            if let Some(float) = number.as_f64().and_then(Number::from_f64) {
                *number = float;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(floating_numbers),
        Value::Object(map) => map.values_mut().for_each(floating_numbers),
        _ => {}
    }
}

/// Whether there are floating numbers such as `80.0`, which are known as 80 once they are written.
pub fn has_whole_fractions(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64() && number.as_f64().is_some_and(|n| n.fract() == 0.0),
        Value::Array(items) => items.iter().any(has_whole_fractions),
        Value::Object(members) => members.values().any(has_whole_fractions),
        _ => false,
    }
}

/// A value as it reads once it has been written and read again.
pub fn as_written_down(value: &Value) -> Cow<'_, Value> {
    if !has_whole_fractions(value) {
        return Cow::Borrowed(value);
    }
    let mut whole = value.clone();
    whole_numbers(&mut whole);
    Cow::Owned(whole)
}

/// Writes the floating numbers of a value that are whole as Go does.
pub fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            if let Some(whole) = number.as_f64().and_then(whole) {
                *number = whole;
            }
        }
        // Beyond 63 bits there are only floating ones.
        Value::Number(number) if number.as_i64().is_none() => {
            if let Some(float) = number.as_f64().and_then(Number::from_f64) {
                *number = float;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

/// The message of a wrong type with the number as the body has it.
pub(super) fn as_written(message: String, context: &Context<'_>, text: Option<&[u8]>) -> String {
    let Some((path, spelled, floating)) = &context.misplaced else {
        return message;
    };
    let written = match text.and_then(|text| std::str::from_utf8(text).ok()) {
        Some(text) => find(text, path).map(str::to_owned),
        // What a patch made: a floating number stays one.
        None if *floating => spelled
            .parse::<f64>()
            .ok()
            .and_then(Number::from_f64)
            .map(|number| number.to_string()),
        None => None,
    };
    match written {
        Some(written) => message.replacen(&format!("number {spelled}"), &format!("number {written}"), 1),
        None => message,
    }
}

/// A body with numbers that can be read in place of those that cannot: floating ones beyond all bounds, and `-0`, which
/// is 0 where a whole number is wanted. `None` for one that has no such numbers.
pub(super) fn tamed(text: &str) -> Option<String> {
    const BEYOND_INTEGERS: &str = "1e300";
    let (mut out, mut rest, mut changed) = (String::new(), text, false);
    while let Some(at) = rest.find(['"', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let end = match from.starts_with('"') {
            true => end_of_string(from),
            false => from
                .find(|c: char| !(c.is_ascii_digit() || "+-.eE".contains(c)))
                .unwrap_or(from.len()),
        };
        let (token, behind) = from.split_at(end);
        let instead = match token.parse::<f64>() {
            _ if token == "-0" => Some("0"),
            Ok(number) if number.is_infinite() => Some(BEYOND_INTEGERS),
            _ => None,
        };
        changed |= instead.is_some();
        out.push_str(instead.unwrap_or(token));
        rest = behind;
    }
    out.push_str(rest);
    changed.then_some(out)
}

/// Where a text's first string ends, behind its closing quote.
fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().enumerate().skip(1).find(|(_, byte)| {
        let closes = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        closes
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

/// The text of the value at the end of a way. Of members that repeat the last counts.
fn find<'t>(text: &'t str, path: &[Part]) -> Option<&'t str> {
    let Some((part, rest)) = path.split_first() else {
        return Some(text.trim());
    };
    let below: &RawValue = match part {
        Part::Index(at) => serde_json::from_str::<Vec<&RawValue>>(text).ok()?.get(*at)?,
        Part::Name(name) => member(text, name)?,
        Part::Key(key) => member(text, key)?,
    };
    find(below.get(), rest)
}

fn member<'t>(text: &'t str, name: &str) -> Option<&'t RawValue> {
    let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
    members.remove(name)
}

/// Go's message of a number that is larger than any floating one, where the reader stopped at one.
pub(super) fn beyond(text: &[u8], error: &serde_json::Error) -> Option<String> {
    if !error.to_string().starts_with("number out of range") {
        return None;
    }
    let line = text.split(|byte| *byte == b'\n').nth(error.line().checked_sub(1)?)?;
    let is_part = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    let end = error.column().min(line.len());
    let start = line[..end]
        .iter()
        .rposition(|byte| !is_part(byte))
        .map_or(0, |at| at + 1);
    let length = line[start..]
        .iter()
        .position(|byte| !is_part(byte))
        .unwrap_or(line.len() - start);
    let number = std::str::from_utf8(&line[start..start + length]).ok()?;
    (!number.is_empty()).then(|| format!("json: cannot unmarshal number {number} into Go value of type float64"))
}

#[cfg(test)]
mod tests {
    use super::super::{decode, decode_converted, decode_untyped, decode_value};
    use super::*;
    use serde_json::json;
    use strata_meta::GroupVersionKind;

    fn kind() -> GroupVersionKind {
        GroupVersionKind::new("apps", "v1", "Deployment")
    }

    #[test]
    fn a_number_of_a_wrong_type_is_told_as_it_was_written() {
        let of = |field: &str| format!("into Go struct field {field} of type int32");
        for number in ["1.0", "1e0", "10E-1", "-0.0", "3000000000", "12345678901234567890123"] {
            let body = format!(r#"{{"spec": {{"replicas": 7, "replicas": {number}}}}}"#);
            let why = decode(&kind(), body.as_bytes()).expect_err(number).to_string();
            let field = of("DeploymentSpec.spec.replicas");
            assert_eq!(why, format!("json: cannot unmarshal number {number} {field}"));
        }
        let body = r#"{"spec": {"template": {"spec": {"containers": [{}, {"ports": [{"containerPort": 8.00}]}]}}}}"#;
        let why = decode(&kind(), body.as_bytes()).expect_err("no port").to_string();
        assert!(why.starts_with("json: cannot unmarshal number 8.00 into"), "{why}");
        let patched = json!({"spec": {"replicas": 2.0}});
        let why = decode_value(&kind(), patched).expect_err("a fraction").to_string();
        assert!(why.starts_with("json: cannot unmarshal number 2.0 into"), "{why}");
    }

    #[test]
    fn conversion_takes_whole_numbers_and_cuts_them_off() {
        let replicas = |value: Value| {
            let converted = decode_converted(&kind(), json!({"spec": {"replicas": value}}));
            converted.map(|decoded| decoded.value["spec"]["replicas"].clone())
        };
        assert_eq!(replicas(json!(2.0)).expect("whole"), json!(2));
        assert_eq!(replicas(json!(3e9)).expect("cut off"), json!(-1_294_967_296));
        assert_eq!(
            replicas(json!(3_000_000_000_u64)).expect("cut off"),
            json!(-1_294_967_296)
        );
        assert_eq!(replicas(json!(1e30)).expect("cut off"), json!(0));
        let why = replicas(json!(2.5)).expect_err("a fraction").to_string();
        assert_eq!(why, "cannot convert float64 to int32");
    }

    #[test]
    fn numbers_that_cannot_be_read_are_told_where_they_stand() {
        let replicas = |number: &str| {
            let body = format!(r#"{{"metadata": {{"name": "-0 \" 1e400"}}, "spec": {{"replicas": {number}}}}}"#);
            decode(&kind(), body.as_bytes())
        };
        let why = replicas("1e400").expect_err("beyond").to_string();
        let told =
            "json: cannot unmarshal number 1e400 into Go struct field DeploymentSpec.spec.replicas of type int32";
        assert_eq!(why, told);
        let decoded = replicas("-0").expect("nothing").value;
        assert_eq!(decoded["spec"]["replicas"], json!(0));
        assert_eq!(decoded["metadata"]["name"], json!("-0 \" 1e400"));
        assert!(replicas("-0.0").is_err());
    }

    #[test]
    fn what_no_floating_number_holds_is_told() {
        for body in ["1e400", "{\"a\": [\n1, -1e999]}"] {
            let number = body.rsplit(' ').next().unwrap_or(body).trim_end_matches(['}', ']']);
            let why = decode_untyped(body.as_bytes()).expect_err(body).to_string();
            let told = format!("json: cannot unmarshal number {number} into Go value of type float64");
            assert_eq!(why, told);
        }
    }
}
