//! The order of merged lists: the patch's elements in the patch's order, the others in the
//! server's, interleaved as the server had them where it had both.

use super::{DIRECTIVE, identity};
use crate::Error;
use serde_json::Value;
use std::collections::HashMap;

/// Where the elements of a list stand, by what they are known by. Of equal ones it is the first that counts.
pub(super) struct Places<'v>(HashMap<&'v Value, usize>);

impl<'v> Places<'v> {
    /// Elements without their key are nowhere.
    pub(super) fn of(items: &'v [Value], key: Option<&str>) -> Self {
        let mut places = HashMap::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            let known = key.map_or(Some(item), |key| item.get(key));
            if let Some(known) = known {
                places.entry(known).or_insert(at);
            }
        }
        Self(places)
    }

    /// Where an element stands.
    pub(super) fn find(&self, known: &Value) -> Option<usize> {
        self.0.get(known).copied()
    }
}

/// Elements that are in `by`, and the others.
pub(super) fn partition(items: Vec<Value>, by: &[Value], key: Option<&str>) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let mut inside = Vec::with_capacity(items.len());
    let mut outside = Vec::new();
    let by = Places::of(by, key);
    for item in items {
        let found = by.find(identity(&item, key)?).is_some();
        if found { inside.push(item) } else { outside.push(item) }
    }
    Ok((inside, outside))
}

/// Sorts both lists and interleaves them.
pub(super) fn normalise_order(
    patch: Vec<Value>,
    server_only: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    key: Option<&str>,
) -> Result<Vec<Value>, Error> {
    let patch = sorted(patch, patch_order, key)?;
    let server_only = sorted(server_only, server_order, key)?;
    let server_order = Places::of(server_order, key);
    let mut right = patch.into_iter().peekable();
    let mut merged = Vec::with_capacity(right.len() + server_only.len());
    for left in server_only {
        let at = server_order.find(identity(&left, key)?);
        while let Some(next) = right.peek() {
            let other = server_order.find(identity(next, key)?);
            if matches!((at, other), (Some(at), Some(other)) if at < other) {
                break;
            }
            merged.extend(right.next());
        }
        merged.push(left);
    }
    merged.extend(right);
    Ok(merged)
}

/// In the given order; elements to be deleted come last.
fn sorted(items: Vec<Value>, order: &[Value], key: Option<&str>) -> Result<Vec<Value>, Error> {
    let doomed = |item: &Value| key.is_some() && item.get(DIRECTIVE).is_some_and(|d| d == "delete");
    let (last, first): (Vec<Value>, Vec<Value>) = items.into_iter().partition(doomed);
    let mut placed = Vec::with_capacity(first.len());
    let order = Places::of(order, key);
    for item in first {
        let at = order.find(identity(&item, key)?);
        placed.push((at.unwrap_or(usize::MAX), item));
    }
    placed.sort_by_key(|(at, _)| *at);
    Ok(placed.into_iter().map(|(_, item)| item).chain(last).collect())
}
