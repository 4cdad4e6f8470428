//! Job and CronJob.

use super::{
    Causes, CellContext, Collection, columns, job_policy, job_status,
    row::{ROW, Row},
    workload,
};
use crate::{
    cache::FieldPath,
    json,
    validate::{
        Field,
        formats::{domain_prefixed_path, label_selector, read_selector},
        pod_template, pod_warnings,
    },
};
use serde_json::{Value, json};
use strata_meta::Time;

const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];
const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];

pub(super) static JOBS: Row = Row {
    collection: Collection::Orphans,
    counts: true,
    warnings: workload::hosted_template_warnings,
    fields: &[FieldPath::new("status.succeeded", "0")],
    columns: &[
        columns::NAME,
        columns::column("Status", "string", "Status of the job.", |cx| state(cx.object).into()),
        columns::column(
            "Completions",
            "string",
            "How many pods have succeeded, of how many.",
            completions,
        ),
        columns::column("Duration", "string", "Time required to complete the job.", duration),
        columns::AGE,
        columns::CONTAINERS,
        columns::IMAGES,
        columns::SELECTOR,
    ],
    prepare_create: |object| {
        // A job without labels of its own has its template's, those made here included.
        let labels = json::get(object, "metadata.labels");
        let shared = labels.is_none() || labels == json::get(object, "spec.template.metadata.labels");
        select_own_pods(object);
        if shared && let Some(labels) = json::get(object, "spec.template.metadata.labels").cloned() {
            json::set(object, "metadata.labels", labels);
        }
    },
    validate: |object, causes| {
        let spec = Field::root(object).at("spec");
        job_spec(&spec, causes);
        let selector = spec.at("selector");
        if selector.is_set() {
            label_selector(&selector, causes);
        } else {
            causes.push(selector.required(""));
        }
        if let Some(selector) = read_selector(&selector) {
            workload::selects(&selector, &spec.at("template"), causes);
        } else if !selector.is_set() {
            causes.push(workload::unselected(&spec.at("template")));
        }
        generated(object, causes);
    },
    validate_create: created,
    validate_update: changed,
    validate_status: job_status::changed,
    ..ROW
};

pub(super) static CRON_JOBS: Row = Row {
    counts: true,
    warnings: |new, old| match old.is_some_and(|old| json::same(new, old, "spec.jobTemplate")) {
        true => Vec::new(),
        false => {
            let name = crate::validate::host_name_warning(new, "Pod names and hostnames");
            let name = name.filter(|_| old.is_none()).into_iter();
            let template = pod_warnings(&Field::root(new).at("spec.jobTemplate.spec.template"));
            name.chain(template).collect()
        }
    },
    columns: &[
        columns::NAME,
        columns::column("Schedule", "string", "When jobs are made, in cron's form.", |cx| {
            columns::text(cx, "spec.schedule")
        }),
        columns::column("Timezone", "string", "The time zone of the schedule.", |cx| {
            columns::or_none(json::text(cx.object, "spec.timeZone"))
        }),
        columns::column(
            "Suspend",
            "boolean",
            "Whether no jobs are made for now.",
            |cx| match json::get(cx.object, "spec.suspend") {
                Some(flag) => (if flag == &Value::Bool(true) { "True" } else { "False" }).into(),
                None => "<unset>".into(),
            },
        ),
        columns::column("Active", "integer", "How many jobs are running.", |cx| {
            json::list(cx.object, "status.active").len().into()
        }),
        columns::column(
            "Last Schedule",
            "string",
            "When a job was made last.",
            |cx| match json::text(cx.object, "status.lastScheduleTime") {
                "" => "<none>".into(),
                then => super::age(then, cx.now).into(),
            },
        ),
        columns::AGE,
        columns::wide(
            "Containers",
            "string",
            "Names of each container in the template.",
            |cx| columns::containers(cx, "spec.jobTemplate.spec.template.spec.containers", "name"),
        ),
        columns::wide(
            "Images",
            "string",
            "Images referenced by each container in the template.",
            |cx| columns::containers(cx, "spec.jobTemplate.spec.template.spec.containers", "image"),
        ),
        columns::wide("Selector", "string", "Label selector for pods.", |cx| {
            columns::selector_text(json::get(cx.object, "spec.jobTemplate.spec.selector"))
        }),
    ],
    validate: cron_job,
    validate_create: |object, causes| {
        let name = Field::root(object).at("metadata.name");
        if name.text().len() > 52 {
            causes.push(name.invalid("must be no more than 52 characters"));
        }
    },
    ..ROW
};

fn holds(object: &Value, kind: &str) -> bool {
    let conditions = json::list(object, "status.conditions").iter();
    conditions
        .into_iter()
        .any(|c| json::text(c, "type") == kind && json::text(c, "status") == "True")
}

fn state(object: &Value) -> &'static str {
    if holds(object, "Complete") {
        return "Complete";
    }
    if holds(object, "Failed") {
        return "Failed";
    }
    if json::get(object, "metadata.deletionTimestamp").is_some() {
        return "Terminating";
    }
    let rest = ["Suspended", "FailureTarget", "SuccessCriteriaMet"];
    rest.into_iter().find(|kind| holds(object, kind)).unwrap_or("Running")
}

fn completions(cx: &CellContext<'_>) -> Value {
    let done = json::int(cx.object, "status.succeeded").unwrap_or(0);
    let wanted = json::int(cx.object, "spec.completions");
    match (wanted, json::int(cx.object, "spec.parallelism").unwrap_or(0)) {
        (Some(wanted), _) => format!("{done}/{wanted}").into(),
        (None, 2..) => {
            let at_once = json::int(cx.object, "spec.parallelism").unwrap_or(0);
            format!("{done}/1 of {at_once}").into()
        }
        (None, _) => format!("{done}/1").into(),
    }
}

fn duration(cx: &CellContext<'_>) -> Value {
    let at = |path| Time::parse(json::text(cx.object, path));
    let Some(started) = at("status.startTime") else {
        return "".into();
    };
    let ended = at("status.completionTime").unwrap_or(cx.now);
    columns::human_duration(ended.seconds_since(started)).into()
}

/// Labels the template with the job's identity and selects by it.
fn select_own_pods(object: &mut Value) {
    if json::flag(object, "spec.manualSelector") {
        return;
    }
    let name = json::text(object, "metadata.name").to_owned();
    let uid = json::text(object, "metadata.uid").to_owned();
    let labels = json::object_mut(object, "spec.template.metadata.labels");
    for (keys, value) in [(NAME_LABELS, name), (UID_LABELS, uid.clone())] {
        for key in keys {
            labels.entry(key).or_insert_with(|| json!(value));
        }
    }
    let wanted = json::object_mut(object, "spec.selector.matchLabels");
    wanted
        .entry("batch.kubernetes.io/controller-uid")
        .or_insert_with(|| json!(uid));
}

fn created(object: &Value, causes: &mut Causes) {
    let root = Field::root(object);
    let name = root.at("metadata.name");
    if root.at("spec.completionMode").text() == "Indexed"
        && let Some(count) = root.at("spec.completions").int().filter(|n| *n > 0)
    {
        let longest = format!("{}-{}", name.text(), count - 1);
        if !strata_meta::names::dns1123_label(&longest).is_empty() {
            let why = format!("will not able to create pod with invalid DNS label: {longest}");
            causes.push(name.invalid(why));
        }
    }
}

/// The selector and the labels that the server made must be what it made, also after a change.
fn generated(object: &Value, causes: &mut Causes) {
    let root = Field::root(object);
    let (name, uid) = (root.at("metadata.name"), root.at("metadata.uid"));
    if root.at("spec.manualSelector").flag() || !root.at("spec.selector").is_set() {
        return;
    }
    let labels = root.at("spec.template.metadata.labels");
    let shown = labels.named("spec.template.metadata");
    for (keys, wanted) in [(UID_LABELS, uid.text()), (NAME_LABELS, name.text())] {
        for key in keys {
            let why = format!("must be '{wanted}'");
            let field = labels.named(format!("{}.labels[{key}]", shown.path()));
            match labels.value().get(key).and_then(Value::as_str) {
                None => causes.push(field.required(&why)),
                Some(value) if value != wanted => {
                    causes.push(field.invalid_as(labels.value().clone(), why));
                }
                Some(_) => {}
            }
        }
    }
    let selector = root.at("spec.selector");
    let own = |key: &str| {
        let uid_label = UID_LABELS.contains(&key).then(|| uid.text());
        uid_label.or_else(|| NAME_LABELS.contains(&key).then(|| name.text()))
    };
    if read_selector(&selector).is_some_and(|s| !s.matches_with(own)) {
        causes.push(selector.invalid("`selector` not auto-generated"));
    }
}

fn job_spec(spec: &Field<'_>, causes: &mut Causes) {
    for name in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        spec.at(name).not_negative(causes);
    }
    let (per_index, failed) = (spec.at("backoffLimitPerIndex"), spec.at("maxFailedIndexes"));
    if failed.is_set() && !per_index.is_set() {
        causes.push(per_index.required("when maxFailedIndexes is specified"));
    }
    let manager = spec.at("managedBy");
    if manager.is_set() {
        domain_prefixed_path(&manager, causes);
        if manager.text().len() > 63 {
            causes.push(manager.too_long(63));
        }
    }
    let mode = spec.at("completionMode");
    mode.if_one_of(causes, &["NonIndexed", "Indexed"]);
    let (wanted, at_once) = (spec.at("completions"), spec.at("parallelism"));
    if mode.text() == "Indexed" {
        if !wanted.is_set() {
            causes.push(wanted.required("when completion mode is Indexed"));
        }
        if at_once.int().is_some_and(|n| n > 100_000) {
            causes.push(at_once.invalid("must be less than or equal to 100000 when completion mode is Indexed"));
        }
        if wanted.int().is_some_and(|n| failed.int().is_some_and(|f| f > n)) {
            causes.push(failed.invalid("must be less than or equal to completions"));
        }
        if failed.int().is_some_and(|n| n > 100_000) {
            causes.push(failed.invalid("must be less than or equal to 100000"));
        }
        if wanted.int().is_some_and(|n| n > 100_000) && per_index.is_set() {
            many_completions(&failed, &at_once, causes);
        }
    } else if matches!(mode.text(), "NonIndexed") || !mode.is_set() {
        for field in [&per_index, &failed] {
            if field.is_set() {
                causes.push(field.invalid("requires indexed completion mode"));
            }
        }
    }
    job_policy::policies(spec, causes);
    pod_template(&spec.at("template"), causes);
    let restart = spec.at("template.spec.restartPolicy");
    match restart.text() {
        "" | "Always" => causes.push(restart.required("valid values: \"OnFailure\", \"Never\"")),
        "OnFailure" if spec.at("podFailurePolicy").is_set() => {
            causes.push(restart.invalid("only \"Never\" is supported when podFailurePolicy is specified"));
        }
        _ => restart.if_one_of(causes, &["OnFailure", "Never"]),
    }
}

/// Limits of an indexed job with more than 100,000 completions and a back-off limit of its own for each.
fn many_completions(failed: &Field<'_>, at_once: &Field<'_>, causes: &mut Causes) {
    const MOST: i64 = 10_000;
    if !failed.is_set() {
        causes.push(failed.required("must be specified when completions is above 100000"));
    }
    for field in [at_once, failed] {
        if field.int().is_some_and(|n| n > MOST) {
            let why = "must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index";
            causes.push(field.invalid(why));
        }
    }
}

fn changed(new: &Value, old: &Value, causes: &mut Causes) {
    let (now, was) = (Field::root(new).at("spec"), Field::root(old).at("spec"));
    let (wanted, before) = (now.at("completions"), was.at("completions"));
    if now.at("completionMode").text() != "Indexed" {
        wanted.unchanged(causes, &before);
    } else if wanted.is_set() && wanted.int() != before.int() && wanted.int() != now.at("parallelism").int() {
        causes.push(wanted.invalid("can only be modified in tandem with spec.parallelism"));
    }
    now.at("selector").unchanged(causes, &was.at("selector"));
    template_changed(new, old, causes);
    for name in [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        now.at(name).unchanged(causes, &was.at(name));
    }
}

/// A suspended job without pods may be placed anew (KEP-2926) and given other resources (KEP-5440); nothing else of the
/// template may change.
fn template_changed(new: &Value, old: &Value, causes: &mut Causes) {
    let started = json::get(old, "status.startTime").is_some() && !holds(old, "Suspended");
    let active = json::int(old, "status.active").unwrap_or(0);
    let mut before = old.clone();
    let mut part = "spec.template";
    if json::flag(old, "spec.suspend") && !started && active == 0 {
        for path in [
            "spec.nodeSelector",
            "spec.tolerations",
            "spec.schedulingGates",
            "spec.affinity.nodeAffinity",
            "metadata.annotations",
            "metadata.labels",
        ] {
            json::copy(new, &mut before, &format!("spec.template.{path}"));
        }
        for list in ["containers", "initContainers"] {
            copy_resources(new, &mut before, &format!("spec.template.spec.{list}"));
        }
        part = "spec.template.spec";
    }
    let after = Field::root(new).at(part);
    after.unchanged(causes, &Field::root(&before).at(part));
}

/// Takes the resources of containers over, where they are the same containers.
fn copy_resources(from: &Value, to: &mut Value, path: &str) {
    let new = json::list(from, path);
    let mut old = json::list(to, path).to_vec();
    if new.len() != old.len() {
        return;
    }
    for (new, old) in new.iter().zip(&mut old) {
        if json::text(new, "name") == json::text(old, "name") {
            json::copy(new, old, "resources");
        }
    }
    json::set(to, path, Value::Array(old));
}

fn cron_job(object: &Value, causes: &mut Causes) {
    let spec = Field::root(object).at("spec");
    let schedule = spec.at("schedule");
    if schedule.is_empty() {
        causes.push(schedule.required(""));
    } else {
        if let Err(why) = strata_cron::Schedule::parse(schedule.text()) {
            causes.push(schedule.invalid(why));
        }
        if schedule.text().contains("TZ") {
            causes.push(schedule.invalid("cannot use TZ or CRON_TZ in schedule, use timeZone field instead"));
        }
    }
    spec.at("startingDeadlineSeconds").not_negative(causes);
    let zone = spec.at("timeZone");
    if zone.is_set() {
        time_zone(&zone, causes);
    }
    let policies = ["Allow", "Forbid", "Replace"];
    spec.at("concurrencyPolicy").needs_one_of(causes, &policies);
    let job = spec.at("jobTemplate.spec");
    job_spec(&job, causes);
    if job.at("manualSelector").flag() {
        causes.push(job.at("manualSelector").not_supported(&["nil", "false"]));
    }
    if job.at("selector").is_set() {
        causes.push(job.at("selector").forbidden("`selector` will be auto-generated"));
    }
    spec.at("successfulJobsHistoryLimit").not_negative(causes);
    spec.at("failedJobsHistoryLimit").not_negative(causes);
}

fn time_zone(zone: &Field<'_>, causes: &mut Causes) {
    let name = zone.text();
    if name.is_empty() {
        causes.push(zone.invalid("timeZone must be nil or non-empty string"));
        return;
    }
    let is_part = |part: &str| {
        let known = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_' | b'+');
        matches!(part.len(), 1..=14) && part.bytes().all(known) && !part.starts_with('-') && !matches!(part, "." | "..")
    };
    if !name.split('/').all(is_part) {
        causes.push(zone.invalid(format_args!("unknown time zone {name}")));
        return;
    }
    if name.eq_ignore_ascii_case("local") {
        let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        causes.push(zone.invalid(why));
    }
    if let Err(why) = strata_cron::zone(name) {
        causes.push(zone.invalid(why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspended_job_may_be_given_other_resources_and_places() {
        let job = |status: Value, image: &str, cpu: &str| {
            let container = json!({"name": "c", "image": image, "resources": {"requests": {"cpu": cpu}}});
            let template = json!({"spec": {"nodeSelector": {"cpu": cpu}, "containers": [container]}});
            json!({"spec": {"suspend": true, "template": template}, "status": status})
        };
        let paused =
            json!({"startTime": "2026-01-01T00:00:00Z", "conditions": [{"type": "Suspended", "status": "True"}]});
        let running = json!({"startTime": "2026-01-01T00:00:00Z", "active": 1});
        for (status, image, cpu, expected) in [
            (json!({}), "a", "2", vec![]),
            (paused.clone(), "a", "2", vec![]),
            (paused, "b", "2", vec!["spec.template.spec"]),
            (running, "a", "2", vec!["spec.template"]),
        ] {
            let mut causes = Vec::new();
            template_changed(
                &job(status.clone(), image, cpu),
                &job(status.clone(), "a", "1"),
                &mut causes,
            );
            let fields: Vec<&str> = causes.iter().map(|cause| cause.field.as_str()).collect();
            assert_eq!(fields, expected, "{status} {image} {cpu}");
        }
    }
}
