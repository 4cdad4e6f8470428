//! The pods of a job as they are created.

use super::{
    decide::{Assessment, Seen, Wanted},
    pod::{FAILURES, IGNORED_FAILURES, INDEX},
};
use crate::dependents::template::pod_of;
use serde_json::{Value, json};
use strata_meta::Object;

/// Keeps a pod until the job has counted it.
pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// Tells a container of its pod's index.
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// What the server leaves of a name it adds a suffix to.
const GENERATED_MAX: usize = 58;

/// The pods that are wanted.
pub(super) fn pods(owner: &Object, seen: &Seen<'_>, assessment: &Assessment, wanted: &Wanted) -> Vec<Value> {
    let mut template = pod_of(owner, &seen.job.spec.template);
    let finalizers = member(&mut template["metadata"], "finalizers", json!([]));
    if let Some(list) = finalizers.as_array_mut()
        && !list.iter().any(|name| name == FINALIZER)
    {
        list.push(FINALIZER.into());
    }
    match wanted {
        Wanted::Any(count) => vec![template; *count],
        Wanted::Indexed(indexes) => {
            tell_index(&mut template["spec"]);
            let pod = |index: &u32| indexed(owner, seen, assessment, template.clone(), *index);
            indexes.iter().map(pod).collect()
        }
    }
}

fn indexed(owner: &Object, seen: &Seen<'_>, assessment: &Assessment, mut pod: Value, index: u32) -> Value {
    let metadata = &mut pod["metadata"];
    metadata["generateName"] = generate_name(owner.name(), index).into();
    member(metadata, "labels", json!({}))[INDEX] = index.to_string().into();
    let annotations = member(metadata, "annotations", json!({}));
    annotations[INDEX] = index.to_string().into();
    if seen.job.spec.backoff_limit_per_index.is_some() {
        let (failures, ignored) = seen.failure_counts(assessment.replaced.get(&index));
        annotations[FAILURES] = failures.to_string().into();
        if ignored > 0 {
            annotations[IGNORED_FAILURES] = ignored.to_string().into();
        }
    }
    pod["spec"]["hostname"] = format!("{}-{index}", owner.name()).into();
    pod
}

/// The job's name is cut so that the index is kept.
fn generate_name(job: &str, index: u32) -> String {
    let suffix = format!("-{index}-");
    let kept: String = job.chars().take(GENERATED_MAX.saturating_sub(suffix.len())).collect();
    kept + &suffix
}

/// Gives every container the index as a variable, unless it has one of the name.
fn tell_index(spec: &mut Value) {
    let path = format!("metadata.labels['{INDEX}']");
    let variable = json!({"name": INDEX_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    for list in ["initContainers", "containers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            if let Some(variables) = member(container, "env", json!([])).as_array_mut()
                && !variables.iter().any(|v| v["name"] == INDEX_VARIABLE)
            {
                variables.push(variable.clone());
            }
        }
    }
}

/// A member of an object, made if it is not there.
fn member<'a>(object: &'a mut Value, name: &str, empty: Value) -> &'a mut Value {
    let member = &mut object[name];
    if member.is_null() {
        *member = empty;
    }
    member
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_the_index() {
        assert_eq!(generate_name("job", 7), "job-7-");
        let long = generate_name(&"j".repeat(63), 12);
        assert_eq!((long.len(), long.ends_with("j-12-")), (58, true));
    }
}
