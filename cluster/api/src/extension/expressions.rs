//! Expressions of schemas (`x-kubernetes-validations`).

use crate::{json, strategy::Causes};
use serde_json::Value;
use strata_meta::StatusCause;

const REASONS: &[&str] = &[
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];

/// Problems of the rules of a schema and of all below it.
pub(super) fn check_rules(schema: &Value, path: &str, unchanged: bool, causes: &mut Causes) {
    for (at, rule) in json::list(schema, "x-kubernetes-validations").iter().enumerate() {
        form(rule, &format!("{path}.x-kubernetes-validations[{at}]"), causes);
    }
    for (step, below) in super::definitions::below(schema) {
        check_rules(below, &format!("{path}{step}"), unchanged, causes);
    }
}

/// What can be said of a rule without compiling it.
fn form(rule: &Value, path: &str, causes: &mut Causes) {
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
    if !reason.is_empty() && !REASONS.contains(&reason) {
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
}
