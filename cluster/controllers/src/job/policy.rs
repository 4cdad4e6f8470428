//! What a job's policies make of its pods' ends.

use super::{
    intervals::Indexes,
    pod::JobPod,
    types::{Action, FailurePolicy, OnExitCodes, Spec, SuccessPolicy},
};

/// What the pod failure policy says of a failed pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Why the whole job fails.
    pub fails_job: Option<String>,
    /// Whether the failure counts towards the back-off limits.
    pub counts: bool,
    /// The action of the rule that matched.
    pub action: Option<Action>,
}

/// Judges a failed pod by the first rule that matches; without one its failure counts.
pub(super) fn judge(spec: &Spec, pod: &JobPod) -> Verdict {
    let matched = spec
        .pod_failure_policy
        .as_ref()
        .and_then(|policy| first_match(policy, pod));
    let Some((action, message)) = matched else {
        return Verdict {
            fails_job: None,
            counts: true,
            action: None,
        };
    };
    Verdict {
        fails_job: (action == Action::FailJob).then_some(message),
        counts: action != Action::Ignore,
        action: Some(action),
    }
}

fn first_match(policy: &FailurePolicy, pod: &JobPod) -> Option<(Action, String)> {
    policy.rules.iter().enumerate().find_map(|(at, rule)| {
        let (action, name) = (rule.action, rule.action.text());
        let message = if let Some(wanted) = &rule.on_exit_codes {
            let (container, code) = matching_exit(wanted, pod)?;
            format!(
                "Container {container} for pod {} failed with exit code {code} matching {name} rule at index {at}",
                pod.pod.key
            )
        } else {
            let patterns = rule.on_pod_conditions.as_ref()?;
            let matches = |c: &&crate::views::Condition| {
                patterns
                    .iter()
                    .any(|pattern| (&pattern.type_, &pattern.status) == (&c.type_, &c.status))
            };
            let condition = pod.conditions.iter().find(matches)?;
            let (key, type_) = (&pod.pod.key, &condition.type_);
            format!("Pod {key} has condition {type_} matching {name} rule at index {at}")
        };
        (action != Action::Unknown).then_some((action, message))
    })
}

fn matching_exit<'a>(wanted: &OnExitCodes, pod: &'a JobPod) -> Option<(&'a str, i32)> {
    let matches = |(name, code): &&(String, i32)| {
        let named = wanted.container_name.as_ref().is_none_or(|wanted| wanted == name);
        let listed = wanted.values.contains(code);
        let matches = match wanted.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        };
        named && *code != 0 && matches
    };
    let found = pod.exits.iter().find(matches)?;
    Some((&found.0, found.1))
}

/// Whether a failure makes the pod's index one that failed for good.
pub(super) fn fails_index(spec: &Spec, limit: i32, pod: &JobPod) -> bool {
    if !pod.has_failed(spec) {
        return false;
    }
    let verdict = judge(spec, pod);
    verdict.action == Some(Action::FailIndex) || (verdict.counts && pod.failures >= limit)
}

/// Why the job has succeeded by the first rule that matches.
pub(super) fn success(policy: &SuccessPolicy, completions: u32, succeeded: &Indexes) -> Option<String> {
    if succeeded.is_empty() {
        return None;
    }
    let at = policy.rules.iter().position(|rule| match &rule.succeeded_indexes {
        Some(text) => {
            let wanted = Indexes::parse(text, completions);
            let done = wanted.in_common(succeeded);
            !wanted.is_empty() && (done == wanted.count() || rule.succeeded_count.is_some_and(|count| done >= count))
        }
        None => rule.succeeded_count.is_some_and(|count| succeeded.count() >= count),
    })?;
    Some(format!("Matched rules at index {at}"))
}
