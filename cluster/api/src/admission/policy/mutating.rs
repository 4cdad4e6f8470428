//! MutatingAdmissionPolicy.

use super::{Binding, Mutation, Policy, Seen, is_exempt, params, validating::error_type};
use crate::{
    admission::{
        Request, Round,
        asked::answered,
        expressions::{Budget, Expression, Failure, Inputs, OUT_OF_BUDGET},
        hooks::review,
        matching::Form,
    },
    json, jsonpatch,
    tracking::{self, Tracked},
};
use futures::future::BoxFuture;
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc, time::Instant};
use strata_cel::{Type, Value as Cel, limits::RUNTIME_COST_BUDGET};
use strata_meta::{Reason, Status, StatusCause, Time};
use strata_schema::apply::{self, Write};

/// What the policies of one request's rounds know of each other.
#[derive(Default)]
pub(in crate::admission) struct Memory {
    last: Option<Value>,
    invoked: BTreeSet<String>,
    invoked_again: BTreeSet<String>,
}

impl Memory {
    fn require(&mut self) {
        self.invoked_again.append(&mut self.invoked);
    }
}

/// One policy with one binding and one parameter.
struct Invocation {
    policy: Arc<Policy>,
    binding: Arc<Binding>,
    form: Form,
    param: Value,
}

impl Invocation {
    fn key(&self) -> String {
        let part = |path| json::text(&self.param, path);
        let param = (part("metadata.namespace"), part("metadata.name"));
        format!("{}|{}|{}/{}", self.policy.name, self.binding.name, param.0, param.1)
    }
}

struct Problem {
    by: String,
    message: String,
    /// Whether the policy was at least asked.
    asked: bool,
}

/// Lets every policy that is bound change the object, one after another.
pub(in crate::admission) fn mutate<'a>(
    request: &'a Request<'a>,
    round: &'a mut Round,
    new: Option<&'a mut Value>,
    old: Option<&'a Value>,
) -> BoxFuture<'a, Result<(), Status>> {
    Box::pin(async move {
        match new {
            Some(object) => mutate_object(request, round, object, old).await,
            None => Ok(()),
        }
    })
}

async fn mutate_object(
    request: &Request<'_>,
    round: &mut Round,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let bound = request.core.configured.mutating_policies.bound();
    if bound.is_empty() || is_exempt(request) {
        return Ok(());
    }
    if round.again && round.policies.last.as_ref() != Some(&*object) {
        round.policies.require();
    }
    let mut problems = Vec::new();
    for invocation in invocations(request, &bound, object, old, &mut problems).await {
        let key = invocation.key();
        let seen = Seen::new(request, &invocation.form, Some(object), old).await?;
        let policy = &invocation.policy;
        let problem = |message: String| Problem {
            by: by(policy, Some(&invocation.binding)),
            message,
            asked: true,
        };
        match seen.concerns(request, policy, &invocation.param, "admit").await {
            Ok(true) => {}
            Ok(false) => continue,
            Err(why) => {
                problems.push(problem(why));
                continue;
            }
        }
        if round.again && !round.policies.invoked_again.contains(&key) {
            continue;
        }
        let before = object.clone();
        for mutation in &policy.mutations {
            let started = Instant::now();
            let changed = change(request, &invocation, mutation, object, old).await;
            let error = changed.as_ref().map_or_else(|why| error_type(why), |_| "no_error");
            let names = (policy.name.as_str(), invocation.binding.name.as_str());
            let metrics = &request.core.metrics.admission;
            metrics.mutated(names, error, started.elapsed());
            match changed {
                Ok(changed) => *object = changed,
                Err(_) if policy.ignores_failure => {}
                Err(why) => problems.push(problem(why)),
            }
        }
        if before != *object {
            round.policies.require();
            round.wanted = true;
        }
        if policy.reinvoked {
            round.policies.invoked.insert(key);
        }
    }
    round.policies.last = Some(object.clone());
    match problems.as_slice() {
        [] => Ok(()),
        [first, ..] => Err(refused(request, object, first, &problems)),
    }
}

fn by(policy: &Policy, binding: Option<&Binding>) -> String {
    match binding {
        Some(binding) => format!("policy '{}' with binding '{}'", policy.name, binding.name),
        None => format!("policy {:?}", policy.name),
    }
}

fn refused(request: &Request<'_>, object: &Value, first: &Problem, all: &[Problem]) -> Status {
    let mut status = request.forbidden_object(Some(object), "admission request denied by policy");
    let shown = |p: &Problem| format!("{} denied request: {}", p.by, p.message);
    status.message = shown(first);
    if first.asked {
        status.reason = Reason::Invalid;
    }
    if let Some(details) = &mut status.details {
        details.causes.extend(all.iter().map(|p| StatusCause {
            reason: String::new(),
            message: shown(p),
            field: String::new(),
        }));
    }
    status
}

async fn invocations(
    request: &Request<'_>,
    bound: &[super::Bound],
    object: &Value,
    old: Option<&Value>,
    problems: &mut Vec<Problem>,
) -> Vec<Invocation> {
    let mut found = Vec::new();
    for (policy, bindings) in bound {
        let mut problem = |binding: Option<&Binding>, why: &str| {
            if !policy.ignores_failure {
                let what = if binding.is_some() { "binding" } else { "policy" };
                problems.push(Problem {
                    by: by(policy, binding),
                    message: format!("failed to configure {what}: {why}"),
                    asked: false,
                });
            }
        };
        let form = match policy.matcher.form(request, Some(object), old) {
            Ok(Some(form)) => form,
            Ok(None) => continue,
            Err(status) => {
                problem(None, &status.message);
                continue;
            }
        };
        for binding in bindings {
            if let Some(matcher) = &binding.matcher {
                match matcher.form(request, Some(object), old) {
                    Ok(Some(_)) => {}
                    Ok(None) => continue,
                    Err(status) => {
                        problem(Some(binding), &status.message);
                        continue;
                    }
                }
            }
            match params::collect(request, policy, binding).await {
                Err(why) => problem(Some(binding), &why),
                Ok(all) => found.extend(all.into_iter().map(|param| Invocation {
                    policy: policy.clone(),
                    binding: binding.clone(),
                    form: form.clone(),
                    param,
                })),
            }
        }
    }
    found
}

/// What a mutation makes of the object. Errors: a sentence.
async fn change(
    request: &Request<'_>,
    invocation: &Invocation,
    mutation: &Mutation,
    object: &Value,
    old: Option<&Value>,
) -> Result<Value, String> {
    let form = &invocation.form;
    let seen = Seen::new(request, form, Some(object), old)
        .await
        .map_err(|s| s.message)?;
    let patched = answered(request, || patched_by(request, invocation, mutation, &seen)).await?;
    review::taken_back(request, form, patched).await
}

/// The object as it is shown, after a mutation. Errors: a sentence.
fn patched_by(
    request: &Request<'_>,
    invocation: &Invocation,
    mutation: &Mutation,
    seen: &Seen,
) -> Result<Value, String> {
    let form = &invocation.form;
    let inputs = seen.inputs(request, &invocation.policy, &invocation.param);
    match mutation {
        Mutation::Apply(expression) => {
            let made = run(&inputs, expression)?;
            check_names(&made, "Object")?;
            let config = made.to_json().ok_or("invalid return type")?;
            applied(request, form, &seen.object, config)
        }
        Mutation::Patch(expression) => patched(&seen.object, &run(&inputs, expression)?),
    }
}

fn run<'a>(inputs: &Inputs<'a>, expression: &'a Expression) -> Result<Cel<'a>, String> {
    let budget = Budget::new(RUNTIME_COST_BUDGET);
    inputs.run(expression, &budget).map_err(|failure| match failure {
        Failure::Failed(why) => why,
        Failure::Budget => OUT_OF_BUDGET.to_owned(),
    })
}

/// Objects are named after where they stand: `Object.spec` is the spec.
fn check_names(value: &Cel<'_>, path: &str) -> Result<(), String> {
    match value {
        Cel::Record(record) => {
            if &*record.type_name != path {
                let found = &record.type_name;
                return Err(format!(
                    "type mismatch: unexpected type name \"{found}\", expected \"{path}\", which matches field name path from root Object type"
                ));
            }
            let mut fields = record.fields.iter();
            fields.try_for_each(|(name, field)| check_names(field, &format!("{path}.{name}")))
        }
        Cel::List(list) => list.iter().try_for_each(|item| match item {
            Ok(item) => check_names(&item, path),
            Err(e) => Err(e.to_string()),
        }),
        _ => Ok(()),
    }
}

/// The object with a configuration applied, whoever manages what.
fn applied(request: &Request<'_>, form: &Form, live: &Value, mut config: Value) -> Result<Value, String> {
    for member in ["apiVersion", "kind", "metadata.name", "metadata.namespace"] {
        json::copy(live, &mut config, member);
    }
    let row = form.row.as_deref().unwrap_or(request.row);
    let tracked = Tracked::of(request.core, row);
    let write = Write {
        kind: tracked.kind(),
        manager: "mutating-admission-policy",
        subresource: request.subresource,
        filter: tracking::filter(row, request.subresource),
        now: Time::now(),
    };
    apply::check_mutation(tracked.kind(), &config).map_err(|why| format!("error applying patch: {why}"))?;
    let mut bare = live.clone();
    let managers = json::remove(&mut bare, "metadata.managedFields");
    let merged = apply::apply(&write, Some(&bare), &config, true);
    let mut merged = merged.map_err(|e| format!("error applying patch: {e}"))?;
    json::remove(&mut merged, "metadata.managedFields");
    if let Some(managers) = managers {
        json::set(&mut merged, "metadata.managedFields", managers);
    }
    Ok(merged)
}

/// The object after a list of patch operations.
fn patched(live: &Value, operations: &Cel<'_>) -> Result<Value, String> {
    let Cel::List(list) = operations else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array".into());
    };
    let mut all = Vec::new();
    for item in list.iter() {
        let item = item.map_err(|e| e.to_string())?;
        if item.type_of() != Type::object("JSONPatch") {
            return Err("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch".into());
        }
        let why = "JSONPath valueExpression evaluated to a type that could not marshal to JSON";
        all.push(item.to_json().ok_or(why)?);
    }
    let patch: Vec<jsonpatch::Operation> =
        serde_json::from_value(Value::Array(all)).map_err(|e| format!("JSON Patch: {e}"))?;
    let mut new = live.clone();
    match jsonpatch::apply(&mut new, &patch) {
        Ok(()) => Ok(new),
        Err(jsonpatch::Failure::Test(_)) => Ok(live.clone()),
        Err(e) => Err(format!("JSON Patch: {e}")),
    }
}
