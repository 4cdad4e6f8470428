//! Sets of field paths, and their FieldsV1 form.

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Element {
    /// A field of a struct or a key of a map.
    Field(String),
    /// An item of a list, by its key fields as canonical JSON.
    Key(String),
    /// An item of a set, as JSON.
    Value(String),
    /// An item of a list, by its place.
    Index(u64),
}

/// A path from the root.
pub(super) type Path = Vec<Element>;

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    nodes: BTreeMap<Element, Node>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    member: bool,
    below: Set,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

impl Element {
    /// An item known by these key fields.
    pub(super) fn key(fields: Map<String, Value>) -> Self {
        Self::Key(Value::Object(fields).to_string())
    }

    fn to_wire(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(fields) => format!("k:{fields}"),
            Self::Value(value) => format!("v:{value}"),
            Self::Index(at) => format!("i:{at}"),
        }
    }

    fn from_wire(text: &str) -> Option<Self> {
        let canonical = |json: &str| serde_json::from_str::<Value>(json).ok().map(|value| value.to_string());
        match text.split_at_checked(2)? {
            ("f:", name) => Some(Self::Field(name.to_owned())),
            ("k:", json) => canonical(json).map(Self::Key),
            ("v:", json) => canonical(json).map(Self::Value),
            ("i:", at) => at.parse().ok().map(Self::Index),
            _ => None,
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(at) => write!(f, "[{at}]"),
            Self::Key(fields) => {
                let fields: BTreeMap<String, Value> = serde_json::from_str(fields).unwrap_or_default();
                let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "[{}]", fields.join(","))
            }
        }
    }
}

impl Set {
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub(super) fn insert(&mut self, path: &[Element]) {
        if let Some((last, above)) = path.split_last() {
            let mut set = self;
            for element in above {
                set = &mut set.nodes.entry(element.clone()).or_default().below;
            }
            set.nodes.entry(last.clone()).or_default().member = true;
        }
    }

    /// Puts what lies below an element in, and the element itself if it is a member.
    pub(super) fn insert_below(&mut self, element: Element, member: bool, below: Set) {
        let node = Node { member, below };
        if !node.is_empty() {
            self.nodes.insert(element, node);
        }
    }

    /// Like [`Set::insert_below`], keeping what is there.
    pub(super) fn merge_below(&mut self, element: &Element, member: bool, below: Set) {
        if !member && below.is_empty() {
            return;
        }
        let node = self.nodes.entry(element.clone()).or_default();
        node.member |= member;
        node.below = if node.below.is_empty() {
            below
        } else {
            node.below.union(&below)
        };
    }

    pub(super) fn has(&self, element: &Element) -> bool {
        self.nodes.get(element).is_some_and(|node| node.member)
    }

    /// What lies below an element, if anything does.
    pub(super) fn below(&self, element: &Element) -> Option<&Set> {
        self.nodes
            .get(element)
            .map(|node| &node.below)
            .filter(|set| !set.is_empty())
    }

    /// Each element with whether it is a member and what lies below it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Element, bool, &Set)> {
        self.nodes
            .iter()
            .map(|(element, node)| (element, node.member, &node.below))
    }

    pub(super) fn union(&self, other: &Set) -> Set {
        let mut nodes = self.nodes.clone();
        for (element, node) in &other.nodes {
            let mine = nodes.entry(element.clone()).or_default();
            mine.member |= node.member;
            mine.below = mine.below.union(&node.below);
        }
        Set { nodes }
    }

    pub(super) fn intersection(&self, other: &Set) -> Set {
        self.combined(|element, mine| {
            let theirs = other.nodes.get(element)?;
            Some(Node {
                member: mine.member && theirs.member,
                below: mine.below.intersection(&theirs.below),
            })
        })
    }

    pub(super) fn difference(&self, other: &Set) -> Set {
        self.combined(|element, mine| match other.nodes.get(element) {
            None => Some(mine.clone()),
            Some(theirs) => Some(Node {
                member: mine.member && !theirs.member,
                below: mine.below.difference(&theirs.below),
            }),
        })
    }

    /// Without the members of the other set and everything below them.
    pub(super) fn recursive_difference(&self, other: &Set) -> Set {
        self.combined(|element, mine| match other.nodes.get(element) {
            None => Some(mine.clone()),
            Some(theirs) if theirs.member => None,
            Some(theirs) => Some(Node {
                member: mine.member,
                below: mine.below.recursive_difference(&theirs.below),
            }),
        })
    }

    fn combined(&self, combine: impl Fn(&Element, &Node) -> Option<Node>) -> Set {
        let kept = self
            .nodes
            .iter()
            .filter_map(|(element, node)| Some((element.clone(), combine(element, node)?)));
        Set {
            nodes: kept.filter(|(_, node)| !node.is_empty()).collect(),
        }
    }

    /// Every path in the set.
    pub(super) fn paths(&self) -> Vec<Path> {
        let mut found = Vec::new();
        self.collect(&mut Vec::new(), &mut found);
        found
    }

    fn collect(&self, path: &mut Path, found: &mut Vec<Path>) {
        for (element, node) in &self.nodes {
            path.push(element.clone());
            if node.member {
                found.push(path.clone());
            }
            node.below.collect(path, found);
            path.pop();
        }
    }

    /// The FieldsV1 form.
    pub(super) fn to_fields(&self) -> Value {
        let mut fields = Map::new();
        for (element, node) in &self.nodes {
            let mut below = node.below.to_fields();
            if let (true, false, Value::Object(members)) = (node.member, node.below.is_empty(), &mut below) {
                members.insert(".".to_owned(), Value::Object(Map::new()));
            }
            fields.insert(element.to_wire(), below);
        }
        Value::Object(fields)
    }

    /// Reads the FieldsV1 form; elements of unknown kinds are dropped.
    pub(super) fn from_fields(fields: &Value) -> Set {
        let mut nodes = BTreeMap::new();
        for (text, below) in fields.as_object().into_iter().flatten() {
            if let Some(element) = Element::from_wire(text) {
                let empty = below.as_object().is_none_or(Map::is_empty);
                let member = empty || below.get(".").is_some();
                nodes.insert(
                    element,
                    Node {
                        member,
                        below: Set::from_fields(below),
                    },
                );
            }
        }
        Set { nodes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sets_survive_their_wire_form() {
        let fields = json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}, "f:finalizers": {"v:\"x\"": {}}},
            "f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}, "f:args": {"i:0": {}}}});
        let set = Set::from_fields(&fields);
        assert_eq!(set.to_fields(), fields);
        assert_eq!(set.difference(&set), Set::default());
        assert_eq!(set.union(&set), set);
        assert_eq!(set.intersection(&set), set);
        let shown: Vec<String> = set
            .paths()
            .iter()
            .map(|path| path.iter().map(Element::to_string).collect())
            .collect();
        assert_eq!(
            shown,
            [
                ".metadata.finalizers[=\"x\"]",
                ".metadata.labels",
                ".metadata.labels.a",
                ".spec.args[0]",
                ".spec.ports[port=80,protocol=\"TCP\"]",
                ".spec.ports[port=80,protocol=\"TCP\"].port"
            ]
        );
    }
}
