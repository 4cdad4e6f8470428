//! Running the rules over an instance.

use super::compile::{Compiled, Rule};
use crate::{metrics::expressions, strategy::Causes};
use serde_json::Value as Json;
use std::{cell::OnceCell, sync::Arc, time::Instant};
use strata_cel::{Bindings, DeclType, ErrorKind, EvalError, Program, Value, limits};
use strata_meta::StatusCause;
use strata_schema::structural::{Flags, Kind, Path, Shown, Structural, Validation};

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
        told: 0,
        causes,
    };
    let place = Place {
        path: Path::ROOT,
        old,
        compared: old.map(|old| Compared::new(new, old)),
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
                told: 0,
                causes: &mut causes,
            };
            let place = Place {
                path: Path::ROOT,
                old,
                compared: None,
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
    /// Bytes of the causes so far.
    told: usize,
    causes: &'c mut Causes,
}

/// Most text of the causes of one object, in bytes. A rule may have a long message and fail for every item of a list.
const MAX_TOLD: usize = 1 << 20;

/// A value and what it was, compared at most once.
struct Compared<'v> {
    now: &'v Json,
    before: &'v Json,
    same: OnceCell<bool>,
}

impl<'v> Compared<'v> {
    fn new(now: &'v Json, before: &'v Json) -> Self {
        let same = OnceCell::new();
        Self { now, before, same }
    }

    fn same(&self) -> bool {
        *self.same.get_or_init(|| self.now == self.before)
    }
}

/// Where the walk is.
struct Place<'v> {
    path: Path<'v>,
    /// What `oldSelf` is.
    old: Option<&'v Json>,
    /// This very place and its old value, where that can be told.
    compared: Option<Compared<'v>>,
    /// The nearest place around where it can.
    around: Option<&'v Compared<'v>>,
}

impl<'v> Place<'v> {
    fn within(&'v self, path: Path<'v>, new: &'v Json, old: Option<&'v Json>) -> Self {
        let correlated = self.compared.as_ref().and(old);
        Self {
            path,
            old,
            compared: correlated.map(|old| Compared::new(new, old)),
            around: self.compared.as_ref().or(self.around),
        }
    }

    /// Whether nothing here has changed.
    fn unchanged(&self) -> bool {
        self.compared.as_ref().or(self.around).is_some_and(Compared::same)
    }

    fn field(&self) -> String {
        if self.path.is_root() {
            "<nil>".to_owned()
        } else {
            self.path.to_string()
        }
    }
}

impl Run<'_> {
    fn walk(&mut self, compiled: &Compiled, schema: &Structural, new: &Json, place: &Place<'_>) {
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
                let before = schema.old_items(place.old);
                for (at, item) in items.iter().enumerate() {
                    let path = place.path.item(at);
                    self.walk(compiled, below, item, &place.within(path, item, before.find(item)));
                }
            }
            Json::Object(map) => {
                for (name, member) in map {
                    let old = place.old.and_then(|old| old.get(name));
                    // They are in the order of their names, as those of the schema are.
                    let named = compiled.properties.binary_search_by(|(known, _)| (**known).cmp(name));
                    if let (Ok(at), Some(below)) = (named, schema.property(name)) {
                        let path = place.path.member(name);
                        let compiled = &compiled.properties[at].1;
                        self.walk(compiled, below, member, &place.within(path, member, old));
                    } else if let (Some(compiled), Some(below), None) =
                        (&compiled.additional, schema.others(), schema.property(name))
                    {
                        let path = place.path.key(name);
                        self.walk(compiled, below, member, &place.within(path, member, old));
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
                let unchanged = !rule.uses_old && place.unchanged();
                if !self.over {
                    let detail = detail.unwrap_or_else(|| said(stated));
                    let mut cause = cause(stated, schema, new, place, &detail);
                    if unchanged {
                        cause.reason = crate::strategy::LET_PASS.into();
                    }
                    self.tell(cause, place);
                }
            }
        }
    }

    /// Says what is wrong. Of more than can be told the rest is not, and nothing more is run once the object is refused.
    fn tell(&mut self, cause: StatusCause, place: &Place<'_>) {
        let let_pass = cause.reason == crate::strategy::LET_PASS;
        self.told += cause.message.len() + cause.field.len();
        if self.told <= MAX_TOLD {
            self.causes.push(cause);
        } else if !let_pass {
            let field = place.path.to_string();
            self.causes
                .push(StatusCause::invalid(&field, "", "too many problems to tell them all"));
            self.over = true;
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
        self.tell(StatusCause::invalid(&place.field(), kind, why), place);
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
        Some(below) if !below.is_empty() => place.path.member(&below).to_string(),
        _ => place.field(),
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
