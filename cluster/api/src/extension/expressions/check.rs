//! Whether the rules of a definition are right, and what they cost.

use super::compile::{Compiler, declaration, fitting};
use crate::{
    extension::definitions::{MAX_PATTERNS, TOO_MANY_PATTERNS, below, follow, internal},
    json,
    strategy::Causes,
};
use serde_json::Value;
use std::cell::LazyCell;
use strata_cel::limits;
use strata_meta::StatusCause;
use strata_schema::structural::{Shown, Structural};

const REASONS: &[&str] = &[
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];

/// The most expensive rules are named when all together cost too much.
const NAMED: usize = 4;
/// But none that costs less than this part of what all may.
const WORTH_NAMING: u64 = limits::STATIC_ESTIMATED_CRD_COST_LIMIT / 100;

/// What all rules of a schema cost together.
#[derive(Default)]
struct Total {
    cost: u64,
    /// How large the regular expressions of the definition are.
    patterns: u64,
    most: Vec<(u64, String)>,
}

impl Total {
    fn add(&mut self, path: String, cost: u64) {
        self.cost = self.cost.saturating_add(cost);
        if cost >= WORTH_NAMING {
            self.most.push((cost, path));
            self.most.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
            self.most.truncate(NAMED);
        }
    }
}

/// Where a rule stands.
#[derive(Clone)]
struct Place {
    path: String,
    /// Whether the object there is a whole resource.
    resource: bool,
    /// How many values there may be of this place; `None` if nothing bounds them.
    times: Option<u64>,
    /// The list around whose items have no old values.
    no_old: Option<String>,
}

/// Problems of the rules of a schema and of all below it. `unchanged` is whether the schema is as it was, `patterns`
/// how large the regular expressions of the definition are so far.
pub(in crate::extension) fn check_rules(
    schema: &Value,
    path: &str,
    unchanged: bool,
    patterns: &mut u64,
    causes: &mut Causes,
) {
    let place = Place {
        path: path.to_owned(),
        resource: true,
        times: Some(1),
        no_old: None,
    };
    let known = causes.len();
    forms(schema, path, causes);
    if causes.len() > known {
        return;
    }
    let mut total = Total {
        patterns: *patterns,
        ..Total::default()
    };
    walk(schema, &place, unchanged, &mut total, causes);
    *patterns = total.patterns;
    if total.patterns > MAX_PATTERNS && !unchanged {
        causes.push(StatusCause::forbidden(path, TOO_MANY_PATTERNS));
    }
    if total.cost > limits::STATIC_ESTIMATED_CRD_COST_LIMIT {
        for (_, path) in &total.most {
            let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            causes.push(StatusCause::forbidden(path, why));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        let why = too_expensive(what, total.cost, limits::STATIC_ESTIMATED_CRD_COST_LIMIT);
        causes.push(StatusCause::forbidden(path, &why));
    }
}

fn forms(schema: &Value, path: &str, causes: &mut Causes) {
    let structural = LazyCell::new(|| Structural::parse(schema));
    for (at, rule) in json::list(schema, "x-kubernetes-validations").iter().enumerate() {
        let path = format!("{path}.x-kubernetes-validations[{at}]");
        form(rule, &|place| normal_path(&structural, place).is_some(), &path, causes);
    }
    for (step, below) in below(schema) {
        forms(below, &format!("{path}{step}"), causes);
    }
}

fn walk(schema: &Value, place: &Place, unchanged: bool, total: &mut Total, causes: &mut Causes) {
    if json::get(schema, "x-kubernetes-validations").is_some() {
        rules(schema, place, unchanged, total, causes);
    }
    let most = |name: &str| json::int(schema, name).map(|n| u64::try_from(n).unwrap_or(0));
    for (name, property) in json::members(schema, "properties") {
        let place = Place {
            path: format!("{}.properties[{name}]", place.path),
            resource: false,
            ..place.clone()
        };
        walk(property, &place, unchanged, total, causes);
    }
    for (name, bound) in [("items", "maxItems"), ("additionalProperties", "maxProperties")] {
        let Some(below) = schema.get(name).filter(|b| b.is_object()) else {
            continue;
        };
        let known = json::text(schema, "x-kubernetes-list-type") == "map" || name != "items";
        let place = Place {
            path: format!("{}.{name}", place.path),
            resource: false,
            times: place
                .times
                .zip(most(bound))
                .map(|(times, most)| times.saturating_mul(most)),
            no_old: place.no_old.clone().or_else(|| (!known).then(|| place.path.clone())),
        };
        walk(below, &place, unchanged, total, causes);
    }
}

/// Compiles the rules of one place and says what is wrong with them.
fn rules(schema: &Value, place: &Place, unchanged: bool, total: &mut Total, causes: &mut Causes) {
    let structural = Structural::parse(schema);
    let resource = place.resource || json::flag(schema, "x-kubernetes-embedded-resource");
    let Some(decl) = declaration(&structural, resource) else {
        let why = "Internal error: internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations";
        causes.push(StatusCause {
            reason: "InternalError".into(),
            message: why.into(),
            field: format!("{}.x-kubernetes-validations", place.path),
        });
        return;
    };
    let times = place.times.unwrap_or_else(|| fitting(&decl));
    let compiler = Compiler::new(Some(&decl));
    for (at, rule) in structural.validations().iter().enumerate() {
        let here = |name: &str| format!("{}.x-kubernetes-validations[{at}].{name}", place.path);
        // What is refused need not be compiled to the end.
        if total.patterns > MAX_PATTERNS && !unchanged {
            return;
        }
        let compiled = compiler.compile(rule);
        total.patterns = total.patterns.saturating_add(compiled.pattern_weight());
        let stated = json::list(schema, "x-kubernetes-validations").get(at);
        let shown = Bare(stated.map_or_else(String::new, internal::rule));
        let mut costs = |name: &str, what: &str, limited: u64, counted: u64, causes: &mut Causes| {
            if !unchanged && limited > limits::STATIC_ESTIMATED_COST_LIMIT {
                let why = too_expensive(what, limited, limits::STATIC_ESTIMATED_COST_LIMIT);
                causes.push(StatusCause::forbidden(&here(name), &why));
            }
            total.add(here(name), counted);
        };
        let cost = compiled.cost.saturating_mul(times);
        costs("rule", "estimated rule cost", cost, cost, causes);
        if let Err(why) = &compiled.program {
            causes.push(StatusCause::invalid(&here("rule"), &shown, why));
        }
        match &compiled.message {
            Err(why) => causes.push(StatusCause::invalid(&here("messageExpression"), &shown, why)),
            Ok(Some((_, cost))) => costs(
                "messageExpression",
                "estimated messageExpression cost",
                *cost,
                *cost,
                causes,
            ),
            Ok(None) => {}
        }
        let optional = stated.and_then(|v| v.get("optionalOldSelf")).filter(|v| !v.is_null());
        match (compiled.uses_old, &place.no_old, optional) {
            (true, Some(list), _) => {
                let why = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {list}");
                causes.push(StatusCause::invalid(&here("rule"), &rule.rule, why));
            }
            (false, _, Some(value)) => {
                let why = "may not be set if oldSelf is not used in rule";
                causes.push(StatusCause::invalid(&here("optionalOldSelf"), Shown(value), why));
            }
            _ => {}
        }
    }
}

/// Text that is printed as it stands.
struct Bare(String);

impl std::fmt::Debug for Bare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn too_expensive(what: &str, cost: u64, limit: u64) -> String {
    let times = cost as f64 / limit as f64;
    let factor = if times > 100.0 {
        "more than 100x".to_owned()
    } else if times < 1.5 {
        format!("{times:.6}x")
    } else {
        format!("{times:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

/// The place a rule's fieldPath names, as field paths are written; `None` if there is none such.
pub(super) fn normal_path(schema: &Structural, path: &str) -> Option<String> {
    follow(schema, path, true).ok().map(|place| place.path)
}

/// What can be said of a rule without compiling it.
fn form(rule: &Value, leads: &dyn Fn(&str) -> bool, path: &str, causes: &mut Causes) {
    let text = |name: &str| json::text(rule, name);
    let breaks = |text: &str| text.contains(['\n', '\r']);
    let at = |name: &str| format!("{path}.{name}");
    let (expression, message) = (text("rule").trim(), text("message").trim());
    if expression.is_empty() {
        causes.push(StatusCause::required(&at("rule"), "rule is not specified"));
    } else if !text("message").is_empty() && message.is_empty() {
        causes.push(StatusCause::invalid(
            &at("message"),
            text("message"),
            "must be non-empty if specified",
        ));
    } else if breaks(message) {
        causes.push(StatusCause::invalid(
            &at("message"),
            text("message"),
            "must not contain line breaks",
        ));
    } else if breaks(expression) && message.is_empty() {
        let why = "message must be specified if rule contains line breaks";
        causes.push(StatusCause::required(&at("message"), why));
    }
    if !text("messageExpression").is_empty() && text("messageExpression").trim().is_empty() {
        let why = "messageExpression must be non-empty if specified";
        causes.push(StatusCause::required(&at("messageExpression"), why));
    }
    let reason = text("reason");
    if json::get(rule, "reason").is_some() && !REASONS.contains(&reason) {
        causes.push(StatusCause::not_supported(&at("reason"), reason, REASONS));
    }
    let place = text("fieldPath");
    if !place.is_empty() && place.trim().is_empty() {
        causes.push(StatusCause::invalid(
            &at("fieldPath"),
            place,
            "must be non-empty if specified",
        ));
    }
    if breaks(place) {
        causes.push(StatusCause::invalid(
            &at("fieldPath"),
            place,
            "must not contain line breaks",
        ));
    }
    if !place.is_empty() && !leads(place) {
        causes.push(StatusCause::invalid(&at("fieldPath"), place, "must be a valid path"));
    }
}
