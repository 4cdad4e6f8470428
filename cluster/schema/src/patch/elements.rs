//! Elements of lists: directives, merging by key, repetitions. Nothing here takes the product of two lists' lengths.

use super::{DIRECTIVE, Object, bad_directive, no_merge_key};
use crate::Error;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Carries out the directives among a patch's elements; what remains is to be merged.
pub(super) fn special_elements(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let mut plain = Vec::new();
    let mut gone = HashSet::new();
    let mut replace = false;
    for element in patch {
        match element.get(DIRECTIVE) {
            None => plain.push(element),
            Some(directive) => match directive.as_str() {
                Some("delete") => {
                    gone.insert(element.get(key).ok_or_else(|| no_merge_key(&element, key))?.clone());
                }
                Some("replace") => replace = true,
                Some("merge") => {
                    return Err(Error::Patch(
                        "merging lists cannot yet be specified in the patch".to_owned(),
                    ));
                }
                _ => return Err(bad_directive(directive, element.as_object().unwrap_or(&Object::new()))),
            },
        }
    }
    if replace {
        return Ok((plain, Vec::new()));
    }
    if !gone.is_empty() {
        original.retain(|item| item.get(key).is_none_or(|known| !gone.contains(known)));
    }
    Ok((original, plain))
}

/// Merges each element of the patch with the first that has its key, or appends it.
pub(super) fn merge_items(
    mut merged: Vec<Value>,
    patch: &[Value],
    key: &str,
    merge: impl Fn(Object, Object) -> Result<Object, Error>,
) -> Result<Vec<Value>, Error> {
    let mut places: HashMap<Value, usize> = HashMap::with_capacity(merged.len());
    for (at, item) in merged.iter().enumerate() {
        if let Some(known) = item.get(key) {
            places.entry(known.clone()).or_insert(at);
        }
    }
    for change in patch {
        let wanted = change.get(key).ok_or_else(|| no_merge_key(change, key))?;
        let Some(at) = places.get(wanted).copied() else {
            places.insert(wanted.clone(), merged.len());
            merged.push(change.clone());
            continue;
        };
        if let (Value::Object(before), Value::Object(change)) = (merged[at].take(), change) {
            merged[at] = Value::Object(merge(before, change.clone())?);
        }
        // Who loses its key, which a null takes away, is no longer found by it.
        if merged[at].get(key) != Some(wanted) {
            let rest = merged[at..].iter().position(|item| item.get(key) == Some(wanted));
            match rest {
                Some(next) => places.insert(wanted.clone(), at + next),
                None => places.remove(wanted),
            };
        }
    }
    Ok(merged)
}

/// The server's order as upstream comes to see it: it deletes and appends within the list that it
/// compares with afterwards, and where elements end up shows that.
pub(super) fn order_seen(original: &[Value], patch: &[Value], key: Option<&str>) -> Vec<Value> {
    let Some(key) = key else { return original.to_vec() };
    let mut places: HashMap<&Value, BTreeSet<usize>> = HashMap::new();
    for (at, item) in original.iter().enumerate() {
        if let Some(known) = item.get(key) {
            places.entry(known).or_default().insert(at);
        }
    }
    let new: Vec<&Value> = patch
        .iter()
        .filter(|element| element.get(DIRECTIVE).is_none())
        .filter(|element| element.get(key).is_none_or(|known| !places.contains_key(known)))
        .collect();
    let deletes = |element: &&Value| element.get(DIRECTIVE).is_some_and(|d| d == "delete");
    let mut alive = vec![true; original.len()];
    let mut last = original.len();
    // A deletion leaves what was last in the place that falls empty at the end.
    let mut left = Vec::new();
    for gone in patch.iter().filter(deletes).filter_map(|element| element.get(key)) {
        for at in places.remove(gone).unwrap_or_default() {
            while last > 0 && !alive[last - 1] {
                last -= 1;
            }
            left.push(&original[last - 1]);
            alive[at] = false;
        }
    }
    let kept = original
        .iter()
        .zip(&alive)
        .filter(|(_, alive)| **alive)
        .map(|(item, _)| item);
    let mut seen: Vec<Value> = kept.cloned().collect();
    let mut new = new.into_iter();
    seen.extend(left.into_iter().rev().map(|stale| new.next().unwrap_or(stale).clone()));
    seen
}

/// Removes repeated elements in the way upstream does: the last element takes the place.
pub(super) fn dedup(items: &mut Vec<Value>) {
    let mut places: HashMap<Value, BTreeSet<usize>> = HashMap::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        places.entry(item.clone()).or_default().insert(at);
    }
    let mut at = 0;
    while places.len() < items.len() && at < items.len() {
        let mut own = places.remove(&items[at]).unwrap_or_default();
        own.remove(&at);
        while let Some(again) = own.pop_first() {
            let last = items.len() - 1;
            items.swap_remove(again);
            // What was last now stands here, and may be one of the repeated itself.
            if again < last {
                if own.remove(&last) {
                    own.insert(again);
                } else if let Some(moved) = places.get_mut(&items[again]) {
                    moved.remove(&last);
                    moved.insert(again);
                }
            }
        }
        places.insert(items[at].clone(), BTreeSet::new());
        at += 1;
    }
}
