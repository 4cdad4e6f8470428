//! The query string.

use std::{
    fmt::Write as _,
    num::{IntErrorKind, ParseIntError},
    str::FromStr,
};
use strata_meta::Status;

/// Decoded query parameters, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=b&c=d`; undecodable escapes stay as they are.
    pub(crate) fn parse(text: &str) -> Self {
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decode_component(name), decode_component(value))
        };
        Self(text.split('&').filter(|part| !part.is_empty()).map(pair).collect())
    }

    /// One parameter.
    pub(crate) fn single(name: &str, value: &str) -> Self {
        Self(vec![(name.to_owned(), value.to_owned())])
    }

    /// Undoes the escapes of a path.
    pub(crate) fn decode_path(path: &str) -> String {
        if path.contains('%') {
            decode_component(&path.replace('+', "%2B"))
        } else {
            path.to_owned()
        }
    }

    /// The first value of a parameter; `""` when it is absent.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    /// Every value of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether the parameter is there and true, as Go's `strconv.ParseBool` and upstream's conversion read it.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.bool(name) == Some(true)
    }

    /// A boolean parameter; `None` when it is absent.
    pub(crate) fn bool(&self, name: &str) -> Option<bool> {
        let (_, value) = self.0.iter().find(|(n, _)| n == name)?;
        Some(!matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    /// A whole number; `None` when it is absent. Errors: 400.
    pub(crate) fn whole(&self, name: &str) -> Result<Option<i64>, Status> {
        match self.get(name) {
            "" => Ok(None),
            text => number("ParseInt", text).map(Some).map_err(Status::bad_request),
        }
    }
}

/// Reads a number. Errors: what Go's `function` says of the text.
pub(crate) fn number<N: FromStr<Err = ParseIntError>>(function: &str, text: &str) -> Result<N, String> {
    text.parse().map_err(|error: ParseIntError| {
        let why = match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.{function}: parsing {text:?}: {why}")
    })
}

fn decode_component(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |i: usize| bytes.get(i).and_then(|b| (*b as char).to_digit(16));
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (b'+', ..) => {
                out.push(b' ');
                at += 1;
            }
            (other, ..) => {
                out.push(other);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// Escapes a text for a query or a path segment.
pub(crate) fn encode_component(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(byte as char);
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let q = Query::parse("a=b%2Cc&watch=1&empty&x=1+2&bad=%zz");
        assert_eq!(
            (q.get("a"), q.get("x"), q.get("bad"), q.get("none")),
            ("b,c", "1 2", "%zz", "")
        );
        assert!(q.is_true("watch") && q.is_true("empty") && !q.is_true("none"));
        assert_eq!(
            Query::parse(&format!("a={}", encode_component("é,=&"))).get("a"),
            "é,=&"
        );
    }
}
