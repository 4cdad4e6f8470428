//! Validation of values, as upstream's OpenAPI validator does it and in its words.
//!
//! Problems that an update did not bring are let pass: a place whose value is what it was is not
//! reported (KEP-4008).

mod outcome;
mod scalars;

pub use outcome::{Shown, go_float};
pub use scalars::compiled_pattern;

use super::{Additional, Flags, Kind, Path, Rule, Structural};
use outcome::{Outcome, Problem};
use serde_json::{Map, Value};
use std::{collections::HashSet, sync::Arc};
use strata_meta::StatusCause;

impl Structural {
    /// What is wrong with a value. `old` is what it was, if it is an update.
    pub fn validate(&self, value: &Value, old: Option<&Value>, causes: &mut Vec<StatusCause>) {
        let outcome = ratcheted(self, value, old, &Path::ROOT);
        causes.extend(outcome.problems.into_iter().map(Problem::into_cause));
    }
}

fn ratcheted(schema: &Structural, value: &Value, old: Option<&Value>, path: &Path<'_>) -> Outcome {
    let mut outcome = validate(schema, value, old, path);
    if !outcome.is_valid() && old == Some(value) {
        outcome.forgive();
    }
    outcome
}

fn validate(schema: &Structural, value: &Value, old: Option<&Value>, path: &Path<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    outcome.merge(check_type(schema, value, path));
    if value.is_null() {
        outcome.merge(check_enum(schema, value, path));
        return outcome;
    }
    outcome.count();
    outcome.merge(composites(schema, value, old, path));
    outcome.count();
    match value {
        Value::String(text) => {
            outcome.merge(scalars::text(schema, text, path));
            outcome.count();
            outcome.merge(scalars::format(schema, text, path));
            outcome.count();
        }
        Value::Number(number) => {
            outcome.merge(scalars::number(schema, number, path));
            outcome.count();
        }
        Value::Array(items) => {
            outcome.merge(list(schema, items, old, path));
            outcome.count();
        }
        _ => {}
    }
    outcome.merge(check_enum(schema, value, path));
    outcome.count();
    if let Value::Object(map) = value {
        outcome.merge(object(schema, map, old, path));
        outcome.count();
    }
    outcome.count();
    outcome
}

fn type_word(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.as_i64().is_none() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn check_type(schema: &Structural, value: &Value, path: &Path<'_>) -> Outcome {
    let words = schema.type_words();
    let mut outcome = Outcome::default();
    let either = schema.is(Flags::INT_OR_STRING);
    let fits = match value {
        _ if words.is_empty() => true,
        Value::Null => schema.is(Flags::NULLABLE),
        Value::String(_) => {
            let formatted = schema.rules.iter().any(|r| matches!(r, Rule::Format(_)));
            // Upstream leaves texts with a format to the check of formats, unless a number is wanted.
            either || schema.kind == Kind::String || (formatted && !matches!(schema.kind, Kind::Integer | Kind::Number))
        }
        Value::Number(number) => match schema.kind {
            _ if either => scalars::is_integer(number),
            Kind::Integer => scalars::is_integer(number),
            Kind::Number => true,
            _ => false,
        },
        Value::Bool(_) => schema.kind == Kind::Boolean && !either,
        Value::Array(_) if either => false,
        Value::Array(_) => {
            let formatted = schema.rules.iter().any(|r| matches!(r, Rule::Format(_)));
            schema.kind == Kind::Array || (formatted && !matches!(schema.kind, Kind::Integer | Kind::Number))
        }
        Value::Object(_) => schema.kind == Kind::Object && !either,
    };
    if fits {
        outcome.count();
    } else {
        let format = schema.rules.iter().find_map(|rule| match rule {
            Rule::Format(format) => Some(&**format),
            _ => None,
        });
        outcome.add(match (format, value) {
            // What is no text is measured by the format, in Go's names of them.
            (Some(format), Value::Number(n)) if n.as_i64().is_some() => Problem::mismatch(path, format, "int64"),
            (Some(format), Value::Number(_)) => Problem::mismatch(path, format, "float64"),
            (Some(format), Value::Bool(_) | Value::Object(_)) => Problem::mismatch(path, format, ""),
            _ => Problem::mismatch(path, words, type_word(value)),
        });
    }
    outcome
}

fn check_enum(schema: &Structural, value: &Value, path: &Path<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    for rule in &schema.rules {
        if let Rule::Enum(values) = rule
            && !values.is_empty()
            && !values.iter().any(|v| same(v, value))
        {
            outcome.add(Problem::outside(path, value, values));
        }
    }
    outcome
}

/// Whether two values are the same; whole numbers are, however they are written.
fn same(a: &Value, b: &Value) -> bool {
    a == b || matches!((a.as_f64(), b.as_f64()), (Some(a), Some(b)) if a == b)
}

fn list(schema: &Structural, items: &[Value], old: Option<&Value>, path: &Path<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    if let Some(below) = &schema.items {
        let before = schema.old_items(old);
        for (at, item) in items.iter().enumerate() {
            outcome.merge(ratcheted(below, item, before.find(item), &path.item(at)));
        }
    }
    let size = items.len() as i64;
    for rule in &schema.rules {
        match rule {
            Rule::MinItems(least) if size < *least => outcome.add(Problem::invalid(
                path,
                &Value::from(size),
                format!("{path} in body should have at least {least} items"),
            )),
            Rule::MaxItems(most) if size > *most => outcome.add(Problem::too_many(
                path,
                size,
                *most,
                format!("{path} in body should have at most {most} items"),
            )),
            _ => {}
        }
    }
    if schema.is(Flags::UNIQUE) && items.iter().collect::<HashSet<_>>().len() < items.len() {
        let why = format!("{path} in body shouldn't contain duplicates");
        outcome.add(Problem::invalid(path, &Value::from(""), why));
    }
    outcome.count();
    outcome
}

fn object(schema: &Structural, map: &Map<String, Value>, old: Option<&Value>, path: &Path<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let size = map.len() as i64;
    for rule in &schema.rules {
        match rule {
            Rule::MinProperties(least) if size < *least => outcome.add(Problem::invalid(
                path,
                &Value::from(size),
                format!("{path} in body should have at least {least} properties"),
            )),
            Rule::MaxProperties(most) if size > *most => outcome.add(Problem::too_many(
                path,
                size,
                *most,
                format!("{path} in body should have at most {most} properties"),
            )),
            _ => {}
        }
    }
    for (name, member) in map.iter().filter(|(name, _)| schema.property(name).is_none()) {
        match &schema.additional {
            Additional::Allowed(false) => outcome.add(Problem::invalid(
                path,
                &Value::from(name.as_str()),
                format!("{path}.{name} in body is a forbidden property"),
            )),
            Additional::Of(below) => {
                let old = old.and_then(|o| o.get(name));
                outcome.merge(ratcheted(below, member, old, &path.dotted(name)));
            }
            _ => {}
        }
    }
    for property in &schema.properties {
        let name = property.name.as_ref();
        let Some(member) = map.get(name) else { continue };
        let meta = path.is_root() && matches!(name, "apiVersion" | "kind");
        let old = old.filter(|_| !meta).and_then(|o| o.get(name));
        outcome.merge(ratcheted(&property.schema, member, old, &path.member(name)));
    }
    required(schema, map, path, &mut outcome);
    outcome
}

fn required(schema: &Structural, map: &Map<String, Value>, path: &Path<'_>, outcome: &mut Outcome) {
    for rule in &schema.rules {
        let Rule::Required(names) = rule else { continue };
        let missing = |name: &&Arc<str>| !map.contains_key(name.as_ref());
        for name in names.iter().filter(missing) {
            outcome.add(Problem::missing(&path.member(name)));
        }
    }
}

fn composites(schema: &Structural, value: &Value, old: Option<&Value>, path: &Path<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let run = |schema: &Structural| validate(schema, value, old, path);
    let find = |pick: fn(&Rule) -> Option<&[Structural]>| schema.rules.iter().find_map(pick);
    if let Some(list) = find(|r| match r {
        Rule::AnyOf(list) if !list.is_empty() => Some(list),
        _ => None,
    }) {
        any_of(list.iter().map(run), path, &mut outcome);
    }
    if let Some(list) = find(|r| match r {
        Rule::OneOf(list) if !list.is_empty() => Some(list),
        _ => None,
    }) {
        one_of(list.iter().map(run), path, &mut outcome);
    }
    if let Some(list) = find(|r| match r {
        Rule::AllOf(list) if !list.is_empty() => Some(list),
        _ => None,
    }) {
        let mut valid = 0;
        for result in list.iter().map(run) {
            valid += usize::from(result.is_valid());
            outcome.merge(result);
        }
        if valid != list.len() {
            let more = if valid == 0 { ". None validated" } else { "" };
            outcome.add(Problem::composite(format!(
                "{path:?} must validate all the schemas (allOf){more}"
            )));
        }
    }
    for rule in &schema.rules {
        if let Rule::Not(inner) = rule
            && run(inner).is_valid()
        {
            outcome.add(Problem::composite(format!(
                "{path:?} must not validate the schema (not)"
            )));
        }
    }
    outcome.count();
    outcome
}

/// Of failures, those of the alternative with the most positive checks are told.
fn better(best: &mut Option<Outcome>, result: Outcome) {
    if best.as_ref().is_none_or(|b| result.matches > b.matches) {
        *best = Some(result);
    }
}

fn any_of(results: impl Iterator<Item = Outcome>, path: &Path<'_>, outcome: &mut Outcome) {
    let mut best = None;
    for result in results {
        if result.is_valid() {
            outcome.merge(result);
            return;
        }
        better(&mut best, result);
    }
    outcome.add(Problem::composite(format!(
        "{path:?} must validate at least one schema (anyOf)"
    )));
    if let Some(best) = best {
        outcome.merge(best);
    }
}

fn one_of(results: impl Iterator<Item = Outcome>, path: &Path<'_>, outcome: &mut Outcome) {
    let mut best = None;
    let mut valid: Vec<Outcome> = Vec::new();
    for result in results {
        if result.is_valid() {
            valid.push(result);
        } else if valid.is_empty() {
            better(&mut best, result);
        }
    }
    let found = valid.len();
    if let (1, Some(result)) = (found, valid.pop()) {
        outcome.merge(result);
        return;
    }
    let more = match found {
        0 => "Found none valid".to_owned(),
        many => format!("Found {many} valid alternatives"),
    };
    outcome.add(Problem::composite(format!(
        "{path:?} must validate one and only one schema (oneOf). {more}"
    )));
    if let Some(best) = best.filter(|_| found == 0) {
        outcome.merge(best);
    }
}
