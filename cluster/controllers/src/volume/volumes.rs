//! What is to be done with a volume.

use super::types::{BOUND_BY_CONTROLLER, Claim, PROVISIONED_BY, Volume};
use strata_meta::Uid;

/// One step for a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nobody has it.
    Available,
    /// It is its claim's.
    Bound,
    /// Its claim is gone, or has another: the reclaim policy says what follows.
    Release,
    /// The claim will be bound to it when the claim is looked at.
    LeaveToClaim,
    /// It can never be what its claim asks for.
    WrongMode,
    /// The claim has another volume: this one is free again, or as it was reserved.
    Unbind,
}

/// `claim` is whatever has the name that the volume refers to.
pub(super) fn decide(volume: &Volume, claim: Option<&Claim>) -> Step {
    let Some(reference) = &volume.view.spec.claim_ref else {
        return Step::Available;
    };
    if reference.uid == Uid::default() {
        return Step::Available;
    }
    let Some(claim) = claim.filter(|claim| claim.uid == reference.uid) else {
        return Step::Release;
    };
    match claim.view.spec.volume_name.as_str() {
        "" if claim.view.mode() != volume.view.mode() => Step::WrongMode,
        "" => Step::LeaveToClaim,
        name if name == volume.name() => Step::Bound,
        _ if is_to_be_deleted(volume) => Step::Release,
        _ => Step::Unbind,
    }
}

/// Made for a claim that has found another.
fn is_to_be_deleted(volume: &Volume) -> bool {
    volume.view.has(PROVISIONED_BY) && volume.view.spec.persistent_volume_reclaim_policy == "Delete"
}

/// Whether the reference as a whole goes, and not only the identity in it.
pub(super) fn is_ours(volume: &Volume) -> bool {
    volume.view.has(BOUND_BY_CONTROLLER)
}

/// What the reclaim policy demands of a volume that is released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reclaim {
    /// It stays as it is, or somebody else deletes it.
    Nothing,
    /// The policy cannot be carried out: the reason and what to say.
    Failed(&'static str, String),
}

pub(super) fn reclaim(volume: &Volume) -> Reclaim {
    match volume.view.spec.persistent_volume_reclaim_policy.as_str() {
        "Retain" => Reclaim::Nothing,
        "Recycle" => Reclaim::Failed(
            "VolumeFailedRecycle",
            "No recycler plugin found for the volume!".to_owned(),
        ),
        "Delete" if volume.view.has_external_deleter() => Reclaim::Nothing,
        "Delete" => Reclaim::Failed(
            "VolumeFailedDelete",
            format!(
                "error getting deleter volume plugin for volume {:?}: no deletable volume plugin matched",
                volume.name()
            ),
        ),
        _ => Reclaim::Failed(
            "VolumeUnknownReclaimPolicy",
            "Volume has unrecognized PersistentVolumeReclaimPolicy".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracked::Tracked;
    use serde_json::{Value, json};
    use std::sync::Arc;
    use strata_meta::{GroupVersionKind, Object, Revision};

    fn object(kind: &str, value: &Value) -> Arc<Object> {
        let kind = Arc::new(GroupVersionKind::new("", "v1", kind));
        Arc::new(Object::from_value(kind, Revision(1), value).unwrap())
    }

    fn volume(annotations: Value, policy: &str, uid: Option<&str>) -> Volume {
        let reference = uid.map(|uid| json!({"namespace": "n", "name": "c", "uid": uid}));
        let value = json!({"metadata": {"name": "v", "annotations": annotations},
            "spec": {"claimRef": reference, "persistentVolumeReclaimPolicy": policy}});
        Tracked::decode(&object("PersistentVolume", &value)).unwrap()
    }

    fn claim(uid: &str, volume: &str, mode: &str) -> Claim {
        let value = json!({"metadata": {"name": "c", "namespace": "n", "uid": uid},
            "spec": {"volumeName": volume, "volumeMode": mode}});
        Tracked::decode(&object("PersistentVolumeClaim", &value)).unwrap()
    }

    #[test]
    fn a_volume_is_its_claims_until_that_is_gone() {
        let plain = |uid| volume(json!({}), "Retain", uid);
        let made = volume(json!({PROVISIONED_BY: "example.com/p"}), "Delete", Some("1"));
        let cases: [(Volume, Option<Claim>, Step); 9] = [
            (plain(None), None, Step::Available),
            (plain(Some("")), Some(claim("1", "", "Filesystem")), Step::Available),
            (plain(Some("1")), None, Step::Release),
            (plain(Some("1")), Some(claim("2", "v", "Filesystem")), Step::Release),
            (plain(Some("1")), Some(claim("1", "", "Filesystem")), Step::LeaveToClaim),
            (plain(Some("1")), Some(claim("1", "", "Block")), Step::WrongMode),
            (plain(Some("1")), Some(claim("1", "v", "Filesystem")), Step::Bound),
            (plain(Some("1")), Some(claim("1", "w", "Filesystem")), Step::Unbind),
            (made, Some(claim("1", "w", "Filesystem")), Step::Release),
        ];
        for (volume, claim, wanted) in cases {
            assert_eq!(decide(&volume, claim.as_ref()), wanted);
        }
    }

    #[test]
    fn only_who_made_a_volume_deletes_it() {
        let failed = |annotations, policy| matches!(reclaim(&volume(annotations, policy, None)), Reclaim::Failed(..));
        assert!(!failed(json!({}), "Retain"));
        assert!(failed(json!({}), "Recycle"));
        assert!(failed(json!({}), "Delete"));
        assert!(!failed(json!({PROVISIONED_BY: "example.com/p"}), "Delete"));
        assert!(failed(json!({PROVISIONED_BY: "kubernetes.io/host-path"}), "Delete"));
        assert!(failed(json!({}), "Burn"));
    }
}
