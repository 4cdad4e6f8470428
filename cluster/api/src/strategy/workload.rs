//! Deployment, ReplicaSet, ReplicationController, DaemonSet, StatefulSet, ControllerRevision, PodTemplate.

use super::{
    Causes, CellContext, Collection, Column, columns,
    rollout::{daemon_strategy, deployment_strategy, go_strategy},
    row::{ROW, Row},
};
use crate::{
    alias::{set_template_generation, template_generation},
    cache::FieldPath,
    json,
    validate::{
        Field, NameRule, claim_spec,
        formats::{label_selector, read_selector},
        pod_template, pod_warnings,
    },
};
use serde_json::{Value, json};
use strata_meta::{Selector, StatusCause};

pub(super) static DEPLOYMENTS: Row = Row {
    counts: true,
    counts_annotations: true,
    warnings: hosted_template_warnings,
    keeps_labels: true,
    columns: &[
        columns::NAME,
        columns::column("Ready", "string", "Number of the pod with ready state", ready_of_wanted),
        columns::column(
            "Up-to-date",
            "string",
            "Number of pods made from the present template.",
            |cx| columns::count(cx, "status.updatedReplicas"),
        ),
        columns::column(
            "Available",
            "string",
            "Number of pods that have been ready long enough.",
            |cx| columns::count(cx, "status.availableReplicas"),
        ),
        columns::AGE,
        columns::CONTAINERS,
        columns::IMAGES,
        columns::SELECTOR,
    ],
    validate: |object, causes| {
        let spec = Field::root(object).at("spec");
        spec.at("replicas").not_negative(causes);
        selector_and_template(&spec, "deployment", causes);
        always_restarts(&spec.at("template"), "ReplicaSet", causes);
        deployment_strategy(&spec.at("strategy"), causes);
        let (ready, deadline) = (spec.at("minReadySeconds"), spec.at("progressDeadlineSeconds"));
        ready.not_negative(causes);
        spec.at("revisionHistoryLimit").not_negative(causes);
        deadline.not_negative(causes);
        if deadline.int().is_some_and(|n| n <= ready.int().unwrap_or(0)) {
            causes.push(deadline.invalid("must be greater than minReadySeconds"));
        }
    },
    validate_update: immutable_selector,
    validate_status: |new, old, causes| {
        counts(
            new,
            &[
                "replicas",
                "updatedReplicas",
                "readyReplicas",
                "availableReplicas",
                "unavailableReplicas",
            ],
            causes,
        );
        not_more_than_replicas(new, &["updatedReplicas", "readyReplicas", "availableReplicas"], causes);
        collisions(new, old, causes);
    },
    ..ROW
};

pub(super) static REPLICA_SETS: Row = Row {
    counts: true,
    warnings: hosted_template_warnings,
    columns: REPLICAS,
    validate: |object, causes| {
        let spec = Field::root(object).at("spec");
        spec.at("replicas").not_negative(causes);
        spec.at("minReadySeconds").not_negative(causes);
        selector_and_template(&spec, "deployment", causes);
        always_restarts(&spec.at("template"), "ReplicaSet", causes);
    },
    validate_update: immutable_selector,
    validate_status: replica_status,
    ..ROW
};

pub(super) static REPLICATION_CONTROLLERS: Row = Row {
    collection: Collection::Orphans,
    counts: true,
    warnings: hosted_template_warnings,
    fields: &[FieldPath::new("status.replicas", "0")],
    columns: REPLICAS,
    validate: |object, causes| {
        let spec = Field::root(object).at("spec");
        spec.at("minReadySeconds").not_negative(causes);
        spec.at("selector").needs(causes);
        if spec.at("replicas").is_set() {
            spec.at("replicas").not_negative(causes);
        } else {
            causes.push(spec.at("replicas").required(""));
        }
        let template = spec.at("template");
        if !template.is_set() {
            causes.push(template.required(""));
            return;
        }
        let labels = template.at("metadata.labels");
        let matches = json::members(object, "spec.selector").all(|(key, value)| labels.value().get(key) == Some(value));
        if !matches {
            causes.push(unselected(&template));
        }
        pod_template(&template, causes);
        always_restarts(&template, "ReplicationController", causes);
    },
    validate_status: replica_status,
    ..ROW
};

const REPLICAS: &[Column] = &[
    columns::NAME,
    columns::column("Desired", "integer", "How many pods are wanted.", |cx| {
        columns::count(cx, "spec.replicas")
    }),
    columns::column("Current", "integer", "How many pods there are.", |cx| {
        columns::count(cx, "status.replicas")
    }),
    columns::column("Ready", "integer", "How many of them are ready.", |cx| {
        columns::count(cx, "status.readyReplicas")
    }),
    columns::AGE,
    columns::CONTAINERS,
    columns::IMAGES,
    columns::SELECTOR,
];

pub(super) static DAEMON_SETS: Row = Row {
    counts: true,
    warnings: template_warnings,
    columns: &[
        columns::NAME,
        columns::column("Desired", "integer", "How many nodes should run the pod.", |cx| {
            columns::count(cx, "status.desiredNumberScheduled")
        }),
        columns::column("Current", "integer", "How many of them run it.", |cx| {
            columns::count(cx, "status.currentNumberScheduled")
        }),
        columns::column("Ready", "integer", "On how many it is ready.", |cx| {
            columns::count(cx, "status.numberReady")
        }),
        columns::column(
            "Up-to-date",
            "integer",
            "On how many it is made from the present template.",
            |cx| columns::count(cx, "status.updatedNumberScheduled"),
        ),
        columns::column(
            "Available",
            "integer",
            "On how many it has been ready long enough.",
            |cx| columns::count(cx, "status.numberAvailable"),
        ),
        columns::column(
            "Node Selector",
            "string",
            "Labels of the nodes that should run the pod.",
            |cx| columns::labels_text(json::get(cx.object, "spec.template.spec.nodeSelector")),
        ),
        columns::AGE,
        columns::CONTAINERS,
        columns::IMAGES,
        columns::SELECTOR,
    ],
    prepare_create: |object| {
        let stated = template_generation(object).unwrap_or(0);
        set_template_generation(object, stated.max(1));
    },
    prepare_update: |new, old| {
        let step = i64::from(!json::same(new, old, "spec.template"));
        let before = template_generation(old).unwrap_or(1);
        set_template_generation(new, before + step);
    },
    validate: |object, causes| {
        let spec = Field::root(object).at("spec");
        selector_and_template(&spec, "daemonset", causes);
        always_restarts(&spec.at("template"), "DaemonSet", causes);
        spec.at("minReadySeconds").not_negative(causes);
        daemon_strategy(&spec.at("updateStrategy"), causes);
        spec.at("revisionHistoryLimit").not_negative(causes);
    },
    validate_update: immutable_selector,
    validate_status: |new, old, causes| {
        let names = [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
        ];
        counts(new, &names, causes);
        collisions(new, old, causes);
    },
    ..ROW
};

pub(super) static STATEFUL_SETS: Row = Row {
    counts: true,
    rule: NameRule::Label,
    columns: &[
        columns::NAME,
        columns::column("Ready", "string", "Number of the pod with ready state", ready_of_wanted),
        columns::AGE,
        columns::CONTAINERS,
        columns::IMAGES,
    ],
    prepare_create: drop_gated_fields,
    prepare_update: |new, old| {
        if json::get(old, MAX_UNAVAILABLE).is_none() {
            drop_gated_fields(new);
        }
    },
    warnings: |new, old| {
        let mut warnings = template_warnings(new, old);
        if json::int(new, "spec.revisionHistoryLimit").is_some_and(|n| n < 0) {
            let why = "a negative value retains all historical revisions; a value >= 0 is recommended";
            warnings.push(format!("spec.revisionHistoryLimit: {why}"));
        }
        warnings
    },
    validate: stateful_set,
    validate_create: |object, causes| {
        let spec = Field::root(object).at("spec");
        spec.at("serviceName")
            .if_text(causes, strata_meta::names::dns1123_label);
        for claim in spec.at("volumeClaimTemplates").items() {
            claim_spec(&claim.at("spec"), causes);
        }
    },
    validate_update: |new, old, causes| {
        let mut fixed = new.clone();
        for member in [
            "replicas",
            "template",
            "updateStrategy",
            "minReadySeconds",
            "ordinals",
            "revisionHistoryLimit",
            "persistentVolumeClaimRetentionPolicy",
        ] {
            json::copy(old, &mut fixed, &format!("spec.{member}"));
        }
        if !json::same(&fixed, old, "spec") {
            let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
            causes.push(StatusCause::forbidden("spec", why));
        }
    },
    validate_status: |new, old, causes| {
        let names = [
            "replicas",
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
        ];
        counts(new, &names, causes);
        not_more_than_replicas(new, &names[1..], causes);
        collisions(new, old, causes);
    },
    ..ROW
};

pub(super) static CONTROLLER_REVISIONS: Row = Row {
    columns: &[
        columns::NAME,
        columns::column("Controller", "string", "Controller of the object", |cx| {
            columns::controller(cx.object)
        }),
        columns::column("Revision", "string", "The number of the state.", |cx| {
            columns::count(cx, "revision")
        }),
        columns::AGE,
    ],
    validate: |object, causes| Field::root(object).at("revision").not_negative(causes),
    validate_create: |object, causes| {
        let data = Field::root(object).at("data");
        if !data.is_set() {
            causes.push(data.required("data is mandatory"));
        } else if !data.value().is_object() {
            causes.push(data.required("data must be a valid JSON object"));
        }
    },
    validate_update: |new, old, causes| {
        Field::root(new)
            .at("data")
            .unchanged(causes, &Field::root(old).at("data"));
    },
    ..ROW
};

pub(super) static POD_TEMPLATES: Row = Row {
    counts: true,
    returns_deleted: true,
    warnings: |new, old| match old.is_some_and(|old| json::same(new, old, "template")) {
        true => Vec::new(),
        false => pod_warnings(&Field::root(new).at("template")),
    },
    columns: &[
        columns::NAME,
        columns::column(
            "Containers",
            "string",
            "Names of each container in the template.",
            |cx| columns::containers(cx, "template.spec.containers", "name"),
        ),
        columns::column(
            "Images",
            "string",
            "Images referenced by each container in the template.",
            |cx| columns::containers(cx, "template.spec.containers", "image"),
        ),
        columns::column("Pod Labels", "string", "The labels for the pod template.", |cx| {
            columns::labels_text(json::get(cx.object, "template.metadata.labels"))
        }),
    ],
    validate: |object, causes| pod_template(&Field::root(object).at("template"), causes),
    ..ROW
};

fn ready_of_wanted(cx: &CellContext<'_>) -> Value {
    let of = |path| json::int(cx.object, path).unwrap_or(0);
    format!("{}/{}", of("status.readyReplicas"), of("spec.replicas")).into()
}

/// What a kind says of a selector that is absent or unreadable.
struct SelectorRule {
    kind: &'static str,
    required: bool,
    unreadable: Option<&'static str>,
}

const SELECTOR_OF: fn(&'static str) -> SelectorRule = |kind| match kind {
    "daemonset" => SelectorRule {
        kind,
        required: false,
        unreadable: None,
    },
    "statefulset" => SelectorRule {
        kind,
        required: true,
        unreadable: Some(""),
    },
    _ => SelectorRule {
        kind,
        required: true,
        unreadable: Some("invalid label selector"),
    },
};

/// `spec.selector` is there, is valid, selects something, and selects the pods of the template.
fn selector_and_template(spec: &Field<'_>, kind: &'static str, causes: &mut Causes) {
    let rule = SELECTOR_OF(kind);
    let (field, template) = (spec.at("selector"), spec.at("template"));
    label_selector(&field, causes);
    if !field.is_set() && rule.required {
        causes.push(field.required(""));
    } else if field.is_set() && field.at("matchLabels").is_empty() && field.at("matchExpressions").is_empty() {
        causes.push(field.invalid(format_args!("empty selector is invalid for {}", rule.kind)));
    }
    match read_selector(&field) {
        Some(selector) => selects(&selector, &template, causes),
        // No selector selects nothing.
        None if !field.is_set() => causes.push(unselected(&template)),
        None => match rule.unreadable {
            None => {}
            Some("") => {
                let cause = field.invalid("");
                let message = cause.message.trim_end_matches(": ").to_owned();
                causes.push(StatusCause { message, ..cause });
            }
            Some(why) => causes.push(field.invalid(why)),
        },
    }
    pod_template(&template, causes);
}

/// Says so if the template's pods would not be selected.
pub(super) fn selects(selector: &Selector, template: &Field<'_>, causes: &mut Causes) {
    let labels = template.at("metadata.labels");
    let matches = selector.matches_with(|key| labels.value().get(key)?.as_str());
    if !selector.is_everything() && !matches {
        causes.push(unselected(template));
    }
}

/// That the template's pods are not selected.
pub(super) fn unselected(template: &Field<'_>) -> StatusCause {
    let labels = template.at("metadata.labels");
    labels.invalid_as(labels.value().clone(), "`selector` does not match template `labels`")
}

fn always_restarts(template: &Field<'_>, kind: &str, causes: &mut Causes) {
    let policy = template.at("spec.restartPolicy");
    if policy.text() != "Always" {
        causes.push(policy.not_supported(&["Always"]));
    }
    let deadline = template.at("spec.activeDeadlineSeconds");
    if deadline.is_set() {
        causes.push(deadline.forbidden(&format!("activeDeadlineSeconds in {kind} is not Supported")));
    }
}

fn immutable_selector(new: &Value, old: &Value, causes: &mut Causes) {
    let (now, was) = (
        Field::root(new).at("spec.selector"),
        Field::root(old).at("spec.selector"),
    );
    now.unchanged(causes, &was);
}

const MAX_UNAVAILABLE: &str = "spec.updateStrategy.rollingUpdate.maxUnavailable";

/// `maxUnavailable` is behind a feature gate that is off by default.
fn drop_gated_fields(object: &mut Value) {
    json::remove(object, MAX_UNAVAILABLE);
    for claim in json::object_mut(object, "spec")
        .get_mut("volumeClaimTemplates")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        json::set(claim, "apiVersion", "v1");
        json::set(claim, "kind", "PersistentVolumeClaim");
    }
}

/// The same, and about a name that is none of a host.
pub(super) fn hosted_template_warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let name = || crate::validate::host_name_warning(new, "Pod names and hostnames");
    let name = if old.is_none() { name() } else { None };
    name.into_iter().chain(template_warnings(new, old)).collect()
}

/// Warnings about the template, unless it stayed what it was.
pub(super) fn template_warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    if old.is_some_and(|old| json::same(new, old, "spec.template")) {
        return Vec::new();
    }
    pod_warnings(&Field::root(new).at("spec.template"))
}

fn stateful_set(object: &Value, causes: &mut Causes) {
    let spec = Field::root(object).at("spec");
    let management = spec.at("podManagementPolicy");
    match management.text() {
        "" => causes.push(management.required("")),
        "OrderedReady" | "Parallel" => {}
        _ => causes.push(management.invalid("must be 'OrderedReady' or 'Parallel'")),
    }
    let strategy = spec.at("updateStrategy");
    let rolling = strategy.at("rollingUpdate");
    match strategy.at("type").text() {
        "" => causes.push(strategy.required("")),
        "OnDelete" if rolling.is_set() => {
            causes.push(rolling.invalid("only allowed for updateStrategy 'RollingUpdate'"));
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            rolling.at("partition").not_negative(causes);
        }
        _ => {
            let shown = go_strategy(&strategy, ["Partition", "MaxUnavailable"]);
            causes.push(strategy.invalid_shown(shown, "must be 'RollingUpdate' or 'OnDelete'"));
        }
    }
    for policy in ["whenDeleted", "whenScaled"] {
        spec.at("persistentVolumeClaimRetentionPolicy")
            .at(policy)
            .if_one_of(causes, &["Retain", "Delete"]);
    }
    spec.at("replicas").not_negative(causes);
    spec.at("minReadySeconds").not_negative(causes);
    spec.at("ordinals.start").not_negative(causes);
    // The claims become volumes of the pods.
    let with_claims = with_claim_volumes(object);
    let spec = Field::root(&with_claims).at("spec");
    selector_and_template(&spec, "statefulset", causes);
    always_restarts(&spec.at("template"), "StatefulSet", causes);
}

fn with_claim_volumes(object: &Value) -> Value {
    let mut object = object.clone();
    let mut names: Vec<String> = Vec::new();
    for claim in json::list(&object, "spec.volumeClaimTemplates") {
        let name = json::text(claim, "metadata.name");
        if !names.iter().any(|seen| seen == name) {
            names.push(name.to_owned());
        }
    }
    for member in ["hostname", "subdomain"] {
        json::remove(&mut object, &format!("spec.template.spec.{member}"));
    }
    if !names.is_empty() {
        let mut volumes = json::list(&object, "spec.template.spec.volumes").to_vec();
        volumes.retain(|volume| !names.iter().any(|name| name == json::text(volume, "name")));
        let claims = names
            .iter()
            .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
        json::set(
            &mut object,
            "spec.template.spec.volumes",
            claims.chain(volumes).collect::<Vec<_>>(),
        );
    }
    object
}

fn counts(new: &Value, names: &[&str], causes: &mut Causes) {
    let status = Field::root(new).at("status");
    for name in names.iter().chain(&["observedGeneration", "collisionCount"]) {
        status.at(name).not_negative(causes);
    }
}

fn not_more_than_replicas(new: &Value, names: &[&str], causes: &mut Causes) {
    let status = Field::root(new).at("status");
    let of = |name: &str| status.at(name).int().unwrap_or(0);
    for name in names {
        if of(name) > of("replicas") {
            let why = "cannot be greater than status.replicas";
            causes.push(status.at(name).invalid_as(of(name), why));
        }
    }
    if of("availableReplicas") > of("readyReplicas") {
        // Of a StatefulSet, which alone names this member, the sentence is longer.
        let whose = if names.contains(&"currentReplicas") {
            "status."
        } else {
            ""
        };
        let why = format!("cannot be greater than {whose}readyReplicas");
        causes.push(status.at("availableReplicas").invalid(why));
    }
}

fn replica_status(new: &Value, _old: &Value, causes: &mut Causes) {
    let names = ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    counts(new, &names, causes);
    not_more_than_replicas(new, &names[1..], causes);
}

fn collisions(new: &Value, old: &Value, causes: &mut Causes) {
    let (now, was) = (
        Field::root(new).at("status.collisionCount"),
        json::int(old, "status.collisionCount"),
    );
    if was.is_some_and(|was| now.int().unwrap_or(0) < was) {
        causes.push(now.invalid_as(now.int().unwrap_or(0), "cannot be decremented"));
    }
}
