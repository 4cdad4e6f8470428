//! What an object needs, given the state of its owners.

use strata_client::Propagation;
use strata_meta::{OwnerReference, Uid};

pub(super) const FOREGROUND: &str = "foregroundDeletion";
pub(super) const ORPHAN: &str = "orphan";

/// What became of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnerState {
    /// It is there.
    Solid,
    /// It is not.
    Dangling,
    /// It is being deleted in the foreground and waits for its dependents.
    Waiting,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    /// Take away the references to these owners.
    Release(Vec<Uid>),
    /// Delete the object, after it stopped holding its owners back if asked for.
    Delete {
        propagation: Propagation,
        unblock: bool,
    },
}

/// What the deletion of an object rests on.
pub(super) struct Item<'a> {
    pub owners: &'a [(OwnerReference, OwnerState)],
    pub finalizers: &'a [String],
    /// Whether it has dependents itself, and whether one of them is waiting: then there may
    /// be a circle.
    pub dependents: bool,
    pub dependent_waits: bool,
}

pub(super) fn decide(item: &Item<'_>) -> Action {
    let of = |state: OwnerState| item.owners.iter().filter(move |(_, s)| *s == state);
    if item.owners.is_empty() {
        return Action::Nothing;
    }
    if of(OwnerState::Solid).next().is_some() {
        let useless = item.owners.iter().filter(|(_, s)| *s != OwnerState::Solid);
        let useless: Vec<Uid> = useless.map(|(owner, _)| owner.uid.clone()).collect();
        return match useless.is_empty() {
            true => Action::Nothing,
            false => Action::Release(useless),
        };
    }
    if of(OwnerState::Waiting).next().is_some() && item.dependents {
        return Action::Delete {
            propagation: Propagation::Foreground,
            unblock: item.dependent_waits,
        };
    }
    let has = |finalizer: &str| item.finalizers.iter().any(|f| f == finalizer);
    // What was asked for when the object was deleted, or nothing in particular.
    let propagation = match (has(ORPHAN), has(FOREGROUND)) {
        (true, _) => Propagation::Orphan,
        (false, true) => Propagation::Foreground,
        (false, false) => Propagation::Background,
    };
    Action::Delete {
        propagation,
        unblock: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::garbage::graph::tests::reference;
    use OwnerState::{Dangling, Solid, Waiting};

    fn run(states: &[OwnerState], finalizers: &[&str], dependents: bool, dependent_waits: bool) -> Action {
        let owners: Vec<_> = states
            .iter()
            .enumerate()
            .map(|(i, s)| (reference(&format!("rs{i}"), true), *s))
            .collect();
        let finalizers: Vec<String> = finalizers.iter().map(|f| (*f).to_owned()).collect();
        decide(&Item {
            owners: &owners,
            finalizers: &finalizers,
            dependents,
            dependent_waits,
        })
    }

    #[test]
    fn the_state_of_the_owners_decides() {
        let delete = |propagation| Action::Delete {
            propagation,
            unblock: false,
        };
        assert_eq!(run(&[], &[], false, false), Action::Nothing);
        assert_eq!(run(&[Solid], &[], false, false), Action::Nothing);
        assert_eq!(
            run(&[Solid, Dangling, Waiting], &[], true, false),
            Action::Release(vec!["rs1".into(), "rs2".into()])
        );
        assert_eq!(run(&[Dangling], &[], true, false), delete(Propagation::Background));
        assert_eq!(
            run(&[Dangling], &[FOREGROUND], true, false),
            delete(Propagation::Foreground)
        );
        assert_eq!(
            run(&[Dangling], &[ORPHAN, FOREGROUND], true, false),
            delete(Propagation::Orphan)
        );
        assert_eq!(run(&[Waiting], &[], false, false), delete(Propagation::Background));
        assert_eq!(
            run(&[Waiting, Dangling], &[], true, false),
            delete(Propagation::Foreground)
        );
        let circle = Action::Delete {
            propagation: Propagation::Foreground,
            unblock: true,
        };
        assert_eq!(run(&[Waiting], &[], true, true), circle);
    }
}
