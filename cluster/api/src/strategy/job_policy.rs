//! What a job makes of its pods' ends: `podFailurePolicy`, `successPolicy`, `podReplacementPolicy`
//! (k8s.io/kubernetes/pkg/apis/batch/validation).

use super::Causes;
use crate::{json, validate::Field};
use serde_json::Value;
use strata_meta::{StatusCause, names};

/// All three.
pub(super) fn policies(spec: &Field<'_>, causes: &mut Causes) {
    let (failure, success) = (spec.at("podFailurePolicy"), spec.at("successPolicy"));
    if failure.is_set() {
        failure_policy(spec, &failure, causes);
    }
    if success.is_set() && spec.at("completionMode").text() == "Indexed" {
        success_policy(spec, &success, causes);
    } else if success.is_set() {
        causes.push(success.invalid_shown(go_policy(&success), "requires indexed completion mode"));
    }
    let known: &[&str] = if failure.is_set() {
        &["Failed"]
    } else {
        &["Failed", "TerminatingOrFailed"]
    };
    spec.at("podReplacementPolicy").if_one_of(causes, known);
}

fn failure_policy(spec: &Field<'_>, policy: &Field<'_>, causes: &mut Causes) {
    const MOST: usize = 20;
    let rules = policy.at("rules");
    if rules.len() > MOST {
        causes.push(rules.too_many(MOST));
    }
    for rule in rules.items() {
        let action = rule.at("action");
        match action.text() {
            "" => causes.push(action.required("valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]")),
            "FailIndex" if !spec.at("backoffLimitPerIndex").is_set() => {
                causes.push(action.invalid("requires the backoffLimitPerIndex to be set"));
            }
            _ => action.if_one_of(causes, &["Count", "FailIndex", "FailJob", "Ignore"]),
        }
        let (codes, conditions) = (rule.at("onExitCodes"), rule.at("onPodConditions"));
        if codes.is_set() {
            exit_codes(spec, &codes, causes);
        }
        pod_conditions(&conditions, causes);
        let bare = |why: &str| StatusCause {
            reason: "FieldValueInvalid".into(),
            message: format!("Invalid value: {why}"),
            field: rule.path().to_owned(),
        };
        match (codes.is_set(), conditions.is_empty()) {
            (true, false) => causes.push(bare("specifying both OnExitCodes and OnPodConditions is not supported")),
            (false, true) => causes.push(bare("specifying one of OnExitCodes and OnPodConditions is required")),
            _ => {}
        }
    }
}

fn exit_codes(spec: &Field<'_>, codes: &Field<'_>, causes: &mut Causes) {
    const MOST: usize = 255;
    let (operator, container, values) = (codes.at("operator"), codes.at("containerName"), codes.at("values"));
    if operator.is_empty() {
        causes.push(operator.required("valid values: [\"In\" \"NotIn\"]"));
    } else {
        operator.if_one_of(causes, &["In", "NotIn"]);
    }
    let lists = ["template.spec.containers", "template.spec.initContainers"];
    let mut containers = lists.iter().flat_map(|list| json::list(spec.value(), list));
    if container.is_set() && !containers.any(|c| json::text(c, "name") == container.text()) {
        causes.push(container.invalid("must be one of the container or initContainer names in the pod template"));
    }
    match values.len() {
        0 => causes.push(values.invalid_as(Value::Null, "at least one value is required")),
        n if n > MOST => causes.push(values.too_many(MOST)),
        _ => {}
    }
    let mut seen: Vec<i64> = Vec::new();
    for value in values.items() {
        let code = value.int().unwrap_or(0);
        if operator.text() == "In" && code == 0 {
            causes.push(value.invalid("must not be 0 for the In operator"));
        }
        if seen.contains(&code) {
            causes.push(value.duplicate());
        }
        seen.push(code);
    }
    if !seen.is_sorted() {
        causes.push(values.invalid("must be ordered"));
    }
}

fn pod_conditions(conditions: &Field<'_>, causes: &mut Causes) {
    const MOST: usize = 20;
    if conditions.len() > MOST {
        causes.push(conditions.too_many(MOST));
    }
    for condition in conditions.items() {
        let (kind, status) = (condition.at("type"), condition.at("status"));
        let problems = names::qualified_name(kind.text());
        causes.extend(problems.iter().map(|why| kind.invalid_as(kind.text(), why)));
        if status.is_empty() {
            causes.push(status.required("valid values: [\"False\" \"True\" \"Unknown\"]"));
        } else {
            status.if_one_of(causes, &["False", "True", "Unknown"]);
        }
    }
}

fn success_policy(spec: &Field<'_>, policy: &Field<'_>, causes: &mut Causes) {
    const MOST: usize = 20;
    const LONGEST: usize = 64 << 10;
    let rules = policy.at("rules");
    if rules.is_empty() {
        causes.push(rules.required("at least one rules must be specified when the successPolicy is specified"));
    } else if rules.len() > MOST {
        causes.push(rules.too_many(MOST));
    }
    // Its absence is reported elsewhere.
    let Some(completions) = spec.at("completions").int() else {
        return;
    };
    for rule in rules.items() {
        let (indexes, count) = (rule.at("succeededIndexes"), rule.at("succeededCount"));
        if !indexes.is_set() && !count.is_set() {
            causes.push(rule.required("at least one of succeededCount or succeededIndexes must be specified"));
        }
        if indexes.text().len() > LONGEST {
            causes.push(indexes.too_long(LONGEST));
        }
        let total = index_count(indexes.text(), completions).unwrap_or_else(|why| {
            causes.push(indexes.invalid(format_args!("error parsing succeededIndexes: {why}")));
            0
        });
        let Some(wanted) = count.int() else { continue };
        count.not_negative(causes);
        let why = "must be less than or equal to";
        if wanted > completions {
            let what = "(the number of specified completions)";
            causes.push(count.invalid(format_args!("{why} {completions} {what}")));
        }
        if indexes.is_set() && wanted > total {
            let what = "(the number of indexes in the specified succeededIndexes field)";
            causes.push(count.invalid(format_args!("{why} {total} {what}")));
        }
    }
}

/// How many indexes a text like `1,3-5` names. Errors: upstream's sentence.
pub(super) fn index_count(text: &str, completions: i64) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let index = |part: &str| match part.parse::<i64>() {
        Err(_) => Err(format!("cannot convert string to integer for index: {part:?}")),
        Ok(n) if n >= completions => Err(format!("too large index: {part:?}")),
        Ok(n) => Ok(n),
    };
    let order = |last: i64, next: i64| match last < next {
        true => Ok(()),
        false => Err(format!("non-increasing order, previous: {last}, current: {next}")),
    };
    let (mut last, mut total) = (None, 0);
    for part in text.split(',') {
        let ends: Vec<&str> = part.split('-').collect();
        let first = match ends.as_slice() {
            [first] | [first, _] => index(first)?,
            _ => {
                let rule =
                    "violates the requirement that an index interval can have at most two parts separated by '-'";
                return Err(format!("the fragment {part:?} {rule}"));
            }
        };
        let end = ends.get(1).map_or(Ok(first), |end| index(end))?;
        if ends.len() == 2 {
            order(first, end)?;
        }
        if let Some(last) = last {
            order(last, first)?;
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

/// A success policy as upstream prints it: by Go's names.
fn go_policy(policy: &Field<'_>) -> String {
    let rule = |rule: Field<'_>| {
        let (indexes, count) = (rule.at("succeededIndexes"), rule.at("succeededCount"));
        format!(
            "{{\"SucceededIndexes\":{},\"SucceededCount\":{}}}",
            indexes.value(),
            count.value()
        )
    };
    let rules: Vec<String> = policy.at("rules").items().map(rule).collect();
    match policy.at("rules").is_set() {
        true => format!("{{\"Rules\":[{}]}}", rules.join(",")),
        false => "{\"Rules\":null}".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::index_count;

    #[test]
    fn indexes_are_counted_or_refused_in_upstreams_words() {
        for (text, outcome) in [
            ("", Ok(0)),
            ("0-1", Ok(2)),
            ("0,2-4", Ok(4)),
            ("1,1", Err("non-increasing order, previous: 1, current: 1")),
            ("4-3", Err("non-increasing order, previous: 4, current: 3")),
            ("9", Err("too large index: \"9\"")),
            ("x", Err("cannot convert string to integer for index: \"x\"")),
        ] {
            assert_eq!(index_count(text, 5), outcome.map_err(str::to_owned), "{text}");
        }
    }
}
