//! Who manages what: adoption and release by controller reference.

use serde_json::{Value, json};
use strata_client::Patch;
use strata_meta::{Object, OwnerReference, Selector, Uid};

/// What to do with one object that an owner may claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is the owner's.
    Keep,
    /// It is nobody's and matches: the owner takes it.
    Adopt,
    /// It was the owner's and no longer matches: the owner lets it go.
    Release,
    /// It is not the owner's concern.
    Ignore,
}

/// Decides as upstream's BaseControllerRefManager. `being_deleted` tells of the owner.
pub(crate) fn decide(owner: &Uid, being_deleted: bool, selector: &Selector, object: &Object) -> Claim {
    let matches = selector.matches_object(object);
    match object.controller() {
        Some(reference) if reference.uid != *owner => Claim::Ignore,
        Some(_) if matches => Claim::Keep,
        Some(_) if being_deleted => Claim::Ignore,
        Some(_) => Claim::Release,
        None if being_deleted || !matches || object.deleting => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// The reference by which `owner` manages its dependents.
pub(crate) fn reference(owner: &Object) -> OwnerReference {
    OwnerReference {
        api_version: owner.kind.api_version(),
        kind: owner.kind.kind.clone(),
        name: owner.name().to_owned(),
        uid: owner.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Adds the reference, to this life of the dependent only.
pub(crate) fn adoption(owner: &Object, dependent: &Object) -> Patch {
    Patch::Strategic(json!({"metadata": {"uid": dependent.uid, "ownerReferences": [reference(owner)]}}))
}

/// Takes the references to these owners away, in the dependent's present state only.
pub(crate) fn removal(dependent: &Object, owners: &[&Uid]) -> Patch {
    let keep: Vec<&OwnerReference> = dependent.owners.iter().filter(|o| !owners.contains(&&o.uid)).collect();
    let keep = if keep.is_empty() { Value::Null } else { json!(keep) };
    Patch::Merge(json!({"metadata": {
        "uid": dependent.uid,
        "resourceVersion": dependent.revision.to_string(),
        "ownerReferences": keep,
    }}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use strata_meta::{GroupVersionKind, Revision};

    fn pod(label: &str, controller: Option<&str>, deleting: bool) -> Object {
        let mut meta = json!({"name": "p", "namespace": "n", "uid": "p", "labels": {"app": label}});
        if let Some(uid) = controller {
            let owner =
                json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "o", "uid": uid, "controller": true});
            meta["ownerReferences"] = json!([owner]);
        }
        if deleting {
            meta["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        let kind = Arc::new(GroupVersionKind::new("", "v1", "Pod"));
        Object::from_value(kind, Revision(1), &json!({"metadata": meta})).unwrap()
    }

    #[test]
    fn claims_follow_the_reference_then_the_selector() {
        let selector = Selector::parse("app=web").unwrap();
        let me = Uid::from("me");
        for (label, controller, pod_deleting, me_deleting, expected) in [
            ("web", Some("me"), false, false, Claim::Keep),
            ("web", Some("me"), true, true, Claim::Keep),
            ("db", Some("me"), false, false, Claim::Release),
            ("db", Some("me"), false, true, Claim::Ignore),
            ("web", Some("other"), false, false, Claim::Ignore),
            ("web", None, false, false, Claim::Adopt),
            ("web", None, true, false, Claim::Ignore),
            ("web", None, false, true, Claim::Ignore),
            ("db", None, false, false, Claim::Ignore),
        ] {
            let claim = decide(&me, me_deleting, &selector, &pod(label, controller, pod_deleting));
            assert_eq!(claim, expected, "{label} {controller:?} {pod_deleting} {me_deleting}");
        }
    }

    #[test]
    fn removing_the_last_reference_removes_the_member() {
        let Patch::Merge(body) = removal(&pod("web", Some("me"), false), &[&Uid::from("me")]) else {
            panic!("merge")
        };
        assert!(body["metadata"]["ownerReferences"].is_null());
    }
}
