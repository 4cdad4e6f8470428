//! What the parameters of a list or watch may say together.

use crate::request::Query;
use strata_meta::{GroupKind, Status, StatusCause};

const MATCH: &str = "resourceVersionMatch";

/// Errors: 400 for what is no number, 422 for what contradicts.
pub(crate) fn check(query: &Query, watch: bool) -> Result<(), Status> {
    for name in ["limit", "timeoutSeconds"] {
        query.whole(name)?;
    }
    let mut causes = Vec::new();
    if watch {
        check_watch(query, &mut causes);
    } else {
        check_list(query, &mut causes);
    }
    if causes.is_empty() {
        return Ok(());
    }
    let kind = GroupKind {
        group: "meta.k8s.io".into(),
        kind: "ListOptions".into(),
    };
    Err(Status::invalid(&kind, "", causes))
}

fn check_list(query: &Query, causes: &mut Vec<StatusCause>) {
    let mut forbid = |field: &str, why: &str| causes.push(StatusCause::forbidden(field, why));
    let (matching, revision) = (query.get(MATCH), query.get("resourceVersion"));
    if !matching.is_empty() {
        if revision.is_empty() {
            forbid(
                MATCH,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            );
        }
        if !query.get("continue").is_empty() {
            forbid(MATCH, "resourceVersionMatch is forbidden when continue is provided");
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            causes.push(StatusCause::not_supported(
                MATCH,
                matching,
                &["Exact", "NotOlderThan", ""],
            ));
        } else if matching == "Exact" && revision == "0" {
            forbid(
                MATCH,
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            );
        }
    }
    if query.bool("sendInitialEvents").is_some() {
        causes.push(StatusCause::forbidden(
            "sendInitialEvents",
            "sendInitialEvents is forbidden for list",
        ));
    }
}

fn check_watch(query: &Query, causes: &mut Vec<StatusCause>) {
    let mut forbid = |why: &str| causes.push(StatusCause::forbidden(MATCH, why));
    let matching = query.get(MATCH);
    let initial = query.bool("sendInitialEvents").is_some();
    if initial && matching != "NotOlderThan" {
        forbid("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    if !matching.is_empty() && !initial {
        forbid("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
    }
    if !query.get("continue").is_empty() {
        forbid("resourceVersionMatch is forbidden when continue is provided");
    }
    if !matches!(matching, "" | "NotOlderThan") {
        causes.push(StatusCause::not_supported(MATCH, matching, &["NotOlderThan"]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_named_together() {
        let said = |query: &str, watch| check(&Query::parse(query), watch).map_err(|s| s.message);
        assert!(said("limit=5&resourceVersion=1&resourceVersionMatch=Exact", false).is_ok());
        assert!(said("sendInitialEvents=true&resourceVersionMatch=NotOlderThan", true).is_ok());
        assert_eq!(
            said("timeoutSeconds=x", true).expect_err("no number"),
            "strconv.ParseInt: parsing \"x\": invalid syntax"
        );
        assert_eq!(
            said("sendInitialEvents=true&resourceVersionMatch=Exact", true).expect_err("exact"),
            "ListOptions.meta.k8s.io \"\" is invalid: [resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan, resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"]"
        );
        assert!(said("sendInitialEvents=true", false).is_err() && said("continue=x", true).is_err());
    }
}
