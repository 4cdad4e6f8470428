//! Semantic versions.

use super::{
    super::{Row, row},
    Opaque,
};
use crate::{EvalError, Value, env::Library::Semver as Lib};
use std::{cmp::Ordering, fmt, sync::Arc};

/// A semantic version.
#[derive(Clone, Debug)]
pub struct Version {
    core: [u64; 3],
    pre: Vec<String>,
    build: String,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.core;
        write!(f, "{major}.{minor}.{patch}")?;
        if !self.pre.is_empty() {
            write!(f, "-{}", self.pre.join("."))?;
        }
        if !self.build.is_empty() {
            write!(f, "+{}", self.build)?;
        }
        Ok(())
    }
}

impl Version {
    /// By precedence: the build does not count.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        let pre = match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => pre_order(&self.pre, &other.pre),
        };
        self.core.cmp(&other.core).then(pre)
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("Version string empty".to_owned());
        }
        let parts: Vec<&str> = text.splitn(3, '.').collect();
        let [major, minor, rest] = parts[..] else {
            return Err("No Major.Minor.Patch elements found".to_owned());
        };
        let end = rest.find(['-', '+']).unwrap_or(rest.len());
        let (patch, tail) = rest.split_at(end);
        let core = [
            number(major, "Major")?,
            number(minor, "Minor")?,
            number(patch, "Patch")?,
        ];
        let (pre, build) = match tail.split_once('+') {
            Some((pre, build)) => (pre, Some(build)),
            None => (tail, None),
        };
        let pre = match pre.strip_prefix('-') {
            Some(pre) => pre.split('.').map(pre_part).collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        for part in build.into_iter().flat_map(|build| build.split('.')) {
            if part.is_empty() {
                return Err("Build meta data is empty".to_owned());
            }
            if !is_word(part) {
                return Err(format!("Invalid character(s) found in build meta data {part:?}"));
            }
        }
        Ok(Self {
            core,
            pre,
            build: build.unwrap_or_default().to_owned(),
        })
    }

    /// With a leading `v`, leading zeros and missing parts forgiven.
    fn parse_tolerant(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut parts: Vec<String> = text.splitn(3, '.').map(without_zeros).collect();
        if parts.len() < 3 && parts.last().is_some_and(|last| last.contains(['+', '-'])) {
            return Err("short version cannot contain PreRelease/Build meta data".to_owned());
        }
        parts.resize(3, "0".to_owned());
        Self::parse(&parts.join("."))
    }
}

fn without_zeros(part: &str) -> String {
    if part.len() < 2 {
        return part.to_owned();
    }
    let trimmed = part.trim_start_matches('0');
    let zero = !trimmed.starts_with(|c: char| c.is_ascii_digit());
    format!("{}{trimmed}", if zero { "0" } else { "" })
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn number(text: &str, which: &str) -> Result<u64, String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!(
            "Invalid character(s) found in {} number {text:?}",
            which.to_lowercase()
        ));
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(format!("{which} number must not contain leading zeroes {text:?}"));
    }
    text.parse()
        .map_err(|_| format!("strconv.ParseUint: parsing {text:?}: value out of range"))
}

fn pre_part(part: &str) -> Result<String, String> {
    if part.is_empty() {
        return Err("Prerelease is empty".to_owned());
    }
    let numeric = part.bytes().all(|b| b.is_ascii_digit());
    if numeric && part.len() > 1 && part.starts_with('0') {
        return Err(format!(
            "Numeric PreRelease version must not contain leading zeroes {part:?}"
        ));
    }
    if !is_word(part) {
        return Err(format!("Invalid character(s) found in prerelease {part:?}"));
    }
    Ok(part.to_owned())
}

fn pre_order(one: &[String], other: &[String]) -> Ordering {
    for (a, b) in one.iter().zip(other) {
        let order = match (a.parse::<u64>(), b.parse::<u64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            (Ok(_), Err(_)) => Ordering::Less,
            (Err(_), Ok(_)) => Ordering::Greater,
            (Err(_), Err(_)) => a.cmp(b),
        };
        if order.is_ne() {
            return order;
        }
    }
    one.len().cmp(&other.len())
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        row(Lib, "semver", "string_to_semver", "(string) -> semver", parse),
        row(
            Lib,
            "semver",
            "string_bool_to_semver",
            "(string, bool) -> semver",
            parse,
        ),
        row(Lib, "isSemver", "is_semver_string", "(string) -> bool", is_semver),
        row(
            Lib,
            "isSemver",
            "is_semver_string_bool",
            "(string, bool) -> bool",
            is_semver,
        ),
        row(
            Lib,
            "isGreaterThan",
            "semver_is_greater_than",
            "semver.(semver) -> bool",
            |a| Ok(Value::Bool(compare(a)?.is_gt())),
        ),
        row(
            Lib,
            "isLessThan",
            "semver_is_less_than",
            "semver.(semver) -> bool",
            |a| Ok(Value::Bool(compare(a)?.is_lt())),
        ),
        row(Lib, "compareTo", "semver_compare_to", "semver.(semver) -> int", |a| {
            Ok(Value::Int(compare(a)? as i64))
        }),
        row(Lib, "major", "semver_major", "semver.() -> int", |a| part(a, 0)),
        row(Lib, "minor", "semver_minor", "semver.() -> int", |a| part(a, 1)),
        row(Lib, "patch", "semver_patch", "semver.() -> int", |a| part(a, 2)),
    ]
}

fn read(args: &[Value<'_>]) -> Result<Result<Version, String>, EvalError> {
    match args {
        [Value::String(text)] | [Value::String(text), Value::Bool(false)] => Ok(Version::parse(text)),
        [Value::String(text), Value::Bool(true)] => Ok(Version::parse_tolerant(text)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn parse<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let version = read(args)?.map_err(EvalError::failed)?;
    Ok(Value::Opaque(Opaque::Semver(Arc::new(version))))
}

fn is_semver<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    Ok(Value::Bool(read(args)?.is_ok()))
}

fn compare(args: &[Value<'_>]) -> Result<Ordering, EvalError> {
    match args {
        [Value::Opaque(Opaque::Semver(one)), Value::Opaque(Opaque::Semver(other))] => Ok(one.order(other)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn part<'a>(args: &[Value<'a>], which: usize) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Opaque(Opaque::Semver(version))] => Ok(Value::Int(version.core[which] as i64)),
        _ => Err(EvalError::no_such_overload()),
    }
}
