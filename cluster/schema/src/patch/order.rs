//! The order of merged lists: the patch's elements in the patch's order, the others in the
//! server's, interleaved as the server had them where it had both.

use super::{DIRECTIVE, identity};
use crate::Error;
use serde_json::Value;

/// Elements that are in `by`, and the others.
pub(super) fn partition(items: Vec<Value>, by: &[Value], key: Option<&str>) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let mut inside = Vec::with_capacity(items.len());
    let mut outside = Vec::new();
    for item in items {
        let found = position(by, identity(&item, key)?, key).is_some();
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
    let mut right = patch.into_iter().peekable();
    let mut merged = Vec::with_capacity(right.len() + server_only.len());
    for left in server_only {
        let at = position(server_order, identity(&left, key)?, key);
        while let Some(next) = right.peek() {
            let other = position(server_order, identity(next, key)?, key);
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
    for item in first {
        let at = position(order, identity(&item, key)?, key);
        placed.push((at.unwrap_or(usize::MAX), item));
    }
    placed.sort_by_key(|(at, _)| *at);
    Ok(placed.into_iter().map(|(_, item)| item).chain(last).collect())
}

fn position(items: &[Value], wanted: &Value, key: Option<&str>) -> Option<usize> {
    items.iter().position(|item| match key {
        Some(key) => item.get(key) == Some(wanted),
        None => item == wanted,
    })
}
