//! Who owns the claims of a stateful set's pods, as its retention policy says (KEP-1847).

use super::types::StatefulSet;
use crate::{claim::reference, views::Pod};
use strata_client::resources::{PODS, STATEFUL_SETS};
use strata_meta::{Object, OwnerReference};

/// A set and one of its pods.
pub(super) struct Owners<'a> {
    pub object: &'a Object,
    pub set: &'a StatefulSet,
    pub pod: &'a Pod,
    pub ordinal: i64,
}

fn names(reference: &OwnerReference, kind: &strata_client::Resource, object: &Object) -> bool {
    kind.is_kind(&reference.api_version, &reference.kind) && reference.name == object.name()
}

/// Whether a claim still belongs to another life of the pod of that name.
pub(super) fn belongs_to_former(claim: &Object, pod: &str, uid: Option<&strata_meta::Uid>) -> bool {
    claim.owners.iter().any(|owner| {
        PODS.is_kind(&owner.api_version, &owner.kind) && owner.name == pod && uid.is_none_or(|uid| owner.uid != *uid)
    })
}

impl Owners<'_> {
    fn is_set(&self, owner: &OwnerReference) -> bool {
        names(owner, &STATEFUL_SETS, self.object)
    }

    fn is_pod(&self, owner: &OwnerReference) -> bool {
        names(owner, &PODS, self.pod)
    }

    /// Another life of the set or the pod, which the garbage collector sees to.
    fn is_stale(&self, claim: &Object) -> bool {
        claim.owners.iter().any(|owner| {
            self.is_set(owner) && owner.uid != self.object.uid || self.is_pod(owner) && owner.uid != self.pod.uid
        })
    }

    /// Somebody else manages the claim: the policy does not apply to it.
    pub fn is_managed_by_others(&self, claim: &Object) -> bool {
        let (deleted, scaled) = self.set.deletes_claims();
        (deleted || scaled)
            && claim
                .owners
                .iter()
                .any(|owner| match (self.is_set(owner), self.is_pod(owner)) {
                    (true, _) => owner.uid != self.object.uid,
                    (_, true) => owner.uid != self.pod.uid,
                    (false, false) => owner.controller == Some(true),
                })
    }

    /// Whether (the set, the pod) are to own the claim.
    fn wanted(&self) -> (bool, bool) {
        let condemned = !self.set.ordinals().contains(&self.ordinal);
        match self.set.deletes_claims() {
            (false, false) => (false, false),
            (true, false) => (true, false),
            (false, true) => (false, condemned),
            (true, true) => (!condemned, condemned),
        }
    }

    /// Whether a claim has the owners it is to have.
    pub fn are_right(&self, claim: &Object) -> bool {
        if self.is_stale(claim) {
            return true;
        }
        let owned_by = |uid: &strata_meta::Uid| claim.owners.iter().any(|owner| owner.uid == *uid);
        let has = (owned_by(&self.object.uid), owned_by(&self.pod.uid));
        if self.is_managed_by_others(claim) {
            return has == (false, false);
        }
        let ours = |owner: &&OwnerReference| owner.uid == self.object.uid || owner.uid == self.pod.uid;
        let manages = claim
            .owners
            .iter()
            .filter(ours)
            .all(|owner| owner.controller == Some(true));
        manages && has == self.wanted()
    }

    /// The owners that a claim is to have.
    pub fn right(&self, claim: &Object) -> Vec<OwnerReference> {
        let others = claim.owners.iter().filter(|o| !self.is_set(o) && !self.is_pod(o));
        let mut owners: Vec<OwnerReference> = others.cloned().collect();
        if self.is_managed_by_others(claim) {
            return owners;
        }
        let (set, pod) = self.wanted();
        owners.extend(set.then(|| reference(self.object)));
        owners.extend(pod.then(|| reference(self.pod)));
        owners
    }
}
