//! Texts and numbers.

use super::{
    super::{Kind, Path, Rule, Structural, formats},
    outcome::{Outcome, Problem, go_float},
};
use regex::Regex;
use serde_json::{Number, Value};
use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex},
};

/// Compiled patterns are many times the size of their text: only some are kept.
const PATTERNS: usize = 128;
/// How large those are together, as they weigh. A weight is some hundred bytes.
const WEIGHT: u64 = 1_000_000;

#[derive(Default)]
struct Kept {
    patterns: HashMap<Box<str>, Regex>,
    weight: u64,
}

static COMPILED: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);

/// A pattern, compiled. Errors: it is none, or is too large.
pub fn compiled_pattern(pattern: &str) -> Result<Regex, String> {
    const LOCK: &str = "no panic under this lock";
    if let Some(known) = COMPILED.lock().expect(LOCK).patterns.get(pattern) {
        return Ok(known.clone());
    }
    // Others need not wait while a large one is compiled.
    let made = strata_cel::pattern(pattern)?;
    let weight = strata_cel::pattern_weight(pattern);
    let mut kept = COMPILED.lock().expect(LOCK);
    if kept.patterns.len() == PATTERNS || kept.weight + weight > WEIGHT {
        *kept = Kept::default();
    }
    if kept.patterns.insert(pattern.into(), made.clone()).is_none() {
        kept.weight += weight;
    }
    Ok(made)
}

/// As upstream: what is too long is not held to its pattern as well.
pub(super) fn text(schema: &Structural, text: &str, path: &Path<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let turn = |rule: &Rule| match rule {
        Rule::MaxLength(_) => 0,
        Rule::MinLength(_) => 1,
        _ => 2,
    };
    let rules = (0..3).flat_map(|now| schema.rules.iter().filter(move |rule| turn(rule) == now));
    if let Some(problem) = { rules }.find_map(|rule| text_problem(rule, text, path)) {
        outcome.add(problem);
    }
    outcome
}

fn text_problem(rule: &Rule, text: &str, path: &Path<'_>) -> Option<Problem> {
    let length = || text.chars().count() as i64;
    let why = match rule {
        Rule::MaxLength(most) if length() > *most => return Some(Problem::too_long(path, *most)),
        Rule::MinLength(least) if length() < *least => format!("{path} in body should be at least {least} chars long"),
        Rule::Pattern(pattern) => match compiled_pattern(pattern) {
            Ok(regex) if regex.is_match(text) => return None,
            Ok(_) => format!("{path} in body should match '{pattern}'"),
            Err(error) => format!("{path} in body should match '{pattern}, but pattern is invalid: {error}'"),
        },
        _ => return None,
    };
    Some(Problem::invalid(path, &Value::from(text), why))
}

pub(super) fn format(schema: &Structural, text: &str, path: &Path<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    for rule in &schema.rules {
        if let Rule::Format(format) = rule
            && matches!(schema.kind, Kind::Any | Kind::String)
            && !formats::fits(format, text)
        {
            let why = format!("{path} in body must be of type {format}: {text:?}");
            outcome.add(Problem::invalid_type(path, text, why));
        }
    }
    outcome
}

/// As upstream: whole numbers are compared with what is whole of the bound.
pub(super) fn number(schema: &Structural, number: &Number, path: &Path<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let value = Value::Number(number.clone());
    let float = number.as_f64().unwrap_or(f64::NAN);
    let whole = number.as_i64().is_some();
    let invalid = |why: String| Problem::invalid(path, &value, why);
    let bound = |n: f64| if whole { n.trunc() + 0.0 } else { n };
    let shown = |n: f64| if whole { n.to_string() } else { go_float(n) };
    for rule in &schema.rules {
        let rule = match *rule {
            Rule::Maximum(most, exclusive) => Rule::Maximum(bound(most), exclusive),
            Rule::Minimum(least, exclusive) => Rule::Minimum(bound(least), exclusive),
            Rule::MultipleOf(factor) => Rule::MultipleOf(bound(factor)),
            _ => continue,
        };
        match rule {
            Rule::Maximum(most, true) if float >= most => {
                outcome.add(invalid(format!("{path} in body should be less than {}", shown(most))));
            }
            Rule::Maximum(most, false) if float > most => {
                outcome.add(invalid(format!(
                    "{path} in body should be less than or equal to {}",
                    shown(most)
                )));
            }
            Rule::Minimum(least, true) if float <= least => {
                outcome.add(invalid(format!(
                    "{path} in body should be greater than {}",
                    shown(least)
                )));
            }
            Rule::Minimum(least, false) if float < least => {
                outcome.add(invalid(format!(
                    "{path} in body should be greater than or equal to {}",
                    shown(least)
                )));
            }
            Rule::MultipleOf(factor) if factor <= 0.0 => {
                let why = format!(
                    "factor MultipleOf declared for {path} must be positive: {}",
                    shown(factor)
                );
                outcome.add(Problem::invalid(path, &Value::from(factor), why));
                continue;
            }
            Rule::MultipleOf(factor) if factor > 0.0 && !is_multiple(number, factor) => {
                outcome.add(invalid(format!(
                    "{path} in body should be a multiple of {}",
                    shown(factor)
                )));
            }
            _ => {}
        }
    }
    if let Some(why) = out_of_range(schema, number, path) {
        outcome.add(Problem::composite(why));
    }
    outcome.count();
    outcome
}

/// Whether a number is an integer in JSON, however it is written: to a billionth of itself (go-openapi/swag).
pub(super) fn is_integer(number: &Number) -> bool {
    const LARGEST: f64 = 9_007_199_254_740_991.0;
    const CLOSE: f64 = 1e-9;
    if number.as_i64().is_some() {
        return true;
    }
    let Some(float) = number.as_f64().filter(|float| float.abs() <= LARGEST) else {
        return false;
    };
    let whole = float.trunc();
    float == whole || (whole != 0.0 && (float - whole).abs() / (float.abs() + whole.abs()) < CLOSE)
}

/// A number as Go writes it out before it looks whether it fits.
fn written_out(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => float.to_string(),
        _ => number.to_string(),
    }
}

fn is_multiple(number: &Number, factor: f64) -> bool {
    if let (Some(whole), true) = (number.as_i64(), factor.fract() == 0.0 && factor < i64::MAX as f64) {
        return whole % factor as i64 == 0;
    }
    let float = number.as_f64().unwrap_or(f64::NAN);
    let times = if factor < 1.0 {
        1.0 / factor * float
    } else {
        float / factor
    };
    // What upstream takes for whole: within a billionth.
    (times - times.round()).abs() < 1e-9 * times.abs().max(1.0)
}

fn out_of_range(schema: &Structural, number: &Number, path: &Path<'_>) -> Option<String> {
    let format = schema.rules.iter().find_map(|r| match r {
        Rule::Format(format) => Some(&**format),
        _ => None,
    });
    let fits = match (schema.kind, format) {
        (Kind::Integer, Some("int32")) => written_out(number).parse::<i32>().is_ok(),
        (Kind::Integer, _) => written_out(number).parse::<i64>().is_ok(),
        (Kind::Number, Some("float")) => number.as_f64().is_some_and(|n| (n as f32).is_finite()),
        _ => true,
    };
    let kind = schema.type_words();
    (!fits).then(
        || match format.filter(|f| matches!(*f, "int32" | "int64" | "float" | "double")) {
            Some(format) => format!("Checked value must be of type {kind} with format {format} in {path}"),
            None => format!("Checked value must be of type {kind} (default format) in {path}"),
        },
    )
}
