//! The formats of texts that upstream knows; others are not checked.

use super::compiled_pattern;
use std::net::Ipv6Addr;

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
const OTHERS: &[&str] = &["uri", "email", "hostname", "ipv4", "ipv6", "cidr", "isbn", "password"];

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
        "date" => matches("date") && is_day(text),
        "datetime" => {
            matches("datetime") && is_day(text.get(..10).unwrap_or("")) && is_time(text.get(11..).unwrap_or(""))
        }
        "ipv4" => text.contains('.') && address_bits(text).is_some(),
        "ipv6" => text.contains(':') && address_bits(text).is_some(),
        "cidr" => is_cidr(text),
        "isbn" => is_isbn(text),
        "isbn10" | "isbn13" => {
            is_isbn(text)
                && text.chars().filter(|c| !matches!(c, '-' | ' ')).count() == if format == "isbn10" { 10 } else { 13 }
        }
        "creditcard" => is_credit_card(text),
        "ssn" => text.len() == 11 && matches("ssn"),
        "hostname" => is_hostname(text),
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

/// Whether there is such a day; the text has a day's form.
fn is_day(text: &str) -> bool {
    let part = |from: usize, to: usize| text.get(from..to).and_then(|t| t.parse::<u32>().ok()).unwrap_or(0);
    let (year, month, day) = (part(0, 4), part(5, 7), part(8, 10));
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    (1..=days).contains(&day)
}

/// Whether there is such a time of day; the text has its form.
fn is_time(text: &str) -> bool {
    let part = |from: usize| text.get(from..from + 2).unwrap_or("99");
    part(0) <= "23" && part(3) <= "59" && part(6) <= "59"
}

/// How many bits an address has. Numbers may begin with zeros, as they could once.
fn address_bits(text: &str) -> Option<u8> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Some(128);
    }
    let number = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        digits && part.trim_start_matches('0').len() <= 3 && part.parse::<u16>().is_ok_and(|n| n <= 255)
    };
    (text.split('.').count() == 4 && text.split('.').all(number)).then_some(32)
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let digits = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    digits && address_bits(address).is_some_and(|most| bits.parse::<u8>().is_ok_and(|bits| bits <= most))
}

/// A name of one label, or of several of which the last has two letters or more (the draft of JSON schema that
/// upstream follows: letters and symbols of any script).
fn is_hostname(text: &str) -> bool {
    let letter = |c: char| matches_one(c, r"^[a-zA-Z0-9\p{S}\p{L}]$");
    if text.len() > 255 || text.split('.').any(|label| label.len() > 63) {
        return false;
    }
    let Some((labels, last)) = text.rsplit_once('.') else {
        let mut chars = text.chars();
        let first = chars.next().is_some_and(letter);
        let rest = chars.as_str();
        return first && rest.strip_prefix('-').unwrap_or(rest).chars().all(letter);
    };
    let label = |label: &str| {
        let ends = label.chars().next().is_some_and(letter) && label.chars().next_back().is_some_and(letter);
        ends && label.chars().all(|c| c == '-' || letter(c))
    };
    let top = |c: char| matches_one(c, r"^[a-zA-Z\p{L}]$");
    labels.split('.').all(label) && last.chars().count() >= 2 && last.chars().all(top)
}

fn matches_one(c: char, pattern: &str) -> bool {
    let mut room = [0; 4];
    compiled_pattern(pattern).is_ok_and(|regex| regex.is_match(c.encode_utf8(&mut room)))
}

/// The digits are those of an issuer and their check digit is right.
fn is_credit_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let pattern = PATTERNS.iter().find(|(name, _)| *name == "creditcard");
    let issued =
        pattern.is_some_and(|(_, pattern)| compiled_pattern(pattern).is_ok_and(|regex| regex.is_match(&digits)));
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(at, digit)| {
            let digit = u32::from(digit - b'0');
            match (at % 2, 2 * digit) {
                (0, _) => digit,
                (_, double) => double % 10 + double / 10,
            }
        })
        .sum();
    issued && sum.is_multiple_of(10)
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
