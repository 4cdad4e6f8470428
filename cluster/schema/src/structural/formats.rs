//! The formats of texts that upstream knows; others are not checked.

use super::compiled_pattern;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Patterns of formats that are no more than that.
const PATTERNS: &[(&str, &str)] = &[
    (
        "creditcard",
        r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11})$",
    ),
    ("date", r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"),
    (
        "datetime",
        r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:?[0-9]{2})$",
    ),
    (
        "duration",
        r"^[+-]?(([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*(ns|us|µs|μs|ms|s|m|h|d|w|nanoseconds?|nanos?|microseconds?|micros?|milliseconds?|millis?|seconds?|secs?|minutes?|mins?|hours?|hrs?|days?|weeks?|wks?)\s*)+$|^0$",
    ),
    ("hexcolor", r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"),
    (
        "hostname",
        r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$",
    ),
    ("isbn10", r"^(?:[0-9]{9}X|[0-9]{10})$"),
    ("isbn13", r"^(?:[0-9]{13})$"),
    ("bsonobjectid", r"^[0-9a-fA-F]{24}$"),
    (
        "mac",
        r"^([0-9A-Fa-f]{2}[:-]){5}([0-9A-Fa-f]{2})$|^([0-9A-Fa-f]{2}[:-]){7}[0-9A-Fa-f]{2}$|^([0-9A-Fa-f]{4}\.){2,3}[0-9A-Fa-f]{4}$",
    ),
    (
        "rgbcolor",
        r"^rgb\(\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*\)$",
    ),
    ("ssn", r"^\d{3}[- ]?\d{2}[- ]?\d{4}$"),
    (
        "byte",
        r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$",
    ),
    (
        "uuid",
        r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$",
    ),
    (
        "uuid3",
        r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$",
    ),
    (
        "uuid4",
        r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$",
    ),
    (
        "uuid5",
        r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$",
    ),
    ("k8sshortname", r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"),
    (
        "k8slongname",
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
];

/// Formats that are checked otherwise, or allow anything.
const OTHERS: &[&str] = &["uri", "email", "ipv4", "ipv6", "cidr", "isbn", "password"];

fn normalised(format: &str) -> String {
    format.replace('-', "")
}

/// Whether a format of a type is known.
pub fn supports(kind: &str, format: &str) -> bool {
    match kind {
        "" | "string" => {
            let format = normalised(format);
            OTHERS.contains(&format.as_str()) || PATTERNS.iter().any(|(name, _)| *name == format)
        }
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}

/// Whether a text is of a format. One that is not known fits anything.
pub(super) fn fits(format: &str, text: &str) -> bool {
    let format = normalised(format);
    let matches = |name: &str| {
        let pattern = PATTERNS.iter().find(|(known, _)| *known == name);
        pattern.is_none_or(|(_, pattern)| compiled_pattern(pattern).is_ok_and(|regex| regex.is_match(text)))
    };
    match format.as_str() {
        "uri" => is_request_uri(text),
        "email" => is_email(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "isbn" => is_isbn(text),
        "isbn10" | "isbn13" => matches(&format) && is_isbn(text),
        "hostname" => matches("hostname") && text.len() <= 255 && text.split('.').all(|part| part.len() <= 63),
        "k8sshortname" => text.len() <= 63 && matches("k8sshortname"),
        "k8slongname" => text.len() <= 253 && matches("k8slongname"),
        other => matches(other),
    }
}

/// As Go's url.ParseRequestURI: absolute, or an absolute path.
fn is_request_uri(text: &str) -> bool {
    if text.is_empty() || text.chars().any(|c| c.is_control() || c == ' ') {
        return false;
    }
    let scheme = text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
            && !rest.is_empty()
    });
    scheme || text.starts_with('/')
}

/// As Go's mail.ParseAddress, without its rarer forms: `a@b` or `Name <a@b>`.
fn is_email(text: &str) -> bool {
    let address = match text.trim().split_once('<') {
        Some((_, rest)) => match rest.strip_suffix('>') {
            Some(address) => address,
            None => return false,
        },
        None => text.trim(),
    };
    address.rsplit_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && !domain.is_empty()
            && !local.starts_with('.')
            && !local.ends_with('.')
            && !local.contains("..")
            && !domain.starts_with('.')
            && !domain.contains("..")
            && !address.contains(|c: char| c.is_whitespace() || "<>(),;:\\\"[]".contains(c))
            && !local.contains('@')
    })
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let most = match (address.parse::<Ipv4Addr>(), address.parse::<Ipv6Addr>()) {
        (Ok(_), _) => 32,
        (_, Ok(_)) => 128,
        _ => return false,
    };
    bits.bytes().all(|b| b.is_ascii_digit()) && bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

fn is_isbn(text: &str) -> bool {
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| !matches!(c, '-' | ' '))
        .map(|c| if c == 'X' { 10 } else { c.to_digit(10).unwrap_or(99) })
        .collect();
    if digits.contains(&99) {
        return false;
    }
    match digits.len() {
        10 => {
            let sum: u32 = digits.iter().enumerate().map(|(i, d)| (10 - i as u32) * d).sum();
            !digits[..9].contains(&10) && sum.is_multiple_of(11)
        }
        13 => {
            let sum: u32 = digits
                .iter()
                .enumerate()
                .map(|(i, d)| if i % 2 == 0 { *d } else { 3 * d })
                .sum();
            !digits.contains(&10) && sum.is_multiple_of(10)
        }
        _ => false,
    }
}
