//! What validation found.

use super::super::Path;
use serde_json::Value;
use std::{
    collections::HashSet,
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::LazyLock,
};
use strata_meta::StatusCause;

/// Most text of the problems that are told, in bytes. There may be more of them than anybody could be sent.
const MAX_TOLD: usize = 1 << 20;
/// Most text of the values that an enumeration allows, in one problem.
const MAX_LISTED: usize = 16 << 10;
/// As many problems are looked through before they are known by their hashes.
const FEW: usize = 16;

/// Problems of a value, and how many checks it passed.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) problems: Vec<Problem>,
    pub(super) matches: usize,
    /// Hashes of the sentences, once there are many.
    known: HashSet<u64>,
    /// Bytes of the problems.
    told: usize,
}

static HASHES: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl Outcome {
    pub(super) fn is_valid(&self) -> bool {
        self.problems.is_empty()
    }

    pub(super) fn count(&mut self) {
        self.matches += 1;
    }

    /// A sentence is told once.
    pub(super) fn add(&mut self, problem: Problem) {
        if self.told > MAX_TOLD || self.knows(&problem.sentence) {
            return;
        }
        self.told += problem.sentence.len() + problem.cause.message.len() + problem.cause.field.len();
        self.problems.push(problem);
    }

    fn knows(&mut self, sentence: &str) -> bool {
        if self.problems.len() < FEW {
            return self.problems.iter().any(|p| p.sentence == sentence);
        }
        if self.known.is_empty() {
            self.known = self.problems.iter().map(|p| HASHES.hash_one(&*p.sentence)).collect();
        }
        !self.known.insert(HASHES.hash_one(sentence))
    }

    pub(super) fn merge(&mut self, other: Outcome) {
        let matches = self.matches + other.matches;
        if self.problems.is_empty() {
            *self = other;
        } else {
            other.problems.into_iter().for_each(|problem| self.add(problem));
        }
        self.matches = matches;
    }

    /// Nothing of it is told.
    pub(super) fn forgive(&mut self) {
        (self.problems, self.known, self.told) = Default::default();
    }
}

/// One problem.
#[derive(Debug)]
pub(super) struct Problem {
    cause: StatusCause,
    sentence: String,
}

/// The root has no name.
fn field(path: &Path<'_>) -> String {
    let text = path.to_string();
    match text.trim_start_matches('.') {
        "" => "<nil>".to_owned(),
        path => path.to_owned(),
    }
}

impl Problem {
    pub(super) fn into_cause(self) -> StatusCause {
        self.cause
    }

    fn of(reason: &str, path: &Path<'_>, message: String, sentence: String) -> Self {
        Self {
            cause: StatusCause {
                reason: reason.into(),
                message,
                field: field(path),
            },
            sentence,
        }
    }

    /// A value that may not be what it is.
    pub(super) fn invalid(path: &Path<'_>, value: &Value, sentence: String) -> Self {
        let message = format!("Invalid value: {:?}: {sentence}", Shown(value));
        Self::of("FieldValueInvalid", path, message, sentence)
    }

    /// A value of another type.
    pub(super) fn mismatch(path: &Path<'_>, wanted: &str, found: &str) -> Self {
        let sentence = format!("{path} in body must be of type {wanted}: {found:?}");
        let message = format!("Invalid value: {found:?}: {sentence}");
        Self::of("FieldValueTypeInvalid", path, message, sentence)
    }

    /// A text that is not of its format.
    pub(super) fn invalid_type(path: &Path<'_>, text: &str, sentence: String) -> Self {
        let message = format!("Invalid value: {text:?}: {sentence}");
        Self::of("FieldValueTypeInvalid", path, message, sentence)
    }

    /// A member that must be there.
    pub(super) fn missing(path: &Path<'_>) -> Self {
        let sentence = format!("{path} in body is required");
        Self::of("FieldValueRequired", path, "Required value".into(), sentence)
    }

    /// A value outside an enumeration.
    pub(super) fn outside(path: &Path<'_>, value: &Value, allowed: &[Value]) -> Self {
        let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        let mut list = String::new();
        for value in allowed {
            if list.len() > MAX_LISTED {
                list.push_str(", ...");
                break;
            }
            let comma = if list.is_empty() { "" } else { ", " };
            list.push_str(&format!("{comma}{:?}", text(value)));
        }
        let message = format!("Unsupported value: {:?}: supported values: {list}", Shown(value));
        let sentence = format!("{path} in body should be one of [{list}]");
        Self::of("FieldValueNotSupported", path, message, sentence)
    }

    /// A text that is too long.
    pub(super) fn too_long(path: &Path<'_>, most: i64) -> Self {
        let sentence = format!("{path} in body should be at most {most} chars long");
        let bytes = if most == 1 { "byte" } else { "bytes" };
        let message = format!("Too long: may not be more than {most} {bytes}");
        Self::of("FieldValueTooLong", path, message, sentence)
    }

    /// Too many items or members.
    pub(super) fn too_many(path: &Path<'_>, found: i64, most: i64, sentence: String) -> Self {
        let items = if most == 1 { "item" } else { "items" };
        let message = format!("Too many: {found}: must have at most {most} {items}");
        Self::of("FieldValueTooMany", path, message, sentence)
    }

    /// What no single place is to blame for.
    pub(super) fn composite(sentence: String) -> Self {
        let message = format!("Invalid value: \"\": {sentence}");
        Self::of("FieldValueInvalid", &Path::ROOT, message, sentence)
    }
}

/// A floating number as Go's `%v` prints it: with an exponent of two digits or more where that is shorter by much.
pub fn go_float(float: f64) -> String {
    if float == 0.0 || (1e-4..1e6).contains(&float.abs()) {
        return float.to_string();
    }
    let text = format!("{float:e}");
    match text.split_once('e') {
        Some((digits, power)) => {
            let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
            format!("{digits}e{sign}{power:0>2}")
        }
        None => text,
    }
}

/// A value as sentences show it: texts quoted, everything else as JSON.
pub struct Shown<'v>(pub &'v Value);

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::String(text) => write!(f, "{text:?}"),
            Value::Number(n) if n.is_f64() => f.write_str(&go_float(n.as_f64().unwrap_or(f64::NAN))),
            other => {
                // Go escapes what HTML would read.
                let text = other.to_string();
                match text.contains(['<', '>', '&']) {
                    false => f.write_str(&text),
                    true => f.write_str(
                        &text
                            .replace('<', "\\u003c")
                            .replace('>', "\\u003e")
                            .replace('&', "\\u0026"),
                    ),
                }
            }
        }
    }
}
