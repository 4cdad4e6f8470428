//! Rules of DeleteOptions.

use serde_json::Value;
use strata_meta::StatusCause;

/// What is wrong with the options of a deletion.
pub(crate) fn delete_options(options: &Value) -> Vec<StatusCause> {
    let mut causes = Vec::new();
    let policy = options.get("propagationPolicy").and_then(Value::as_str);
    let orphan = options.get("orphanDependents").is_some_and(|v| !v.is_null());
    if policy.is_some() && orphan {
        let why = "orphanDependents and deletionPropagation cannot be both set";
        causes.push(StatusCause::invalid("propagationPolicy", policy.unwrap_or(""), why));
    } else if let Some(policy) = policy
        && !matches!(policy, "Foreground" | "Background" | "Orphan")
    {
        causes.push(StatusCause::not_supported(
            "propagationPolicy",
            policy,
            &["Foreground", "Background", "Orphan", "nil"],
        ));
    }
    for entry in options.get("dryRun").and_then(Value::as_array).into_iter().flatten() {
        if entry != "All" {
            causes.push(StatusCause::not_supported(
                "dryRun",
                entry.as_str().unwrap_or(""),
                &["All"],
            ));
        }
    }
    causes
}
