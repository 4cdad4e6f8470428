//! What differs between two values, and which paths a value sets.

use super::element;
use super::node::{Identity, Node};
use super::set::Set;
use super::walk::{Treatment, anything, identify, identities, is_hollow, list, member, members, treatment};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// What a comparison found.
#[derive(Clone, Default)]
pub(super) struct Comparison {
    pub(super) added: Set,
    pub(super) removed: Set,
    pub(super) modified: Set,
}

/// What happened to a value as a whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    None,
    Added,
    Removed,
    Modified,
}

type Found = Result<(Change, Comparison), String>;

impl Comparison {
    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.modified.is_empty()
    }

    /// Each of the three.
    pub(super) fn sets_mut(&mut self) -> [&mut Set; 3] {
        [&mut self.added, &mut self.removed, &mut self.modified]
    }

    /// Puts in what was found at a step; its text is only made if there is something.
    fn insert(&mut self, step: impl FnOnce() -> String, (change, below): (Change, Comparison)) {
        if change == Change::None && below.is_empty() {
            return;
        }
        let step = step();
        for (set, kind, below) in [
            (&mut self.added, Change::Added, below.added),
            (&mut self.removed, Change::Removed, below.removed),
            (&mut self.modified, Change::Modified, below.modified),
        ] {
            if change == kind || !below.is_empty() {
                set.merge(step.clone(), change == kind, below);
            }
        }
    }
}

/// What differs between two values. Errors: an item that cannot be told from others.
pub(super) fn compare(node: &dyn Node, old: &Value, new: &Value) -> Result<Comparison, String> {
    difference(node, Some(old), Some(new)).map(|(_, below)| below)
}

/// What happened to the value itself, and what differs below it.
fn difference(node: &dyn Node, old: Option<&Value>, new: Option<&Value>) -> Found {
    let mut below = Comparison::default();
    match (old, new) {
        (None, Some(value)) => {
            below.added = everything(node, value)?;
            return Ok((Change::Added, below));
        }
        (Some(value), None) => {
            below.removed = everything(node, value)?;
            return Ok((Change::Removed, below));
        }
        _ if old == new => return Ok((Change::None, below)),
        _ => {}
    }
    let mut treatment = treatment(node);
    if let Treatment::Any = treatment {
        treatment = match (old, new) {
            (Some(Value::Object(_)), None | Some(Value::Null | Value::Object(_)))
            | (None | Some(Value::Null), Some(Value::Object(_))) => Treatment::Object(anything()),
            (Some(Value::Object(_)), _) | (_, Some(Value::Object(_))) => return mismatch(old, new),
            _ => Treatment::Leaf,
        };
    }
    let leaf = matches!(treatment, Treatment::Leaf) || (is_hollow(old) && is_hollow(new));
    let change = match (old, new) {
        (Some(Value::Number(a)), Some(Value::Number(b))) if a.as_f64() == b.as_f64() && a.as_i64() == b.as_i64() => {
            Change::None
        }
        _ if leaf => Change::Modified,
        _ => Change::None,
    };
    match treatment {
        _ if leaf => {}
        Treatment::Leaf | Treatment::Any => {}
        Treatment::List(item, identity) => compare_lists(item, identity, list(old), list(new), &mut below)?,
        Treatment::Object(others) => compare_members(node, others, members(old), members(new), &mut below)?,
    }
    Ok((change, below))
}

/// What lies below a value that came or went as a whole.
fn everything(node: &dyn Node, value: &Value) -> Result<Set, String> {
    let mut below = Set::default();
    match (treatment(node), value) {
        (Treatment::Object(others), Value::Object(members)) => {
            for (name, value) in members {
                let set = everything(member(node, others, name).0, value)?;
                below.put(element::field(name), true, set);
            }
        }
        (Treatment::Any, Value::Object(members)) => {
            for (name, value) in members {
                below.put(element::field(name), true, everything(anything(), value)?);
            }
        }
        (Treatment::List(item, identity), Value::Array(items)) => {
            let steps = identities(item, identity, items)?;
            let twice = repeated(&steps);
            for (step, value) in steps.iter().zip(items) {
                // Repeated items count as one value.
                let set = match twice.contains(step) {
                    true => Set::default(),
                    false => everything(item, value)?,
                };
                below.put(step.clone(), true, set);
            }
        }
        _ => {}
    }
    Ok(below)
}

/// An object in place of something else, or the other way round, where anything may be.
fn mismatch(old: Option<&Value>, new: Option<&Value>) -> Found {
    let mut below = Comparison::default();
    compare_members(anything(), anything(), members(old), members(new), &mut below)?;
    Ok((Change::Modified, below))
}

fn compare_members(
    node: &dyn Node,
    others: &dyn Node,
    old: Option<&Map<String, Value>>,
    new: Option<&Map<String, Value>>,
    out: &mut Comparison,
) -> Result<(), String> {
    let empty = Map::new();
    let (old, new) = (old.unwrap_or(&empty), new.unwrap_or(&empty));
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    for name in new.keys().chain(gone) {
        let (was, is) = (old.get(name), new.get(name));
        if was == is {
            continue;
        }
        let found = difference(member(node, others, name).0, was, is)?;
        out.insert(|| element::field(name), found);
    }
    Ok(())
}

fn compare_lists(
    item: &dyn Node,
    identity: Identity<'_>,
    old: &[Value],
    new: &[Value],
    out: &mut Comparison,
) -> Result<(), String> {
    let mut both: BTreeMap<String, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
    for (step, value) in identities(item, identity, old)?.into_iter().zip(old) {
        both.entry(step).or_default().0.push(value);
    }
    for (step, value) in identities(item, identity, new)?.into_iter().zip(new) {
        both.entry(step).or_default().1.push(value);
    }
    for (step, (old, new)) in both {
        let found = match (old.len(), new.len()) {
            (0..=1, 0..=1) => difference(item, old.first().copied(), new.first().copied())?,
            // Repeated items count as one value.
            (2.., 2..) if old == new => (Change::None, Comparison::default()),
            (2.., 2..) => (Change::Modified, Comparison::default()),
            (2.., 0) => (Change::Removed, Comparison::default()),
            (0, 2..) => (Change::Added, Comparison::default()),
            (2.., _) => {
                let single = difference(item, None, new.first().copied())?;
                out.insert(|| step.clone(), single);
                (Change::Removed, Comparison::default())
            }
            _ => {
                let single = difference(item, old.first().copied(), None)?;
                out.insert(|| step.clone(), single);
                (Change::Added, Comparison::default())
            }
        };
        out.insert(|| step, found);
    }
    Ok(())
}

/// The steps that occur more than once.
fn repeated(steps: &[String]) -> BTreeSet<&String> {
    let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
    for step in steps.iter().filter(|_| steps.len() > 1) {
        if !seen.insert(step) {
            twice.insert(step);
        }
    }
    twice
}

/// The paths that a value sets. Errors: an item that cannot be told from others.
pub(super) fn field_set(node: &dyn Node, value: &Value) -> Result<Set, String> {
    set_of(node, value).map(|(_, below)| below)
}

/// Whether the value's own path is set, and what is set below it.
fn set_of(node: &dyn Node, value: &Value) -> Result<(bool, Set), String> {
    let mut below = Set::default();
    match (treatment(node), value) {
        (Treatment::Leaf, _) => return Ok((true, below)),
        (Treatment::Any, Value::Object(members)) => set_of_members(anything(), anything(), members, &mut below)?,
        (Treatment::Any, _) => return Ok((true, below)),
        (Treatment::Object(others), Value::Object(members)) => set_of_members(node, others, members, &mut below)?,
        (Treatment::List(item, identity), Value::Array(items)) => {
            let steps = identities(item, identity, items)?;
            let twice = repeated(&steps);
            for (step, value) in steps.iter().zip(items) {
                let set = match twice.contains(step) {
                    true => Set::default(),
                    false => set_of(item, value)?.1,
                };
                below.put(step.clone(), true, set);
            }
        }
        _ => {}
    }
    Ok((false, below))
}

fn set_of_members(
    node: &dyn Node,
    others: &dyn Node,
    members: &Map<String, Value>,
    below: &mut Set,
) -> Result<(), String> {
    for (name, value) in members {
        let (place, declared) = member(node, others, name);
        let (leaf, set) = set_of(place, value)?;
        let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
        below.put(element::field(name), leaf || empty || !declared, set);
    }
    Ok(())
}

/// The name of an item; for walks that skip items without one.
pub(super) fn step_of(item: &dyn Node, identity: Identity<'_>, value: &Value) -> Option<String> {
    identify(item, identity, value).ok()
}
