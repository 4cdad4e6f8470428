//! Walks over values guided by the table: which fields are set, what differs, merging, removing.

use super::set::{Element, Set};
use crate::{Field, ListType, Schema, Shape, TypeId};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// A type as a field declares it.
#[derive(Clone, Copy)]
pub(super) struct Place<'s> {
    schema: &'s Schema,
    shape: Option<&'s Shape>,
    field: Option<&'s Field>,
}

/// How a type's values are treated.
enum Kind<'s> {
    /// As one value.
    Leaf,
    Struct(TypeId),
    Map(&'s Shape),
    /// A list whose items are known by keys, or by themselves if there are none.
    List(&'s Shape, &'s [&'static str]),
}

/// What a comparison found.
#[derive(Default)]
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

impl Comparison {
    /// Puts in what was found at an element; its name is only made if there is something.
    fn insert(&mut self, element: impl FnOnce() -> Element, (change, below): (Change, Comparison)) {
        let unchanged = below.added.is_empty() && below.removed.is_empty() && below.modified.is_empty();
        if change == Change::None && unchanged {
            return;
        }
        let element = element();
        self.added.merge_below(&element, change == Change::Added, below.added);
        self.removed
            .merge_below(&element, change == Change::Removed, below.removed);
        self.modified
            .merge_below(&element, change == Change::Modified, below.modified);
    }
}

/// An item that is not known by its keys or by itself.
#[derive(Debug)]
pub(super) struct NoIdentity(pub(super) String);

impl<'s> Place<'s> {
    /// The type of a whole object.
    pub(super) fn root(schema: &'s Schema, shape: &'s Shape) -> Self {
        Self {
            schema,
            shape: Some(shape),
            field: None,
        }
    }

    fn kind(self) -> Kind<'s> {
        let Some(shape) = self.shape else { return Kind::Leaf };
        let declared = self.field.and_then(|field| field.atomic);
        match self.schema.resolve(shape) {
            Shape::Struct(id) if !declared.unwrap_or(self.schema.type_info(*id).atomic) => Kind::Struct(*id),
            Shape::Map(_, item) if declared != Some(true) => Kind::Map(item),
            Shape::List(item) => match self.field {
                Some(field) if field.list_type == ListType::Map => Kind::List(item, &field.list_keys),
                Some(field) if field.list_type == ListType::Set => Kind::List(item, &[]),
                _ => Kind::Leaf,
            },
            _ => Kind::Leaf,
        }
    }

    fn item(self, shape: &'s Shape) -> Self {
        Self {
            shape: Some(shape),
            field: None,
            ..self
        }
    }

    /// The type of a struct's or map's member, and whether it is declared by name.
    fn member(self, kind: &Kind<'s>, name: &str) -> (Self, bool) {
        let unknown = Self {
            shape: None,
            field: None,
            ..self
        };
        match kind {
            Kind::Struct(id) => match self.schema.type_info(*id).field(name) {
                Some(field) => (
                    Self {
                        shape: Some(&field.shape),
                        field: Some(field),
                        ..self
                    },
                    true,
                ),
                None => (unknown, false),
            },
            Kind::Map(item) => (self.item(item), false),
            _ => (unknown, false),
        }
    }

    /// What an item of a list is known by. Keys left out have their declared defaults.
    fn identity(self, item: &'s Shape, keys: &[&str], value: &Value) -> Result<Element, NoIdentity> {
        if keys.is_empty() {
            return match value {
                Value::Object(_) | Value::Array(_) | Value::Null => Err(NoIdentity(
                    "associative list without keys has an element that's a map type".to_owned(),
                )),
                scalar => Ok(Element::Value(scalar.to_string())),
            };
        }
        let Value::Object(members) = value else {
            return Err(NoIdentity(
                "associative list with keys may not have non-map elements".to_owned(),
            ));
        };
        let mut fields = Map::new();
        for key in keys {
            let found = members.get(*key).cloned().or_else(|| self.key_default(item, key));
            fields.extend(found.map(|value| ((*key).to_owned(), value)));
        }
        match fields.is_empty() {
            true => Err(NoIdentity(format!(
                "associative list with keys has an element that omits all key fields {keys:?} \
                 (and doesn't have default values for any key fields)"
            ))),
            false => Ok(Element::key(fields)),
        }
    }

    fn key_default(self, item: &Shape, key: &str) -> Option<Value> {
        let Shape::Struct(id) = self.schema.resolve(item) else {
            return None;
        };
        serde_json::from_str(self.schema.type_info(*id).field(key)?.default?).ok()
    }

    fn identities(self, item: &'s Shape, keys: &[&str], list: &[Value]) -> Result<Vec<Element>, NoIdentity> {
        list.iter().map(|value| self.identity(item, keys, value)).collect()
    }

    /// The paths that a value sets.
    pub(super) fn field_set(self, value: &Value) -> Result<Set, NoIdentity> {
        self.set_of(value).map(|(_, below)| below)
    }

    /// Whether the value's own path is set, and what is set below it.
    fn set_of(self, value: &Value) -> Result<(bool, Set), NoIdentity> {
        let mut below = Set::default();
        match (self.kind(), value) {
            (Kind::Leaf, _) => return Ok((true, below)),
            (kind @ (Kind::Struct(_) | Kind::Map(_)), Value::Object(members)) => {
                for (name, value) in members {
                    let (place, declared) = self.member(&kind, name);
                    let (leaf, set) = place.set_of(value)?;
                    let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                    below.insert_below(Element::Field(name.clone()), leaf || empty || !declared, set);
                }
            }
            (Kind::List(item, keys), Value::Array(items)) => {
                let identities = self.identities(item, keys, items)?;
                let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
                for identity in &identities {
                    if !seen.insert(identity) {
                        twice.insert(identity);
                    }
                }
                for (identity, value) in identities.iter().zip(items) {
                    let set = match twice.contains(identity) {
                        true => Set::default(),
                        false => self.item(item).set_of(value)?.1,
                    };
                    below.insert_below(identity.clone(), true, set);
                }
            }
            _ => {}
        }
        Ok((false, below))
    }

    /// What differs between two values.
    pub(super) fn compare(self, old: &Value, new: &Value) -> Result<Comparison, NoIdentity> {
        self.difference(Some(old), Some(new)).map(|(_, below)| below)
    }

    /// What happened to the value itself, and what differs below it.
    fn difference(self, old: Option<&Value>, new: Option<&Value>) -> Result<(Change, Comparison), NoIdentity> {
        let mut below = Comparison::default();
        if old == new {
            return Ok((Change::None, below));
        }
        let kind = self.kind();
        let leaf = matches!(kind, Kind::Leaf) || (is_hollow(old) && is_hollow(new));
        let change = match (old, new) {
            (None, Some(_)) => Change::Added,
            (Some(_), None) => Change::Removed,
            _ if leaf => Change::Modified,
            _ => Change::None,
        };
        match kind {
            _ if leaf => {}
            Kind::Leaf => {}
            Kind::List(item, keys) => self.compare_lists(item, keys, list(old), list(new), &mut below)?,
            Kind::Struct(_) | Kind::Map(_) => {
                let empty = Map::new();
                let (old, new) = (members(old).unwrap_or(&empty), members(new).unwrap_or(&empty));
                let gone = old.keys().filter(|name| !new.contains_key(*name));
                for name in new.keys().chain(gone) {
                    let found = self.member(&kind, name).0.difference(old.get(name), new.get(name))?;
                    below.insert(|| Element::Field(name.clone()), found);
                }
            }
        }
        Ok((change, below))
    }

    fn compare_lists(
        self,
        item: &'s Shape,
        keys: &[&str],
        old: &[Value],
        new: &[Value],
        out: &mut Comparison,
    ) -> Result<(), NoIdentity> {
        let mut both: BTreeMap<Element, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for value in old {
            both.entry(self.identity(item, keys, value)?).or_default().0.push(value);
        }
        for value in new {
            both.entry(self.identity(item, keys, value)?).or_default().1.push(value);
        }
        for (identity, (old, new)) in both {
            let place = self.item(item);
            let found = match (old.len(), new.len()) {
                (0..=1, 0..=1) => place.difference(old.first().copied(), new.first().copied())?,
                // Repeated items count as one value.
                (2.., 2..) if old == new => (Change::None, Comparison::default()),
                (2.., 2..) => (Change::Modified, Comparison::default()),
                (2.., 0) => (Change::Removed, Comparison::default()),
                (0, 2..) => (Change::Added, Comparison::default()),
                (2.., _) => {
                    let single = place.difference(None, new.first().copied())?;
                    out.insert(|| identity.clone(), single);
                    (Change::Removed, Comparison::default())
                }
                _ => {
                    let single = place.difference(old.first().copied(), None)?;
                    out.insert(|| identity.clone(), single);
                    (Change::Added, Comparison::default())
                }
            };
            out.insert(|| identity, found);
        }
        Ok(())
    }

    /// The live value with the configuration merged in; `None` if nothing remains.
    pub(super) fn merge(self, live: Option<&Value>, config: Option<&Value>) -> Result<Option<Value>, NoIdentity> {
        let kind = self.kind();
        if matches!(kind, Kind::Leaf) || (is_hollow(live) && is_hollow(config)) {
            return Ok(config.or(live).cloned());
        }
        match kind {
            Kind::Leaf => Ok(config.or(live).cloned()),
            Kind::List(item, keys) => {
                let merged = self.merge_lists(item, keys, list(live), list(config))?;
                Ok((!merged.is_empty()).then_some(Value::Array(merged)))
            }
            Kind::Struct(_) | Kind::Map(_) => {
                let empty = Map::new();
                let (live, config) = (members(live).unwrap_or(&empty), members(config).unwrap_or(&empty));
                let names: BTreeSet<&String> = live.keys().chain(config.keys()).collect();
                let mut merged = Map::new();
                for name in names {
                    let value = self.member(&kind, name).0.merge(live.get(name), config.get(name))?;
                    merged.extend(value.map(|value| (name.clone(), value)));
                }
                Ok((!merged.is_empty()).then_some(Value::Object(merged)))
            }
        }
    }

    /// Items of both lists; the configuration's order wins where the two disagree.
    fn merge_lists(
        self,
        item: &'s Shape,
        keys: &[&str],
        live: &[Value],
        config: &[Value],
    ) -> Result<Vec<Value>, NoIdentity> {
        let live_ids = self.identities(item, keys, live)?;
        let config_ids = self.identities(item, keys, config)?;
        let mut in_config: BTreeMap<&Element, &Value> = BTreeMap::new();
        for (identity, value) in config_ids.iter().zip(config) {
            if in_config.insert(identity, value).is_some() {
                return Err(NoIdentity(format!("duplicate entries for key {identity}")));
            }
        }
        // Repeated items are not merged with a new value.
        let mut in_live: BTreeMap<&Element, Option<&Value>> = BTreeMap::new();
        for (identity, value) in live_ids.iter().zip(live) {
            in_live
                .entry(identity)
                .and_modify(|known| *known = None)
                .or_insert(Some(value));
        }
        let mut shared = config_ids.iter().filter(|identity| in_live.contains_key(identity));
        let mut next_shared = shared.next();
        let mut done: BTreeSet<&Element> = BTreeSet::new();
        let mut out = Vec::with_capacity(live.len().max(config.len()));
        let both = |identity: &Element| {
            let mine = in_live.get(identity).copied().flatten();
            self.item(item).merge(mine, in_config.get(identity).copied())
        };
        let (mut l, mut r) = (0, 0);
        while l < live.len() || r < config.len() {
            if l < live.len() && r < config.len() {
                let identity = &live_ids[l];
                if *identity == config_ids[r] {
                    done.insert(identity);
                    out.extend(both(identity)?);
                    (l, r) = (l + 1, r + 1);
                    next_shared = shared.next();
                    continue;
                }
                if in_config.contains_key(identity) && next_shared.is_some_and(|next| next != identity) {
                    l += 1;
                    continue;
                }
            }
            if l < live.len() {
                let identity = &live_ids[l];
                if !in_config.contains_key(identity) {
                    out.extend(self.item(item).merge(Some(&live[l]), None)?);
                    l += 1;
                    continue;
                }
                if done.contains(identity) {
                    l += 1;
                }
            }
            if r < config.len() {
                let identity = &config_ids[r];
                done.insert(identity);
                out.extend(both(identity)?);
                r += 1;
                if next_shared == Some(identity) {
                    next_shared = shared.next();
                }
            }
        }
        Ok(out)
    }

    /// The value without the paths of a set; null where nothing remains.
    pub(super) fn remove(self, value: &Value, gone: &Set) -> Result<Value, NoIdentity> {
        match (self.kind(), value) {
            (Kind::Leaf, Value::Object(_) | Value::Array(_)) => Ok(Value::Null),
            (kind @ (Kind::Struct(_) | Kind::Map(_)), Value::Object(members)) => {
                let mut kept = Map::new();
                for (name, member) in members {
                    let element = Element::Field(name.clone());
                    if gone.has(&element) {
                        continue;
                    }
                    let member = match gone.below(&element) {
                        Some(below) => self.member(&kind, name).0.remove(member, below)?,
                        None => member.clone(),
                    };
                    kept.insert(name.clone(), member);
                }
                Ok(if kept.is_empty() {
                    Value::Null
                } else {
                    Value::Object(kept)
                })
            }
            (Kind::List(item, keys), Value::Array(items)) => {
                let mut kept = Vec::new();
                for value in items {
                    let element = self.identity(item, keys, value)?;
                    if gone.has(&element) {
                        continue;
                    }
                    kept.push(match gone.below(&element) {
                        Some(below) => self.item(item).remove(value, below)?,
                        None => value.clone(),
                    });
                }
                Ok(if kept.is_empty() {
                    Value::Null
                } else {
                    Value::Array(kept)
                })
            }
            (Kind::Leaf, scalar) => Ok(scalar.clone()),
            _ => Ok(Value::Null),
        }
    }

    /// The set with every declared field on a path being a member too.
    pub(super) fn with_named_fields(self, set: &Set) -> Set {
        let kind = self.declared_kind();
        let mut out = Set::default();
        for (element, member, below) in set.iter() {
            let (place, declared) = match element {
                Element::Field(name) => self.member(&kind, name),
                Element::Key(_) => match &kind {
                    Kind::List(item, _) => (self.item(item), false),
                    _ => (
                        Self {
                            shape: None,
                            field: None,
                            ..self
                        },
                        false,
                    ),
                },
                Element::Value(_) | Element::Index(_) => (
                    Self {
                        shape: None,
                        field: None,
                        ..self
                    },
                    false,
                ),
            };
            let named = declared && !below.is_empty();
            out.insert_below(element.clone(), member || named, place.with_named_fields(below));
        }
        out
    }

    /// The kind by shape alone, whether or not it is treated as one value.
    fn declared_kind(self) -> Kind<'s> {
        match self.shape.map(|shape| self.schema.resolve(shape)) {
            Some(Shape::Struct(id)) => Kind::Struct(*id),
            Some(Shape::Map(_, item)) => Kind::Map(item),
            Some(Shape::List(item)) => Kind::List(item, &[]),
            _ => Kind::Leaf,
        }
    }
}

/// Whether there is no item or member.
fn is_hollow(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(members)) => members.is_empty(),
        Some(_) => false,
    }
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn members(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}
