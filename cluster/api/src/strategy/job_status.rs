//! What the status of a job may say (k8s.io/kubernetes/pkg/apis/batch/validation `validateJobStatus`).

use super::{Causes, job_policy::index_count};
use crate::{json, validate::Field};
use serde_json::Value;
use strata_meta::{StatusCause, Time};

/// Problems of a change of the status. What was wrong before may stay wrong.
pub(super) fn changed(new: &Value, old: &Value, causes: &mut Causes) {
    let (mut now, mut before) = (Vec::new(), Vec::new());
    status(new, &mut now);
    status(old, &mut before);
    causes.extend(now.into_iter().filter(|cause| !before.contains(cause)));
    let (after, was) = (Field::root(new).at("status"), Field::root(old).at("status"));
    let spec = Field::root(new).at("spec");
    let wanted = spec.at("completions").int();
    // Both numbers of such a job may be lowered together, and indexes that it has no more do not count.
    let elastic = spec.at("completionMode").text() == "Indexed" && wanted == spec.at("parallelism").int();
    for name in ["succeeded", "failed"] {
        let count = after.at(name);
        if name == "succeeded" && elastic {
            continue;
        }
        if count.int().unwrap_or(0) < was.at(name).int().unwrap_or(0) {
            let why = format!("cannot decrease the {name} counter");
            causes.push(count.invalid_as(count.int().unwrap_or(0), why));
        }
    }
    for kind in ["Failed", "Complete", "FailureTarget", "SuccessCriteriaMet"] {
        if holds(old, kind) && !holds(new, kind) {
            let terminal = if kind == "SuccessCriteriaMet" { "" } else { "terminal " };
            let why = format!("cannot disable the {terminal}{kind}=True condition");
            causes.push(bare(&after.at("conditions"), &why));
        }
    }
    let (start, started) = (after.at("startTime"), was.at("startTime"));
    let suspended = json::flag(new, "spec.suspend");
    if started.is_set() && start.text() != started.text() && !suspended {
        let why = "field is immutable for unsuspended job once set";
        causes.push(start.invalid_as(start.value().clone(), why));
    }
    let (done, was_done) = (after.at("completionTime"), was.at("completionTime"));
    if was_done.is_set() && done.is_set() && done.text() != was_done.text() {
        causes.push(done.invalid("field is immutable"));
    }
}

fn holds(job: &Value, kind: &str) -> bool {
    let conditions = json::list(job, "status.conditions");
    let is = |c: &Value| json::text(c, "type") == kind && json::text(c, "status") == "True";
    conditions.iter().any(is)
}

fn bare(field: &Field<'_>, why: &str) -> StatusCause {
    StatusCause {
        reason: "FieldValueInvalid".into(),
        message: format!("Invalid value: {why}"),
        field: field.path().to_owned(),
    }
}

fn status(job: &Value, causes: &mut Causes) {
    let status = Field::root(job).at("status");
    for name in ["active", "succeeded", "failed", "ready", "terminating"] {
        status.at(name).not_negative(causes);
    }
    uncounted(&status.at("uncountedTerminatedPods"), causes);
    conditions(job, &status, causes);
    times(job, &status, causes);
    finished(job, &status, causes);
    indexes(job, &status, causes);
    let (ready, active) = (status.at("ready"), status.at("active").int().unwrap_or(0));
    if ready.int().is_some_and(|n| n > active) {
        causes.push(ready.invalid("cannot set more ready pods than active"));
    }
}

fn uncounted(pods: &Field<'_>, causes: &mut Causes) {
    let mut seen = Vec::new();
    for uid in ["succeeded", "failed"].iter().flat_map(|list| pods.at(list).items()) {
        if uid.is_empty() {
            causes.push(uid.invalid("must not be empty"));
        } else if seen.contains(&uid.text()) {
            causes.push(uid.duplicate());
        }
        seen.push(uid.text());
    }
}

fn conditions(job: &Value, status: &Field<'_>, causes: &mut Causes) {
    let (complete, failed) = (holds(job, "Complete"), holds(job, "Failed"));
    let (target, met) = (holds(job, "FailureTarget"), holds(job, "SuccessCriteriaMet"));
    for (wrong, why) in [
        (
            complete && failed,
            "cannot set Complete=True and Failed=true conditions",
        ),
        (
            complete && target,
            "cannot set Complete=True and FailureTarget=true conditions",
        ),
        (
            failed && !target,
            "cannot set Failed=True condition without the FailureTarget=true condition",
        ),
        (
            complete && !met,
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        ),
        (
            met && failed,
            "cannot set SuccessCriteriaMet=True and Failed=true conditions",
        ),
        (
            met && target,
            "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        ),
    ] {
        if wrong {
            causes.push(bare(&status.at("conditions"), why));
        }
    }
}

fn times(job: &Value, status: &Field<'_>, causes: &mut Causes) {
    let complete = holds(job, "Complete");
    let (start, end) = (status.at("startTime"), status.at("completionTime"));
    if end.is_set() && !complete {
        causes.push(end.invalid("cannot set completionTime when there is no Complete=True condition"));
    } else if complete && !end.is_set() {
        causes.push(end.required("completionTime is required for Complete jobs"));
    }
    if let (Some(started), Some(ended)) = (Time::parse(start.text()), Time::parse(end.text()))
        && ended.seconds_since(started) < 0
    {
        causes.push(end.invalid("must be equal to or after `startTime`"));
    }
}

fn finished(job: &Value, status: &Field<'_>, causes: &mut Causes) {
    if !holds(job, "Complete") && !holds(job, "Failed") {
        return;
    }
    for name in ["active", "terminating"] {
        let count = status.at(name);
        if count.int().is_some_and(|n| n > 0) {
            causes.push(count.invalid(format_args!("{name}>0 is invalid for finished job")));
        }
    }
    if !status.at("startTime").is_set() {
        let why = "startTime is required for finished job";
        causes.push(status.at("startTime").required(why));
    }
    let pods = status.at("uncountedTerminatedPods");
    if !pods.at("succeeded").is_empty() || !pods.at("failed").is_empty() {
        causes.push(pods.invalid("must be empty for finished job"));
    }
}

fn indexes(job: &Value, status: &Field<'_>, causes: &mut Causes) {
    let spec = Field::root(job).at("spec");
    let (done, failed) = (status.at("completedIndexes"), status.at("failedIndexes"));
    let per_index = spec.at("backoffLimitPerIndex").is_set();
    if let Some(count) = spec.at("completions").int() {
        for (field, name) in [(&done, "completedIndexes"), (&failed, "failedIndexes")] {
            if let Err(why) = index_count(field.text(), count) {
                causes.push(field.invalid(format_args!("error parsing {name}: {why}")));
            }
        }
    }
    if !done.is_empty() && spec.at("completionMode").text() != "Indexed" {
        causes.push(done.invalid("cannot set non-empty completedIndexes when non-indexed completion mode"));
    }
    if failed.is_set() && !per_index {
        causes.push(failed.invalid("cannot set non-null failedIndexes when backoffLimitPerIndex is null"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_must_agree_with_itself() {
        let job = |status: Value| json!({"spec": {"completions": 3}, "status": status});
        let said = |status: Value, before: Value| {
            let mut causes = Vec::new();
            changed(&job(status), &job(before), &mut causes);
            let lines = causes.iter().map(|c| format!("{}: {}", c.field, c.message));
            lines.collect::<Vec<_>>()
        };
        let done = json!({"startTime": "2024-01-01T00:00:00Z", "completionTime": "2024-01-01T00:00:01Z",
            "conditions": [{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}]});
        assert_eq!(said(done.clone(), json!({})), Vec::<String>::new());
        assert_eq!(
            said(json!({"conditions": [{"type": "Failed", "status": "True"}]}), json!({})),
            [
                "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
                "status.startTime: Required value: startTime is required for finished job",
            ]
        );
        assert_eq!(
            said(
                json!({"active": 1, "ready": 2, "succeeded": 1}),
                json!({"succeeded": 2})
            ),
            [
                "status.ready: Invalid value: 2: cannot set more ready pods than active",
                "status.succeeded: Invalid value: 1: cannot decrease the succeeded counter",
            ]
        );
        let wrong = json!({"active": 1, "ready": 2});
        assert_eq!(
            said(wrong.clone(), wrong),
            Vec::<String>::new(),
            "what was wrong may stay"
        );
    }
}
