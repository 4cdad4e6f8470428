//! Merging a configuration into a value, and taking paths out of one.

use super::compare::step_of;
use super::element;
use super::node::{Form, Identity, Node};
use super::set::{Level, Set};
use super::walk::{Treatment, anything, identities, is_hollow, list, member, members, treatment};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The live value with the configuration merged in; `None` if nothing remains. Errors: items that
/// cannot be told apart.
pub(super) fn merge(node: &dyn Node, live: Option<&Value>, config: Option<&Value>) -> Result<Option<Value>, String> {
    let whole = || Ok(config.or(live).cloned());
    let is_object = |value: Option<&Value>| value.is_some_and(Value::is_object);
    let (place, others): (&dyn Node, &dyn Node) = match treatment(node) {
        Treatment::Leaf => return whole(),
        _ if is_hollow(live) && is_hollow(config) => return whole(),
        // A value of another kind, from before the schema said so, has no items.
        Treatment::List(..) if list(live).is_empty() && list(config).is_empty() => return whole(),
        Treatment::List(item, identity) => {
            let merged = merge_lists(item, identity, list(live), list(config))?;
            return Ok((!merged.is_empty()).then_some(Value::Array(merged)));
        }
        Treatment::Any if is_object(config) || (is_object(live) && config.is_none_or(Value::is_null)) => {
            (anything(), anything())
        }
        Treatment::Any => return whole(),
        Treatment::Object(others) => (node, others),
    };
    let empty = Map::new();
    let (live, config) = (members(live).unwrap_or(&empty), members(config).unwrap_or(&empty));
    let names: BTreeSet<&String> = live.keys().chain(config.keys()).collect();
    let mut merged = Map::new();
    for name in names {
        let value = merge(member(place, others, name).0, live.get(name), config.get(name))?;
        merged.extend(value.map(|value| (name.clone(), value)));
    }
    Ok((!merged.is_empty()).then_some(Value::Object(merged)))
}

/// Items of both lists; the configuration's order wins where the two disagree.
fn merge_lists(
    item: &dyn Node,
    identity: Identity<'_>,
    live: &[Value],
    config: &[Value],
) -> Result<Vec<Value>, String> {
    let live_ids = identities(item, identity, live)?;
    let config_ids = identities(item, identity, config)?;
    let mut in_config: BTreeMap<&str, &Value> = BTreeMap::new();
    for (step, value) in config_ids.iter().zip(config) {
        if in_config.insert(step, value).is_some() {
            return Err(format!("duplicate entries for key {}", element::shown(step)));
        }
    }
    // Repeated items are not merged with a new value.
    let mut in_live: BTreeMap<&str, Option<&Value>> = BTreeMap::new();
    for (step, value) in live_ids.iter().zip(live) {
        in_live
            .entry(step)
            .and_modify(|known| *known = None)
            .or_insert(Some(value));
    }
    let mut shared = config_ids.iter().filter(|step| in_live.contains_key(step.as_str()));
    let mut next_shared = shared.next();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    let mut out = Vec::with_capacity(live.len().max(config.len()));
    let both = |step: &str| {
        let mine = in_live.get(step).copied().flatten();
        merge(item, mine, in_config.get(step).copied())
    };
    let (mut l, mut r) = (0, 0);
    while l < live.len() || r < config.len() {
        if l < live.len() && r < config.len() {
            let step = &live_ids[l];
            if *step == config_ids[r] {
                done.insert(step);
                out.extend(both(step)?);
                (l, r) = (l + 1, r + 1);
                next_shared = shared.next();
                continue;
            }
            if in_config.contains_key(step.as_str()) && next_shared.is_some_and(|next| next != step) {
                l += 1;
                continue;
            }
        }
        if l < live.len() {
            let step = &live_ids[l];
            if !in_config.contains_key(step.as_str()) {
                out.extend(merge(item, Some(&live[l]), None)?);
                l += 1;
                continue;
            }
            if done.contains(step.as_str()) {
                l += 1;
            }
        }
        if r < config.len() {
            let step = &config_ids[r];
            done.insert(step);
            out.extend(both(step)?);
            r += 1;
            if next_shared == Some(step) {
                next_shared = shared.next();
            }
        }
    }
    Ok(out)
}

/// The value without the paths of a set; null where nothing remains.
pub(super) fn remove(node: &dyn Node, value: &Value, gone: Level<'_>) -> Value {
    match (treatment(node), value) {
        (Treatment::Object(others), Value::Object(members)) => remove_members(node, others, members, gone),
        (Treatment::Any, Value::Object(members)) => remove_members(anything(), anything(), members, gone),
        (Treatment::List(item, identity), Value::Array(items)) => {
            let mut kept = Vec::new();
            for value in items {
                // Values were merged or compared before, which finds items without a name.
                let step = step_of(item, identity, value).unwrap_or_default();
                if gone.has(&step) {
                    continue;
                }
                kept.push(match gone.below(&step) {
                    Some(below) => remove(item, value, below),
                    None => value.clone(),
                });
            }
            if kept.is_empty() {
                Value::Null
            } else {
                Value::Array(kept)
            }
        }
        (Treatment::Leaf | Treatment::Any, Value::Object(_) | Value::Array(_)) => Value::Null,
        (Treatment::Leaf | Treatment::Any, scalar) => scalar.clone(),
        _ => Value::Null,
    }
}

fn remove_members(node: &dyn Node, others: &dyn Node, members: &Map<String, Value>, gone: Level<'_>) -> Value {
    let mut kept = Map::new();
    for (name, value) in members {
        let step = element::field(name);
        if gone.has(&step) {
            continue;
        }
        let value = match gone.below(&step) {
            Some(below) => remove(member(node, others, name).0, value, below),
            None => value.clone(),
        };
        kept.insert(name.clone(), value);
    }
    if kept.is_empty() {
        Value::Null
    } else {
        Value::Object(kept)
    }
}

/// The set with every declared field on a path being a member too.
pub(super) fn with_named_fields(node: Option<&dyn Node>, set: Level<'_>) -> Set {
    let mut out = Set::default();
    let form = node.map(Node::form);
    for (step, in_set, below) in set.iter() {
        let (place, declared) = match (step.split_at_checked(2), form) {
            (Some(("f:", name)), Some(Form::Object { others })) => match node.and_then(|node| node.member(name)) {
                Some(member) => (Some(member), true),
                None => (others, false),
            },
            (Some(("f:", _)), Some(Form::Any)) => (Some(anything()), false),
            (Some(("k:", _)), Some(Form::List { item, .. })) => (Some(item), false),
            _ => (None, false),
        };
        let named = declared && !below.is_bare();
        out.put(step.to_owned(), in_set || named, with_named_fields(place, below));
    }
    out
}

/// A set that was written when the type was another: what was walked and is one value now belongs
/// as a whole to those who had a part of it. `None` if nothing changes.
pub(super) fn reconciled(node: &dyn Node, set: &Set) -> Option<Set> {
    let mut whole = Vec::new();
    find_atomic(node, set.level(), &mut Vec::new(), &mut whole);
    if whole.is_empty() {
        return None;
    }
    let mut roots = Set::default();
    for path in whole {
        roots.insert(&path);
    }
    let mut out = set.clone();
    out.subtract_trees(&roots);
    out.add(&roots);
    Some(out)
}

fn find_atomic(node: &dyn Node, set: Level<'_>, path: &mut Vec<String>, whole: &mut Vec<Vec<String>>) {
    let form = node.form();
    for (step, _, below) in set.iter() {
        let place = match (step.split_at_checked(2), form) {
            (Some(("f:", name)), Form::Object { others }) => node.member(name).or(others),
            (_, Form::List { item, .. }) => Some(item),
            _ => None,
        };
        let Some(place) = place else { continue };
        if below.is_bare() {
            continue;
        }
        path.push(step.to_owned());
        match (treatment(place), place.form()) {
            (Treatment::Leaf, Form::List { .. } | Form::Object { .. }) => whole.push(path.clone()),
            _ => find_atomic(place, below, path, whole),
        }
        path.pop();
    }
}
