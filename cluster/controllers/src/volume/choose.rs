//! Which volume suits a claim.

use super::types::{Claim, Volume, is_bound_to};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use strata_meta::Selector;

/// The best of the candidates: one that is reserved for the claim, else the smallest; of those with the fewest access
/// modes beyond the wanted. Where the scheduler chooses (`delayed`), only a reserved one is found.
pub(super) fn best(claim: &Claim, candidates: &[Arc<Volume>], delayed: bool) -> Option<Arc<Volume>> {
    let selector = claim
        .view
        .spec
        .selector
        .as_ref()
        .map(strata_meta::LabelSelector::to_selector);
    let selector: Option<Selector> = match selector {
        Some(Ok(selector)) => Some(selector),
        None => None,
        // Validation lets none in.
        Some(Err(_)) => return None,
    };
    let mut groups: BTreeMap<(usize, BTreeSet<&str>), Vec<&Arc<Volume>>> = BTreeMap::new();
    for volume in candidates {
        let modes: BTreeSet<&str> = volume.view.spec.access_modes.iter().map(String::as_str).collect();
        groups.entry((modes.len(), modes)).or_default().push(volume);
    }
    let wanted = &claim.view.spec.access_modes;
    let mut suitable = groups
        .into_iter()
        .filter(|((_, modes), _)| wanted.iter().all(|mode| modes.contains(mode.as_str())));
    suitable.find_map(|(_, group)| best_of_group(claim, &group, selector.as_ref(), delayed))
}

fn best_of_group(
    claim: &Claim,
    volumes: &[&Arc<Volume>],
    selector: Option<&Selector>,
    delayed: bool,
) -> Option<Arc<Volume>> {
    let mut smallest: Option<&Arc<Volume>> = None;
    for volume in volumes.iter().copied().filter(|volume| fits(claim, volume)) {
        if is_bound_to(volume, claim) {
            return Some(volume.clone());
        }
        let free = volume.view.spec.claim_ref.is_none()
            && volume.view.status.phase == "Available"
            && volume.view.class() == claim.view.class()
            && selector.is_none_or(|s| s.matches_object(volume));
        let smaller = smallest.is_none_or(|s| volume.view.capacity() < s.view.capacity());
        if !delayed && free && smaller {
            smallest = Some(volume);
        }
    }
    smallest.cloned()
}

/// What must hold even of a volume that is reserved for the claim.
fn fits(claim: &Claim, volume: &Volume) -> bool {
    volume.view.capacity() >= claim.view.requested()
        && volume.view.mode() == claim.view.mode()
        && volume.view.attributes_class() == claim.view.attributes_class()
        && !volume.deleting
}

/// Why the volume that a claim names does not suit it.
pub(super) fn mismatch(claim: &Claim, volume: &Volume) -> Option<String> {
    let (wanted, have) = (&claim.view, &volume.view);
    let has_mode = |mode: &String| have.spec.access_modes.contains(mode);
    let why = if volume.deleting {
        return Some(format!("the volume is marked for deletion {:?}", volume.name()));
    } else if have.capacity().value() < wanted.requested().value() {
        "requested PV is too small"
    } else if have.class() != wanted.class() {
        "storageClassName does not match"
    } else if have.attributes_class() != wanted.attributes_class() {
        "volumeAttributesClassName does not match"
    } else if have.mode() != wanted.mode() {
        "incompatible volumeMode"
    } else if !wanted.spec.access_modes.iter().all(has_mode) {
        "incompatible accessMode"
    } else {
        return None;
    };
    Some(why.to_owned())
}
