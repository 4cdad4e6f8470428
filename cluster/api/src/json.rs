//! Reaching into JSON values by path.

use serde_json::{Map, Value};

/// The member at a dotted path (`spec.template.metadata`); `None` when any part is missing.
pub(crate) fn get<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.')
        .try_fold(value, |v, part| v.get(part))
        .filter(|v| !v.is_null())
}

/// The member at a dotted path, to change it; `None` when any part is missing.
pub(crate) fn get_mut<'v>(value: &'v mut Value, path: &str) -> Option<&'v mut Value> {
    path.split('.')
        .try_fold(value, |v, part| v.get_mut(part))
        .filter(|v| !v.is_null())
}

/// The text at a dotted path; `""` when it is missing or no text.
pub(crate) fn text<'v>(value: &'v Value, path: &str) -> &'v str {
    get(value, path).and_then(Value::as_str).unwrap_or("")
}

/// The whole number at a dotted path.
pub(crate) fn int(value: &Value, path: &str) -> Option<i64> {
    get(value, path).and_then(Value::as_i64)
}

/// The boolean at a dotted path; false when it is missing.
pub(crate) fn flag(value: &Value, path: &str) -> bool {
    get(value, path).and_then(Value::as_bool).unwrap_or(false)
}

/// The list at a dotted path; empty when it is missing.
pub(crate) fn list<'v>(value: &'v Value, path: &str) -> &'v [Value] {
    get(value, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The members of the object at a dotted path, in order of name; nothing when it is missing.
pub(crate) fn members<'v>(value: &'v Value, path: &str) -> impl Iterator<Item = (&'v String, &'v Value)> {
    get(value, path).and_then(Value::as_object).into_iter().flatten()
}

/// The object at a dotted path, made on the way if it is missing. Anything else there is replaced.
pub(crate) fn object_mut<'v>(value: &'v mut Value, path: &str) -> &'v mut Map<String, Value> {
    let mut at = value;
    for part in path.split('.').filter(|p| !p.is_empty()) {
        at = as_object(at).entry(part).or_insert_with(|| Value::Object(Map::new()));
    }
    as_object(at)
}

fn as_object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("it was just made an object"),
    }
}

/// Sets the member at a dotted path.
pub(crate) fn set(value: &mut Value, path: &str, member: impl Into<Value>) {
    let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
    object_mut(value, parent).insert(name.to_owned(), member.into());
}

/// Sets the member at a dotted path unless there is one.
pub(crate) fn set_default(value: &mut Value, path: &str, member: impl Into<Value>) {
    if get(value, path).is_none() {
        set(value, path, member);
    }
}

/// Removes the member at a dotted path.
pub(crate) fn remove(value: &mut Value, path: &str) -> Option<Value> {
    let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
    let holder = if parent.is_empty() {
        value
    } else {
        parent.split('.').try_fold(value, |v, part| v.get_mut(part))?
    };
    holder.as_object_mut()?.remove(name)
}

/// Makes the member at a path in `to` what it is in `from`, or absent.
pub(crate) fn copy(from: &Value, to: &mut Value, path: &str) {
    match get(from, path) {
        Some(member) => set(to, path, member.clone()),
        None => drop(remove(to, path)),
    }
}

/// Whether the members at a path are the same; absent, null, and empty lists and objects count as equal.
pub(crate) fn same(a: &Value, b: &Value, path: &str) -> bool {
    equal(get(a, path), get(b, path))
}

/// Whether two members are the same; absent, null, and empty lists and objects count as equal.
pub(crate) fn equal(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a.filter(|v| !is_empty(v)), b.filter(|v| !is_empty(v))) {
        (None, None) => true,
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            a.iter().all(|(name, v)| equal(Some(v), b.get(name)))
                && b.iter().all(|(name, v)| a.contains_key(name) || is_empty(v))
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b || equal(Some(a), Some(b)))
        }
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn members_are_read_and_written_by_path() {
        let mut v = json!({"spec": {"a": {"b": 3}, "none": null, "l": []}});
        assert_eq!(
            (int(&v, "spec.a.b"), get(&v, "spec.none"), text(&v, "spec.x.y")),
            (Some(3), None, "")
        );
        set(&mut v, "status.phase", "Active");
        set_default(&mut v, "status.phase", "Other");
        assert_eq!(text(&v, "status.phase"), "Active");
        assert_eq!(remove(&mut v, "spec.a.b"), Some(json!(3)));
        assert!(same(&v, &json!({"spec": {"a": {}}}), "spec"));
        assert!(!same(&v, &json!({"spec": {"a": {"c": 1}}}), "spec"));
    }
}
