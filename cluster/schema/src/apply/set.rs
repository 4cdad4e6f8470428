//! Sets of field paths, kept in the form in which FieldsV1 writes them.
//!
//! A node is an object whose members are the steps below it ([`super::element`]) and, if the node
//! itself is in the set and has something below it, a `.`. A node without members is in the set.
//! Keeping this form means that the entries of managers who are not concerned by a write are never
//! decoded.

use super::element::{self, SELF};
use serde_json::{Map, Value};

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Set(Map<String, Value>);

/// A path, step by step.
pub(super) type Path = Vec<String>;

impl Set {
    /// Takes FieldsV1 that the server wrote.
    pub(super) fn from_stored(fields: Value) -> Self {
        match fields {
            Value::Object(members) => Self(members),
            _ => Self::default(),
        }
    }

    /// Reads FieldsV1 that a client wrote. Errors: a step that is malformed.
    pub(super) fn from_client(fields: &Value) -> Result<Self, String> {
        match fields {
            Value::Null => Ok(Self::default()),
            Value::Object(members) => {
                let mut set = canonical(members)?;
                set.remove(SELF);
                Ok(Self(set))
            }
            other => Err(format!("expected an object, got {other}")),
        }
    }

    /// The FieldsV1 form.
    pub(super) fn into_fields(self) -> Value {
        Value::Object(self.0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A set of paths of fields.
    pub(super) fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(&path.iter().map(|name| element::field(name)).collect::<Vec<_>>());
        }
        set
    }

    /// Puts a path in.
    pub(super) fn insert(&mut self, path: &[String]) {
        let Some((last, above)) = path.split_last() else { return };
        let mut set = Self::default();
        set.put(last.clone(), true, Self::default());
        for step in above.iter().rev() {
            let mut outer = Self::default();
            outer.put(step.clone(), false, set);
            set = outer;
        }
        self.add(&set);
    }

    /// Puts in what lies below a step, and the step itself if it is a member; replaces what is there.
    pub(super) fn put(&mut self, step: String, member: bool, below: Set) {
        if let Some(node) = node(member, below.0) {
            self.0.insert(step, Value::Object(node));
        }
    }

    /// Like [`Set::put`], keeping what is there.
    pub(super) fn merge(&mut self, step: String, member: bool, below: Set) {
        if self.0.contains_key(&step) {
            let mut one = Self::default();
            one.put(step, member, below);
            self.add(&one);
        } else {
            self.put(step, member, below);
        }
    }

    /// The first level.
    pub(super) fn level(&self) -> Level<'_> {
        Level(&self.0)
    }

    /// Whether a path is in the set.
    pub(super) fn contains(&self, path: &[String]) -> bool {
        let Some((last, above)) = path.split_last() else {
            return false;
        };
        let mut at = &self.0;
        for step in above {
            match at.get(step).and_then(Value::as_object) {
                Some(node) => at = node,
                None => return false,
            }
        }
        at.get(last).and_then(Value::as_object).is_some_and(is_member)
    }

    /// Adds the paths of another set.
    pub(super) fn add(&mut self, other: &Set) {
        add(&mut self.0, &other.0);
    }

    pub(super) fn union(mut self, other: &Set) -> Set {
        self.add(other);
        self
    }

    /// Takes the paths of another set away.
    pub(super) fn subtract(&mut self, other: &Set) {
        subtract(&mut self.0, &other.0, false);
    }

    /// Takes the paths of another set and everything below them away.
    pub(super) fn subtract_trees(&mut self, other: &Set) {
        subtract(&mut self.0, &other.0, true);
    }

    pub(super) fn difference(mut self, other: &Set) -> Set {
        self.subtract(other);
        self
    }

    pub(super) fn intersection(&self, other: &Set) -> Set {
        Self(intersection(&self.0, &other.0))
    }

    /// Whether every path of the other is here too.
    pub(super) fn covers(&self, other: &Set) -> bool {
        covers(&self.0, &other.0)
    }

    /// Whether the two have a path in common.
    pub(super) fn meets(&self, other: &Set) -> bool {
        meets(&self.0, &other.0)
    }

    /// Every path, those of one level before those below it, in upstream's order.
    pub(super) fn paths(&self) -> Vec<Path> {
        let mut found = Vec::new();
        collect(&self.0, &mut Vec::new(), &mut found);
        found
    }

    /// Only what lies at or below places that one of the patterns leads to; `None` is any step.
    pub(super) fn retain_matching(&mut self, patterns: &[&[Option<&str>]]) {
        let mut kept = Self::default();
        for pattern in patterns {
            kept.add(&Self(matching(&self.0, pattern)));
        }
        *self = kept;
    }
}

/// One level of a set: what lies below a step, or the root.
#[derive(Clone, Copy)]
pub(super) struct Level<'s>(&'s Map<String, Value>);

impl<'s> Level<'s> {
    /// Whether a step is a member.
    pub(super) fn has(self, step: &str) -> bool {
        self.0.get(step).and_then(Value::as_object).is_some_and(is_member)
    }

    /// What lies below a step, if anything does.
    pub(super) fn below(self, step: &str) -> Option<Level<'s>> {
        let below = Self(self.0.get(step)?.as_object()?);
        (!below.is_bare()).then_some(below)
    }

    /// Each step with whether it is a member and what lies below it.
    pub(super) fn iter(self) -> impl Iterator<Item = (&'s str, bool, Level<'s>)> {
        let steps = self.0.iter().filter(|(step, _)| *step != SELF);
        steps.filter_map(|(step, node)| {
            let node = node.as_object()?;
            Some((step.as_str(), is_member(node), Level(node)))
        })
    }

    /// Whether nothing lies here.
    pub(super) fn is_bare(self) -> bool {
        self.0.len() == usize::from(self.0.contains_key(SELF))
    }
}

fn is_member(node: &Map<String, Value>) -> bool {
    node.is_empty() || node.contains_key(SELF)
}

fn node(member: bool, mut below: Map<String, Value>) -> Option<Map<String, Value>> {
    match (member, below.is_empty()) {
        (false, true) => None,
        (true, false) => {
            below.insert(SELF.to_owned(), Value::Object(Map::new()));
            Some(below)
        }
        _ => Some(below),
    }
}

fn canonical(members: &Map<String, Value>) -> Result<Map<String, Value>, String> {
    let mut out = Map::new();
    for (text, below) in members {
        if text == SELF {
            out.insert(SELF.to_owned(), Value::Object(Map::new()));
            continue;
        }
        let Some(step) = element::canonical(text)? else {
            continue;
        };
        let below = match below {
            Value::Object(below) => canonical(below)?,
            _ => Map::new(),
        };
        let below = match below.len() == 1 && below.contains_key(SELF) {
            true => Map::new(),
            false => below,
        };
        out.insert(step, Value::Object(below));
    }
    Ok(out)
}

/// Restores a node's form after its children changed; `false` if nothing is left of it.
fn settle(node: &mut Map<String, Value>, member: bool) -> bool {
    let children = node.len() - usize::from(node.contains_key(SELF));
    match (member, children) {
        (false, 0) => false,
        (true, 0) => {
            node.clear();
            true
        }
        (true, _) => {
            if !node.contains_key(SELF) {
                node.insert(SELF.to_owned(), Value::Object(Map::new()));
            }
            true
        }
        (false, _) => {
            node.remove(SELF);
            true
        }
    }
}

fn add(into: &mut Map<String, Value>, other: &Map<String, Value>) {
    for (step, theirs) in other.iter().filter(|(step, _)| *step != SELF) {
        let (Some(Value::Object(mine)), Value::Object(theirs)) = (into.get_mut(step), theirs) else {
            into.insert(step.clone(), theirs.clone());
            continue;
        };
        let member = is_member(mine) || is_member(theirs);
        add(mine, theirs);
        settle(mine, member);
    }
}

fn subtract(from: &mut Map<String, Value>, other: &Map<String, Value>, trees: bool) {
    for (step, theirs) in other.iter().filter(|(step, _)| *step != SELF) {
        let (Some(Value::Object(mine)), Value::Object(theirs)) = (from.get_mut(step), theirs) else {
            continue;
        };
        let taken = is_member(theirs);
        let left = match trees && taken {
            true => false,
            false => {
                let member = is_member(mine) && !taken;
                subtract(mine, theirs, trees);
                settle(mine, member)
            }
        };
        if !left {
            from.remove(step);
        }
    }
}

fn intersection(a: &Map<String, Value>, b: &Map<String, Value>) -> Map<String, Value> {
    let mut both = Map::new();
    for (step, mine) in a.iter().filter(|(step, _)| *step != SELF) {
        let (Value::Object(mine), Some(Value::Object(theirs))) = (mine, b.get(step)) else {
            continue;
        };
        let member = is_member(mine) && is_member(theirs);
        if let Some(node) = node(member, intersection(mine, theirs)) {
            both.insert(step.clone(), Value::Object(node));
        }
    }
    both
}

fn covers(all: &Map<String, Value>, part: &Map<String, Value>) -> bool {
    part.iter().filter(|(step, _)| *step != SELF).all(|(step, theirs)| {
        let (Some(Value::Object(mine)), Value::Object(theirs)) = (all.get(step), theirs) else {
            return false;
        };
        (is_member(mine) || !is_member(theirs)) && covers(mine, theirs)
    })
}

fn meets(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    let (few, many) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    few.iter().filter(|(step, _)| *step != SELF).any(|(step, mine)| {
        let (Value::Object(mine), Some(Value::Object(theirs))) = (mine, many.get(step)) else {
            return false;
        };
        (is_member(mine) && is_member(theirs)) || meets(mine, theirs)
    })
}

fn collect(set: &Map<String, Value>, path: &mut Path, found: &mut Vec<Path>) {
    let nodes = set.iter().filter_map(|(step, node)| Some((step, node.as_object()?)));
    let mut nodes: Vec<_> = nodes.filter(|(step, _)| *step != SELF).collect();
    nodes.sort_by(|(a, _), (b, _)| element::order(a, b));
    for (step, _) in nodes.iter().filter(|(_, node)| is_member(node)) {
        path.push((*step).clone());
        found.push(path.clone());
        path.pop();
    }
    for (step, node) in nodes {
        path.push(step.clone());
        collect(node, path, found);
        path.pop();
    }
}

fn matching(set: &Map<String, Value>, pattern: &[Option<&str>]) -> Map<String, Value> {
    let Some((first, rest)) = pattern.split_first() else {
        return set.clone();
    };
    let mut kept = Map::new();
    for (step, node_below) in set.iter().filter(|(step, _)| *step != SELF) {
        if first.is_some_and(|name| step.strip_prefix("f:") != Some(name)) {
            continue;
        }
        let Some(below) = node_below.as_object() else { continue };
        let member = rest.is_empty() && is_member(below);
        let mut below = matching(below, rest);
        below.remove(SELF);
        if let Some(node) = node(member, below) {
            kept.insert(step.clone(), Value::Object(node));
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(fields: Value) -> Set {
        Set::from_client(&fields).expect("well formed")
    }

    #[test]
    fn sets_are_added_and_taken_away_in_their_wire_form() {
        let fields = json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}, "f:finalizers": {"v:\"x\"": {}}},
            "f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}, "f:args": {"i:0": {}}}});
        let all = set(fields.clone());
        assert_eq!(all.clone().into_fields(), fields);
        assert!(all.clone().difference(&all).is_empty());
        assert_eq!(all.clone().union(&all), all);
        assert_eq!(all.intersection(&all), all);
        assert!(all.meets(&all) && !all.meets(&Set::default()));
        let labels = set(json!({"f:metadata": {"f:labels": {}}}));
        assert!(all.covers(&all) && all.covers(&labels) && all.covers(&Set::default()) && !labels.covers(&all));
        let inner = set(json!({"f:metadata": {"f:labels": {"f:a": {}}}}));
        assert!(all.covers(&inner) && !labels.covers(&inner) && !inner.covers(&labels));
        assert_eq!(
            all.clone().difference(&labels).into_fields()["f:metadata"]["f:labels"],
            json!({"f:a": {}})
        );
        let mut without = all.clone();
        without.subtract_trees(&labels);
        assert_eq!(
            without.into_fields()["f:metadata"],
            json!({"f:finalizers": {"v:\"x\"": {}}})
        );
        let shown: Vec<String> = all
            .paths()
            .iter()
            .map(|path| path.iter().map(|step| element::shown(step)).collect())
            .collect();
        assert_eq!(
            shown,
            [
                ".metadata.labels",
                ".metadata.finalizers[=\"x\"]",
                ".metadata.labels.a",
                ".spec.args[0]",
                ".spec.ports[port=80,protocol=\"TCP\"]",
                ".spec.ports[port=80,protocol=\"TCP\"].port"
            ]
        );
    }

    #[test]
    fn patterns_keep_what_they_lead_to() {
        let mut kept = set(
            json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {},
            "f:resources": {"f:limits": {}}}}, "f:nodeName": {}}}),
        );
        kept.retain_matching(&[&[Some("spec"), Some("containers"), None, Some("resources")]]);
        assert_eq!(
            kept.into_fields(),
            json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {"f:resources": {"f:limits": {}}}}}})
        );
    }

    #[test]
    fn malformed_steps_are_refused_and_unknown_ones_dropped() {
        assert!(Set::from_client(&json!({"spec": {}})).is_err());
        assert!(Set::from_client(&json!([])).is_err());
        assert_eq!(
            set(json!({"x:new": {}, "f:a": {".": {}}})).into_fields(),
            json!({"f:a": {}})
        );
    }
}
