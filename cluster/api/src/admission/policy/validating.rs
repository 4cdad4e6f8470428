//! ValidatingAdmissionPolicy.

use super::{Binding, Policy, Seen, Validation, is_exempt, params};
use crate::admission::{
    Request,
    asked::answered,
    expressions::{Budget, Failure, Inputs, OUT_OF_BUDGET},
};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use strata_cel::limits::{MAX_MESSAGE_EXPRESSION_BYTES, RUNTIME_COST_BUDGET};
use strata_meta::{Reason, Status, StatusCause};

/// Longest value of an audit annotation.
const MAX_ANNOTATION: usize = 10 * 1024;

/// A rule that does not let a request pass.
struct Refusal {
    /// The rule's place among the policy's.
    index: usize,
    message: String,
    reason: String,
    /// How long it took to find out.
    took: Duration,
}

impl Refusal {
    /// Of a policy that could not be evaluated at all.
    fn whole(message: String) -> Self {
        Self {
            index: 0,
            message,
            reason: String::new(),
            took: Duration::ZERO,
        }
    }
}

/// How upstream's metrics name what is behind a refusal.
pub(super) fn error_type(message: &str) -> &'static str {
    if message.starts_with("compilation") {
        "compile_error"
    } else if message.starts_with(OUT_OF_BUDGET_PREFIX) {
        "out_of_budget"
    } else {
        "invalid_error"
    }
}

const OUT_OF_BUDGET_PREFIX: &str = "validation failed due to running out of cost budget";

/// Why the request as a whole is refused: by whom, and what is said.
struct Denial {
    by: String,
    message: String,
    reason: String,
}

/// Asks every policy that is bound. Errors: the first denial.
pub(in crate::admission) fn validate<'a>(
    request: &'a Request<'a>,
    new: Option<&'a Value>,
    old: Option<&'a Value>,
) -> BoxFuture<'a, Result<(), Status>> {
    Box::pin(validate_all(request, new, old))
}

async fn validate_all(request: &Request<'_>, new: Option<&Value>, old: Option<&Value>) -> Result<(), Status> {
    let bound = request.core.configured.validating_policies.bound();
    if bound.is_empty() || is_exempt(request) {
        return Ok(());
    }
    let mut denials = Vec::new();
    for (policy, bindings) in bound.iter() {
        let form = match policy.matcher.form(request, new, old) {
            Ok(Some(form)) => form,
            Ok(None) => continue,
            Err(status) => {
                unconfigured(policy, None, &status.message, &mut denials);
                continue;
            }
        };
        let mut seen = None;
        let mut notes: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for binding in bindings {
            let applies = match &binding.matcher {
                None => Ok(true),
                Some(matcher) => matcher.form(request, new, old).map(|form| form.is_some()),
            };
            match applies {
                Ok(true) => {}
                Ok(false) => continue,
                Err(status) => {
                    unconfigured(policy, Some(binding), &status.message, &mut denials);
                    continue;
                }
            }
            let params = match params::collect(request, policy, binding).await {
                Ok(params) => params,
                Err(why) => {
                    unconfigured(policy, Some(binding), &why, &mut denials);
                    continue;
                }
            };
            // Converted once, and only when somebody looks.
            if seen.is_none() && !params.is_empty() {
                match Seen::new(request, &form, new, old).await {
                    Ok(fresh) => seen = Some(fresh),
                    Err(status) if status.is_not_found() => return Err(status),
                    Err(status) => {
                        let why = format!("failed to convert object version: {}", status.message);
                        unconfigured(policy, Some(binding), &why, &mut denials);
                        continue;
                    }
                }
            }
            if let Some(seen) = &seen {
                for param in &params {
                    ask(request, policy, binding, (seen, param), &mut notes, &mut denials).await;
                }
            }
        }
        for (key, values) in notes {
            request.annotate(format!("{}/{key}", policy.name), values.join(", "));
        }
    }
    denials
        .into_iter()
        .next()
        .map_or(Ok(()), |first| Err(refused(request, new, &first)))
}

fn unconfigured(policy: &Policy, binding: Option<&Binding>, why: &str, denials: &mut Vec<Denial>) {
    if policy.ignores_failure {
        return;
    }
    let what = if binding.is_some() { "binding" } else { "policy" };
    denials.push(Denial {
        by: by(policy, binding),
        message: format!("failed to configure {what}: {why}"),
        reason: String::new(),
    });
}

fn by(policy: &Policy, binding: Option<&Binding>) -> String {
    match binding {
        Some(binding) => format!(
            "ValidatingAdmissionPolicy '{}' with binding '{}'",
            policy.name, binding.name
        ),
        None => format!("ValidatingAdmissionPolicy '{}'", policy.name),
    }
}

fn refused(request: &Request<'_>, new: Option<&Value>, denial: &Denial) -> Status {
    let message = format!("{} denied request: {}", denial.by, denial.message);
    let mut status = request.forbidden_object(new, &message);
    let reason = match denial.reason.as_str() {
        "" => "Invalid",
        reason => reason,
    };
    status.reason = Reason::parse(reason);
    status.code = match reason {
        "Forbidden" => 403,
        "Unauthorized" => 401,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    };
    if let Some(details) = &mut status.details {
        details.causes.push(StatusCause {
            reason: String::new(),
            message,
            field: String::new(),
        });
    }
    status
}

/// One policy with one parameter: what it refuses is denied, noted or warned about as the binding says.
async fn ask(
    request: &Request<'_>,
    policy: &Policy,
    binding: &Binding,
    (seen, param): (&Seen, &Value),
    notes: &mut BTreeMap<String, Vec<String>>,
    denials: &mut Vec<Denial>,
) {
    let metrics = &request.core.metrics.admission;
    let count = |action: &str, message: &str, took: Duration| {
        let names = (policy.name.as_str(), binding.name.as_str());
        metrics.validated(names, error_type(message), action, took);
    };
    let concerned = seen.concerns(request, policy, param, "validate").await;
    let found = match concerned {
        Ok(false) => return,
        Err(why) => Err(why),
        Ok(true) => {
            let evaluated = answered(request, || {
                let mut findings = Findings {
                    notes: notes.clone(),
                    ..Findings::default()
                };
                let outcome = evaluate(request, policy, (seen, param), &mut findings);
                (outcome, findings)
            });
            let (outcome, findings) = evaluated.await;
            *notes = findings.notes;
            for (message, took) in findings.failed {
                count("deny", &message, took);
                denials.push(Denial {
                    by: by(policy, Some(binding)),
                    message,
                    reason: String::new(),
                });
            }
            for (message, took) in findings.ignored {
                count("allow", &message, took);
            }
            outcome.map(|()| findings.refusals)
        }
    };
    let refusals = match found {
        Ok(refusals) => refusals,
        Err(message) if policy.ignores_failure => return count("allow", &message, Duration::ZERO),
        Err(message) => vec![Refusal::whole(message)],
    };
    for refusal in refusals {
        for action in &binding.actions {
            count(&action.to_lowercase(), &refusal.message, refusal.took);
            match action.as_str() {
                "Deny" => denials.push(Denial {
                    by: by(policy, Some(binding)),
                    message: refusal.message.clone(),
                    reason: refusal.reason.clone(),
                }),
                "Audit" => {
                    let note = json!([{"message": refusal.message, "policy": policy.name, "binding": binding.name,
                        "expressionIndex": refusal.index, "validationActions": binding.actions}]);
                    request.annotate(
                        "validation.policy.admission.k8s.io/validation_failure",
                        note.to_string(),
                    );
                }
                _ => request.warn(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                    policy.name, binding.name, refusal.message
                )),
            }
        }
    }
}

/// What came of a policy.
#[derive(Default)]
struct Findings {
    refusals: Vec<Refusal>,
    notes: BTreeMap<String, Vec<String>>,
    /// Annotations that failed, and how long they took.
    failed: Vec<(String, Duration)>,
    /// Failures that are passed over.
    ignored: Vec<(String, Duration)>,
}

/// What a policy refuses. Errors: what kept it from being evaluated at all.
fn evaluate(
    request: &Request<'_>,
    policy: &Policy,
    (seen, param): (&Seen, &Value),
    findings: &mut Findings,
) -> Result<(), String> {
    let inputs = seen.inputs(request, policy, param);
    let budget = Budget::new(RUNTIME_COST_BUDGET);
    let mut results = Vec::new();
    for validation in &policy.validations {
        let started = Instant::now();
        let outcome = match inputs.run(&validation.expression, &budget) {
            Ok(value) => Ok(value.as_bool() == Some(true)),
            Err(Failure::Failed(why)) => Err(why),
            Err(Failure::Budget) => return Err(OUT_OF_BUDGET.to_owned()),
        };
        results.push((validation, outcome, started.elapsed()));
    }
    for (index, (validation, outcome, took)) in results.into_iter().enumerate() {
        let mut refuse = |index: usize, message: String, reason: &str| {
            findings.refusals.push(Refusal {
                index,
                message,
                reason: reason.to_owned(),
                took,
            });
        };
        match outcome {
            Ok(true) => {}
            Ok(false) => {
                let reason = match validation.reason.as_str() {
                    "" => "Invalid",
                    reason => reason,
                };
                match message(&inputs, validation, &budget) {
                    Ok(message) => refuse(index, message, reason),
                    Err(why) if !policy.ignores_failure => refuse(index, why, ""),
                    Err(why) => findings.ignored.push((why, took)),
                }
            }
            Err(why) if !policy.ignores_failure => refuse(index, why, ""),
            Err(why) => findings.ignored.push((why, took)),
        }
    }
    annotate(&inputs, policy, findings)
}

/// What is said about a rule that does not hold. Errors: there is no budget left to say it.
fn message<'a>(inputs: &Inputs<'a>, validation: &'a Validation, budget: &Budget) -> Result<String, String> {
    let computed = match &validation.message_expression {
        None => None,
        Some(expression) => match inputs.run(expression, budget) {
            Ok(value) => value.as_str().map(|text| text.trim().to_owned()),
            Err(Failure::Failed(why)) => {
                tracing::debug!(why, "a message expression failed");
                None
            }
            Err(Failure::Budget) => return Err(format!("failed messageExpression: {OUT_OF_BUDGET}")),
        },
    };
    let fits = |text: &String| !text.is_empty() && text.len() <= MAX_MESSAGE_EXPRESSION_BYTES && !text.contains('\n');
    if let Some(text) = computed.filter(fits) {
        return Ok(text);
    }
    Ok(match validation.message.trim() {
        "" => format!("failed expression: {}", validation.expression.source.trim()),
        message => message.to_owned(),
    })
}

fn annotate<'a>(inputs: &Inputs<'a>, policy: &'a Policy, findings: &mut Findings) -> Result<(), String> {
    let budget = Budget::new(RUNTIME_COST_BUDGET);
    for (key, expression) in &policy.annotations {
        let started = Instant::now();
        match inputs.run(expression, &budget) {
            Ok(value) => {
                let text = value.as_str().unwrap_or("").trim();
                let mut end = text.len().min(MAX_ANNOTATION);
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                let values = findings.notes.entry(key.clone()).or_default();
                if !text.is_empty() && !values.iter().any(|v| v == &text[..end]) {
                    values.push(text[..end].to_owned());
                }
            }
            Err(Failure::Failed(_)) if policy.ignores_failure => {}
            Err(Failure::Failed(why)) => findings.failed.push((why, started.elapsed())),
            Err(Failure::Budget) => return Err(OUT_OF_BUDGET.to_owned()),
        }
    }
    findings.notes.retain(|_, values| !values.is_empty());
    Ok(())
}
