//! Revisions and the other annotations that a deployment and its replica sets share.

use super::types::{Annotations, DESIRED_REPLICAS, Deployment, MAX_REPLICAS, REVISION, REVISION_HISTORY, Set};

/// Upstream's bound of the list of former revisions.
const HISTORY_MAX: usize = 2_000;
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

/// The revision that follows those of the old sets.
pub(super) fn next(old: &[Set]) -> i64 {
    old.iter().map(Set::revision).max().unwrap_or(0) + 1
}

/// Gives the newest set its revision and the deployment's annotations. A set that had a
/// lower revision was rolled back to; the revisions it had are remembered.
pub(super) fn annotate(deployment: &Deployment, annotations: &mut Annotations, revision: i64) {
    let copied = deployment
        .metadata
        .annotations
        .iter()
        .filter(|(key, _)| !NOT_COPIED.contains(&key.as_str()));
    annotations.extend(copied.map(|(k, v)| (k.clone(), v.clone())));
    let previous = annotations.get(REVISION).cloned();
    let had = match previous.as_deref().unwrap_or("0").parse::<i64>() {
        Ok(number) => number,
        Err(_) => return,
    };
    if had >= revision {
        return;
    }
    annotations.insert(REVISION.into(), revision.to_string());
    if let Some(previous) = previous {
        let history = annotations.get(REVISION_HISTORY).map_or("", String::as_str);
        let history = remember(history, &previous);
        annotations.insert(REVISION_HISTORY.into(), history);
    }
}

fn remember(history: &str, revision: &str) -> String {
    let mut revisions: Vec<&str> = history.split(',').filter(|r| !r.is_empty()).collect();
    revisions.push(revision);
    while revisions.len() > 1 && revisions.iter().map(|r| r.len() + 1).sum::<usize>() > HISTORY_MAX {
        revisions.remove(0);
    }
    revisions.join(",")
}

/// Notes the size that proportional scaling later compares with.
pub(super) fn note_size(deployment: &Deployment, annotations: &mut Annotations) {
    let desired = deployment.replicas();
    annotations.insert(DESIRED_REPLICAS.into(), desired.to_string());
    annotations.insert(MAX_REPLICAS.into(), (desired + deployment.max_surge()).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rolling_back_remembers_the_revisions_a_set_had() {
        let deployment: Deployment =
            serde_json::from_value(json!({"metadata": {"annotations": {"note": "x", REVISION: "9"}}})).unwrap();
        let mut annotations = Annotations::new();
        for (revision, expected, history) in [
            (1, "1", None),
            (1, "1", None),
            (4, "4", Some("1")),
            (6, "6", Some("1,4")),
        ] {
            annotate(&deployment, &mut annotations, revision);
            assert_eq!(annotations[REVISION], expected);
            assert_eq!(annotations.get(REVISION_HISTORY).map(String::as_str), history);
        }
        assert_eq!(annotations["note"], "x");
    }
}
