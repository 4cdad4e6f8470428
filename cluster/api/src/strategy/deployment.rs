//! Deployment: the worked example of a kind with status, generation and columns.

use super::{Causes, CellContext, Column, Strategy, columns};
use crate::json;
use serde_json::Value;
use strata_meta::{LabelSelector, Selector, StatusCause};

pub(super) struct Deployment;

impl Strategy for Deployment {
    fn counts_generation(&self) -> bool {
        true
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        workload_selector(object, causes);
        for field in [
            "spec.replicas",
            "spec.minReadySeconds",
            "spec.revisionHistoryLimit",
            "spec.progressDeadlineSeconds",
        ] {
            not_negative(object, field, causes);
        }
        let (deadline, ready) = (
            json::int(object, "spec.progressDeadlineSeconds"),
            json::int(object, "spec.minReadySeconds"),
        );
        if let Some(deadline) = deadline
            && deadline <= ready.unwrap_or(0)
        {
            causes.push(StatusCause::invalid(
                "spec.progressDeadlineSeconds",
                deadline,
                "must be greater than minReadySeconds",
            ));
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, causes: &mut Causes) {
        immutable(new, old, "spec.selector", causes);
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        json::copy(old, new, "metadata.labels");
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            columns::NAME,
            columns::column("Ready", "string", "Number of the pod with ready state", ready),
            columns::column("Up-to-date", "integer", "Number of updated replicas", |cx| {
                count(cx, "status.updatedReplicas")
            }),
            columns::column("Available", "integer", "Number of available replicas", |cx| {
                count(cx, "status.availableReplicas")
            }),
            columns::AGE,
            columns::wide(
                "Containers",
                "string",
                "Names of each container in the template.",
                |cx| template_containers(cx, "name"),
            ),
            columns::wide(
                "Images",
                "string",
                "Images referenced by each container in the template.",
                |cx| template_containers(cx, "image"),
            ),
            columns::wide("Selector", "string", "Label selector for pods.", selector_text),
        ];
        COLUMNS
    }
}

fn ready(cx: &CellContext<'_>) -> Value {
    let of = |path| json::int(cx.object, path).unwrap_or(0);
    format!("{}/{}", of("status.readyReplicas"), of("spec.replicas")).into()
}

/// A number that is 0 when absent.
pub(super) fn count(cx: &CellContext<'_>, path: &str) -> Value {
    json::int(cx.object, path).unwrap_or(0).into()
}

/// The names or images of the containers in a pod template.
pub(super) fn template_containers(cx: &CellContext<'_>, member: &str) -> Value {
    let containers = json::list(cx.object, "spec.template.spec.containers");
    let texts: Vec<&str> = containers.iter().map(|c| json::text(c, member)).collect();
    texts.join(",").into()
}

/// The text of `spec.selector`.
pub(super) fn selector_text(cx: &CellContext<'_>) -> Value {
    match label_selector(cx.object, "spec.selector") {
        Some(Ok(selector)) => selector.to_string().into(),
        Some(Err(_)) => "<invalid>".into(),
        None => "<none>".into(),
    }
}

/// The label selector at a path.
pub(super) fn label_selector(object: &Value, path: &str) -> Option<Result<Selector, String>> {
    let value = json::get(object, path)?;
    let parsed = serde_json::from_value::<LabelSelector>(value.clone()).map_err(|e| e.to_string());
    Some(parsed.and_then(|s| s.to_selector().map_err(|e| e.to_string())))
}

/// The rules that every workload with a selector and a template shares.
pub(super) fn workload_selector(object: &Value, causes: &mut Causes) {
    match label_selector(object, "spec.selector") {
        None => causes.push(StatusCause::required("spec.selector", "")),
        Some(Err(why)) => causes.push(StatusCause::invalid("spec.selector", "", why)),
        Some(Ok(selector)) => {
            if selector.is_everything() {
                causes.push(StatusCause::invalid(
                    "spec.selector",
                    EmptySelector,
                    "empty selector is invalid for deployment",
                ));
            } else if !selector
                .matches_with(|key| json::get(object, "spec.template.metadata.labels")?.get(key)?.as_str())
            {
                let labels = json::get(object, "spec.template.metadata.labels")
                    .cloned()
                    .unwrap_or(Value::Null);
                causes.push(StatusCause {
                    reason: "FieldValueInvalid".into(),
                    message: format!("Invalid value: {labels}: `selector` does not match template `labels`"),
                    field: "spec.template.metadata.labels".into(),
                });
            }
        }
    }
}

struct EmptySelector;

impl std::fmt::Debug for EmptySelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("{}")
    }
}

/// A number that may not be below 0.
pub(super) fn not_negative(object: &Value, path: &str, causes: &mut Causes) {
    if let Some(n) = json::int(object, path)
        && n < 0
    {
        causes.push(StatusCause::invalid(path, n, "must be greater than or equal to 0"));
    }
}

/// A member that may not change.
pub(super) fn immutable(new: &Value, old: &Value, path: &str, causes: &mut Causes) {
    if !json::same(new, old, path) {
        let value = json::get(new, path).cloned().unwrap_or(Value::Null);
        causes.push(StatusCause {
            reason: "FieldValueInvalid".into(),
            message: format!("Invalid value: {value}: field is immutable"),
            field: path.into(),
        });
    }
}
