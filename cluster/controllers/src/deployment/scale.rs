//! The arithmetic of rollouts: how many pods each replica set should have.

use super::types::{DESIRED_REPLICAS, Deployment, MAX_REPLICAS, Set};
use std::cmp::Reverse;

/// How many pods the newest set may have now.
pub(super) fn new_set_size(deployment: &Deployment, total: i32, current: i32) -> i32 {
    if !deployment.is_rolling() {
        return deployment.replicas();
    }
    let most = deployment.replicas() + deployment.max_surge();
    match total >= most {
        true => current,
        false => current + (most - total).min(deployment.replicas() - current),
    }
}

/// Sizes of the old sets after one step of a rolling update, by name; only those that change.
pub(super) fn shrink_old(deployment: &Deployment, new: &Set, old: &[Set]) -> Vec<(String, i32)> {
    let min_available = deployment.replicas() - deployment.max_unavailable();
    let total: i32 = old.iter().map(|s| s.replicas).sum::<i32>() + new.replicas;
    let new_unavailable = new.replicas - new.status.available_replicas;
    let most = total - min_available - new_unavailable;
    let mut sets: Vec<Set> = old.iter().filter(|s| s.replicas > 0).cloned().collect();
    if sets.is_empty() || most <= 0 {
        return Vec::new();
    }
    sets.sort_by_key(Set::age);
    // Pods that serve nobody go first; that makes nothing unavailable.
    let mut cleaned = 0;
    for set in sets.iter_mut().filter(|s| s.replicas != s.status.available_replicas) {
        let count = (most - cleaned).min(set.replicas - set.status.available_replicas);
        if count > 0 {
            set.replicas -= count;
            cleaned += count;
        }
    }
    let available: i32 = sets.iter().map(|s| s.status.available_replicas).sum::<i32>() + new.status.available_replicas;
    let mut left = available - min_available;
    for set in &mut sets {
        let count = set.replicas.min(left);
        if count > 0 {
            set.replicas -= count;
            left -= count;
        }
    }
    let before = |name: &str| old.iter().find(|s| s.name == name).map(|s| s.replicas);
    sets.into_iter()
        .filter(|s| before(&s.name) != Some(s.replicas))
        .map(|s| (s.name, s.replicas))
        .collect()
}

/// Whether the deployment was resized since the sets were last scaled.
pub(super) fn is_resized(deployment: &Deployment, sets: &[&Set]) -> bool {
    let active = sets.iter().filter(|s| s.replicas > 0);
    active
        .filter_map(|s| s.noted(DESIRED_REPLICAS))
        .any(|noted| noted != deployment.replicas())
}

/// Sizes after a resize, or while paused: `(name, size, write even if unchanged)`.
pub(super) fn resize(deployment: &Deployment, new: Option<&Set>, old: &[Set]) -> Vec<(String, i32, bool)> {
    let wanted = deployment.replicas();
    if let Some(only) = active_or_latest(new, old) {
        return vec![(only.name.clone(), wanted, false)];
    }
    if new.is_some_and(|set| is_saturated(deployment, set)) {
        return old
            .iter()
            .filter(|s| s.replicas > 0)
            .map(|s| (s.name.clone(), 0, false))
            .collect();
    }
    if !deployment.is_rolling() {
        return Vec::new();
    }
    proportional(deployment, old.iter().chain(new).filter(|s| s.replicas > 0).collect())
}

/// The only set with pods; without one, the newest.
fn active_or_latest<'a>(new: Option<&'a Set>, old: &'a [Set]) -> Option<&'a Set> {
    let active: Vec<&Set> = old.iter().chain(new).filter(|s| s.replicas > 0).collect();
    match active.as_slice() {
        [] => new.or_else(|| old.iter().max_by_key(|s| s.age())),
        [only] => Some(only),
        _ => None,
    }
}

fn is_saturated(deployment: &Deployment, set: &Set) -> bool {
    let wanted = deployment.replicas();
    set.replicas == wanted && set.noted(DESIRED_REPLICAS) == Some(wanted) && set.status.available_replicas == wanted
}

/// Spreads what is added or removed over the sets in proportion to their sizes, so that a
/// rollout that is under way neither speeds up nor slows down.
fn proportional(deployment: &Deployment, mut sets: Vec<&Set>) -> Vec<(String, i32, bool)> {
    let wanted = deployment.replicas();
    let allowed = if wanted > 0 { wanted + deployment.max_surge() } else { 0 };
    let to_add = allowed - sets.iter().map(|s| s.replicas).sum::<i32>();
    match to_add {
        1.. => sets.sort_by_key(|s| (Reverse(s.replicas), Reverse(s.age()))),
        _ => sets.sort_by_key(|s| (Reverse(s.replicas), s.age())),
    }
    let mut added = 0;
    let mut sizes: Vec<(String, i32, bool)> = Vec::with_capacity(sets.len());
    for set in &sets {
        let share = share(deployment, set, to_add, added);
        added += share;
        sizes.push((set.name.clone(), set.replicas + share, true));
    }
    if let Some((_, size, _)) = sizes.first_mut() {
        *size = (*size + to_add - added).max(0);
    }
    sizes
}

fn share(deployment: &Deployment, set: &Set, to_add: i32, added: i32) -> i32 {
    if set.replicas == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let fraction = fraction(deployment, set);
    match to_add > 0 {
        true => fraction.min(to_add - added),
        false => fraction.max(to_add - added),
    }
}

fn fraction(deployment: &Deployment, set: &Set) -> i32 {
    if deployment.replicas() == 0 {
        return -set.replicas;
    }
    let before = match set.noted(MAX_REPLICAS) {
        Some(noted) if noted > 0 => noted,
        _ => deployment.status.replicas,
    };
    if before == 0 {
        return 0;
    }
    let most = deployment.replicas() + deployment.max_surge();
    let size = f64::from(set.replicas) * f64::from(most) / f64::from(before);
    // In range: a product of two replica counts divided by a third, then clamped by the callers.
    size.round().clamp(0.0, f64::from(i32::MAX)) as i32 - set.replicas
}
