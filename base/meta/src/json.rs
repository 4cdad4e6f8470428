//! JSON as the API writes it.

use serde::Serialize;
use serde_json::Value;
use std::io;

/// A value with floating numbers as Go writes them.
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    write(&mut out, value);
    out
}

pub(crate) fn write(out: &mut Vec<u8>, value: &Value) {
    let mut serializer = serde_json::Serializer::with_formatter(out, GoNumbers);
    value.serialize(&mut serializer).expect("writing to memory cannot fail");
}

/// Floating numbers have an exponent only where they are very small or large (Go's encoding/json).
struct GoNumbers;

impl serde_json::ser::Formatter for GoNumbers {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        if value == 0.0 || (1e-6..1e21).contains(&value.abs()) {
            return write!(writer, "{value}");
        }
        let text = format!("{value:e}");
        match text.split_once('e') {
            Some((digits, power)) if !power.starts_with('-') => write!(writer, "{digits}e+{power}"),
            _ => writer.write_all(text.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        for (number, expected) in [
            (json!(1e19), "10000000000000000000"),
            (json!(-1e20), "-100000000000000000000"),
            (json!(1e21), "1e+21"),
            (json!(1.5e300), "1.5e+300"),
            (json!(0.000_001), "0.000001"),
            (json!(1.25e-9), "1.25e-9"),
            (json!(5e-324), "5e-324"),
            (json!(2.5), "2.5"),
            (json!(3.0), "3"),
            (json!(u64::MAX), "18446744073709551615"),
            (json!([{"a": 1e22}]), "[{\"a\":1e+22}]"),
        ] {
            assert_eq!(String::from_utf8(encode(&number)).unwrap(), expected);
        }
    }
}
