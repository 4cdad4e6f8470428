//! Running the rules over an instance.

use super::compile::{Compiled, Rule};
use crate::{metrics::expressions, strategy::Causes};
use serde_json::Value as Json;
use std::{sync::Arc, time::Instant};
use strata_cel::{Bindings, DeclType, ErrorKind, EvalError, Program, Value, limits};
use strata_meta::StatusCause;
use strata_schema::structural::{Flags, Kind, Shown, Structural, Validation};

/// Checks an instance, new or changed. What was wrong before and has not changed is let pass with a warning.
pub(in crate::extension) fn evaluate(
    compiled: &Compiled,
    schema: &Structural,
    new: &Json,
    old: Option<&Json>,
    causes: &mut Causes,
) {
    let mut run = Run {
        budget: limits::RUNTIME_COST_BUDGET,
        over: false,
        causes,
    };
    let place = Place {
        path: String::new(),
        old,
        correlated: old,
        around: None,
    };
    run.walk(compiled, schema, new, &place);
}

/// Problems of a default: it must fit where it is new and where it stays.
pub(in crate::extension) fn check_default(schema: &Arc<Structural>, default: &Json) -> Causes {
    let mut causes = Causes::new();
    if !schema.is(Flags::EXPRESSIONS) {
        return causes;
    }
    let compiled = Compiled::of_part(schema);
    for old in [Some(default), None] {
        if causes.is_empty() {
            let mut run = Run {
                budget: limits::RUNTIME_COST_BUDGET,
                over: false,
                causes: &mut causes,
            };
            let place = Place {
                path: String::new(),
                old,
                correlated: None,
                around: None,
            };
            run.walk(&compiled, schema, default, &place);
        }
    }
    causes
}

struct Run<'c> {
    budget: u64,
    /// Nothing is run any more.
    over: bool,
    causes: &'c mut Causes,
}

/// Where the walk is.
struct Place<'v> {
    path: String,
    /// What `oldSelf` is.
    old: Option<&'v Json>,
    /// The old value of this very place, where that can be told.
    correlated: Option<&'v Json>,
    /// The nearest place around that can: now and before.
    around: Option<(&'v Json, &'v Json)>,
}

impl<'v> Place<'v> {
    fn within(&self, path: String, here: &'v Json, old: Option<&'v Json>) -> Self {
        Self {
            path,
            old,
            correlated: self.correlated.and(old),
            around: match self.correlated {
                Some(before) => Some((here, before)),
                None => self.around,
            },
        }
    }

    /// Whether nothing here has changed.
    fn unchanged(&self, new: &Json) -> bool {
        match (self.correlated, self.around) {
            (Some(old), _) => old == new,
            (None, Some((now, before))) => now == before,
            (None, None) => false,
        }
    }

    fn field(&self) -> &str {
        if self.path.is_empty() { "<nil>" } else { &self.path }
    }
}

impl Run<'_> {
    fn walk<'v>(&mut self, compiled: &Compiled, schema: &Structural, new: &'v Json, place: &Place<'v>) {
        if new.is_null() || self.over {
            return;
        }
        if !compiled.rules.is_empty() {
            let started = Instant::now();
            self.rules(compiled, schema, new, place);
            expressions::evaluated(started);
        }
        match new {
            Json::Array(items) => {
                let (Some(compiled), Some(below)) = (&compiled.items, &schema.items) else {
                    return;
                };
                let before = place.old.and_then(Json::as_array);
                for (at, item) in items.iter().enumerate() {
                    let same = |old: &&'v Json| schema.same_item(old, item);
                    let old = before.and_then(|list| list.iter().find(same));
                    let path = format!("{}[{at}]", place.path);
                    self.walk(compiled, below, item, &place.within(path, new, old));
                }
            }
            Json::Object(map) => {
                for (name, member) in map {
                    let old = place.old.and_then(|old| old.get(name));
                    let named = compiled.properties.iter().find(|(known, _)| **known == **name);
                    if let (Some((_, compiled)), Some(below)) = (named, schema.property(name)) {
                        let path = join(&place.path, name);
                        self.walk(compiled, below, member, &place.within(path, new, old));
                    } else if let (Some(compiled), Some(below), None) =
                        (&compiled.additional, schema.others(), schema.property(name))
                    {
                        let path = format!("{}[{name}]", place.path);
                        self.walk(compiled, below, member, &place.within(path, new, old));
                    }
                }
            }
            _ => {}
        }
    }

    fn rules(&mut self, compiled: &Compiled, schema: &Structural, new: &Json, place: &Place<'_>) {
        for rule in &compiled.rules {
            if self.over {
                return;
            }
            if self.budget == 0 {
                return self.exhausted(schema, place);
            }
            match (&rule.program, &compiled.decl) {
                (Ok(program), Some(decl)) => self.rule(rule, program, decl, schema, new, place),
                (Err(why), _) => self.invalid(schema, place, &format!("rule compile error: {why}")),
                (Ok(_), None) => {}
            }
        }
    }

    fn rule(
        &mut self,
        rule: &Rule,
        program: &Program,
        decl: &DeclType,
        schema: &Structural,
        new: &Json,
        place: &Place<'_>,
    ) {
        let stated = &rule.stated;
        let old = place.old.filter(|old| !old.is_null());
        if rule.uses_old && old.is_none() && !stated.optional_old_self {
            return;
        }
        let variables = match bindings(decl, new, old, stated.optional_old_self) {
            Ok(variables) => variables,
            Err(error) => return self.failed(&error, stated, schema, place),
        };
        let outcome = program.eval(&variables, limits::PER_CALL_LIMIT);
        if !self.pay(outcome.cost) {
            return self.exhausted(schema, place);
        }
        match outcome.result {
            Err(error) => self.failed(&error, stated, schema, place),
            Ok(value) if value.as_bool() == Some(true) => {}
            Ok(_) => {
                let detail = match &rule.message {
                    Some(program) => self.message(program, &variables, schema, place),
                    None => None,
                };
                let unchanged = !rule.uses_old && place.unchanged(new);
                if !self.over {
                    let detail = detail.unwrap_or_else(|| said(stated));
                    let mut cause = cause(stated, schema, new, place, &detail);
                    if unchanged {
                        cause.reason = crate::strategy::LET_PASS.into();
                    }
                    self.causes.push(cause);
                }
            }
        }
    }

    /// Takes cost from what is left; whether there was enough.
    fn pay(&mut self, cost: u64) -> bool {
        match self.budget.checked_sub(cost) {
            Some(left) => {
                self.budget = left;
                true
            }
            None => false,
        }
    }

    fn message<'a>(
        &mut self,
        program: &'a Program,
        variables: &Bindings<'a>,
        schema: &Structural,
        place: &Place<'_>,
    ) -> Option<String> {
        let outcome = program.eval(variables, limits::PER_CALL_LIMIT);
        if !self.pay(outcome.cost) {
            let why = "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run";
            self.invalid(schema, place, why);
            self.over = true;
            return None;
        }
        let value = outcome.result.ok()?;
        let text = value.as_str()?.trim();
        let fits = !text.is_empty() && text.len() <= limits::MAX_MESSAGE_EXPRESSION_BYTES && !text.contains('\n');
        fits.then(|| text.to_owned())
    }

    fn failed(&mut self, error: &EvalError, rule: &Validation, schema: &Structural, place: &Place<'_>) {
        let shown = rule_text(rule);
        let why = match error.kind {
            ErrorKind::CostLimit => {
                self.over = true;
                format!(
                    "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {shown}"
                )
            }
            _ if error.message.starts_with("no such overload") => format!(
                "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {shown}"
            ),
            _ => format!("{error} evaluating rule: {shown}"),
        };
        self.invalid(schema, place, &why);
    }

    fn exhausted(&mut self, schema: &Structural, place: &Place<'_>) {
        let why = "validation failed due to running out of cost budget, no further validation rules will be run";
        self.invalid(schema, place, why);
        self.over = true;
    }

    /// What is wrong with the rule rather than the value.
    fn invalid(&mut self, schema: &Structural, place: &Place<'_>, why: &str) {
        let kind = if schema.is(Flags::INT_OR_STRING) {
            ""
        } else {
            schema.type_words()
        };
        self.causes.push(StatusCause::invalid(place.field(), kind, why));
    }
}

fn bindings<'a>(
    decl: &'a DeclType,
    new: &'a Json,
    old: Option<&'a Json>,
    optional: bool,
) -> Result<Bindings<'a>, EvalError> {
    let variables = Bindings::new().with("self", Value::declared(new, decl)?);
    let old = old.map(|old| Value::declared(old, decl)).transpose()?;
    Ok(match (old, optional) {
        (Some(old), true) => variables.with("oldSelf", Value::some(old)),
        (None, true) => variables.with("oldSelf", Value::Optional(None)),
        (Some(old), false) => variables.with("oldSelf", old),
        (None, false) => variables,
    })
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    }
}

fn rule_text(rule: &Validation) -> &str {
    match rule.message.as_str() {
        "" => rule.rule.trim(),
        message => message.trim(),
    }
}

fn said(rule: &Validation) -> String {
    match rule.message.as_str() {
        "" => format!("failed rule: {}", rule.rule.trim()),
        message => message.trim().to_owned(),
    }
}

fn cause(rule: &Validation, schema: &Structural, new: &Json, place: &Place<'_>, detail: &str) -> StatusCause {
    let below = super::check::normal_path(schema, &rule.field_path);
    let field = match below {
        Some(below) if !below.is_empty() => join(&place.path, &below),
        _ => place.field().to_owned(),
    };
    let composite = matches!(schema.kind, Kind::Object | Kind::Array);
    match rule.reason.as_str() {
        "FieldValueForbidden" => StatusCause::forbidden(&field, detail),
        "FieldValueRequired" => StatusCause::required(&field, detail),
        "FieldValueDuplicate" if composite => StatusCause {
            reason: "FieldValueDuplicate".into(),
            message: "Duplicate value".into(),
            field,
        },
        "FieldValueDuplicate" => StatusCause::duplicate(&field, Shown(new)),
        _ if composite => StatusCause {
            reason: "FieldValueInvalid".into(),
            message: format!("Invalid value: {detail}"),
            field,
        },
        _ => StatusCause::invalid(&field, Shown(new), detail),
    }
}
