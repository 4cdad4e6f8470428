//! Numbers as they are written: messages repeat them, and Go writes whole ones without a point.

use super::visit::{Context, Part};
use serde_json::{Number, Value, value::RawValue};
use std::collections::BTreeMap;

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
    fn what_no_floating_number_holds_is_told() {
        for body in ["1e400", "{\"a\": [\n1, -1e999]}"] {
            let number = body.rsplit(' ').next().unwrap_or(body).trim_end_matches(['}', ']']);
            let why = decode_untyped(body.as_bytes()).expect_err(body).to_string();
            let told = format!("json: cannot unmarshal number {number} into Go value of type float64");
            assert_eq!(why, told);
        }
    }
}
