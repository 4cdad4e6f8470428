//! Who manages which fields: the entries of `metadata.managedFields`.

use super::element;
use super::set::{Path, Set};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use strata_meta::Time;

/// More entries of updates than this are merged, the oldest first.
const MAX_UPDATERS: usize = 10;

/// Where the changes of merged entries go.
const ANCIENT: &str = "ancient-changes";

/// What tells one entry from another. Appliers are the same in every version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) manager: String,
    pub(super) applied: bool,
    /// Empty for appliers.
    pub(super) version: String,
    pub(super) subresource: String,
}

/// One manager's fields.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Managed {
    pub(super) version: String,
    pub(super) time: Option<Time>,
    pub(super) set: Set,
}

/// Every manager of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Managers(pub(super) BTreeMap<Id, Managed>);

/// A field that another manager holds.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) by: Id,
    pub(super) path: Path,
}

/// Whose text the entries are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The server's own: the sets are in canonical form.
    Stored,
    /// A client's.
    Client,
}

impl Managers {
    /// Reads the entries of an object. Errors say which entry is malformed.
    pub(super) fn read(entries: Value, source: Source) -> Result<Self, String> {
        let entries = match entries {
            Value::Array(entries) => entries,
            _ => Vec::new(),
        };
        let mut managers = BTreeMap::new();
        for (at, entry) in entries.into_iter().enumerate() {
            let Value::Object(mut entry) = entry else {
                return Err(format!("invalid managed fields entry {at}"));
            };
            let (id, managed) = read_entry(at, &mut entry, source)?;
            managers.insert(id, managed);
        }
        Ok(Self(managers))
    }

    /// The entries in upstream's order; `None` if there are none.
    pub(super) fn write(self) -> Option<Value> {
        let mut all: Vec<(Id, Managed)> = self.0.into_iter().collect();
        all.sort_by(|(a, a_managed), (b, b_managed)| {
            let second = |managed: &Managed| managed.time.map_or(0, |time| time.as_second());
            let order = (!a.applied, second(a_managed)).cmp(&(!b.applied, second(b_managed)));
            let rest = (&a.manager, &a_managed.version, &a.subresource);
            order.then_with(|| rest.cmp(&(&b.manager, &b_managed.version, &b.subresource)))
        });
        let entries: Vec<Value> = all.into_iter().map(|(id, managed)| entry(id, managed)).collect();
        (!entries.is_empty()).then_some(Value::Array(entries))
    }

    /// Merges the oldest updates until there are few enough.
    pub(super) fn cap(&mut self) {
        if self.0.len() <= MAX_UPDATERS {
            return;
        }
        let mut updaters: Vec<Id> = self.0.keys().filter(|id| !id.applied).cloned().collect();
        if updaters.len() <= MAX_UPDATERS {
            return;
        }
        updaters.sort_by_cached_key(|id| (self.0[id].time.map_or(0, |time| time.as_second()), id.text()));
        let mut surplus = updaters.len() - MAX_UPDATERS;
        let mut first_of: BTreeMap<String, Id> = BTreeMap::new();
        for id in updaters {
            if surplus == 0 {
                return;
            }
            let version = self.0[&id].version.clone();
            let Some(first) = first_of.get(&version) else {
                first_of.insert(version, id);
                continue;
            };
            let bucket = Id::new(ANCIENT, false, &version, "");
            if !self.0.contains_key(&bucket)
                && let Some(managed) = self.0.remove(first)
            {
                self.0.insert(bucket.clone(), managed);
            }
            if bucket != id
                && let (Some(merged), Some(into)) = (self.0.remove(&id), self.0.get_mut(&bucket))
            {
                into.set.add(&merged.set);
                into.time = merged.time;
            }
            surplus -= 1;
        }
    }
}

fn read_entry(at: usize, entry: &mut Map<String, Value>, source: Source) -> Result<(Id, Managed), String> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
    let applied = match text("operation") {
        "Apply" => true,
        "Update" => false,
        _ => return Err("operation must be `Apply` or `Update`".to_owned()),
    };
    let version = text("apiVersion").to_owned();
    if version.is_empty() {
        return Err("apiVersion must not be empty".to_owned());
    }
    match text("fieldsType") {
        "FieldsV1" => {}
        "" => return Err(format!("missing fieldsType in managed fields entry {at}")),
        other => return Err(format!("invalid fieldsType {other:?} in managed fields entry {at}")),
    }
    let id = Id::new(text("manager"), applied, &version, text("subresource"));
    let time = Time::parse(text("time"));
    let fields = entry.remove("fieldsV1").unwrap_or_default();
    let set = match source {
        Source::Stored => Set::from_stored(fields),
        Source::Client => Set::from_client(&fields).map_err(|why| {
            format!(
                "error decoding versioned set from {}: error decoding set: {why}",
                id.manager
            )
        })?,
    };
    Ok((id, Managed { version, time, set }))
}

impl Id {
    pub(super) fn new(manager: &str, applied: bool, version: &str, subresource: &str) -> Self {
        Self {
            manager: manager.to_owned(),
            applied,
            version: if applied { String::new() } else { version.to_owned() },
            subresource: subresource.to_owned(),
        }
    }
}

impl Id {
    /// What upstream knows the entry by; it sorts by this text.
    pub(super) fn text(&self) -> String {
        let operation = if self.applied { "Apply" } else { "Update" };
        let mut text = format!(
            "{{\"manager\":{},\"operation\":{operation:?}",
            Value::from(self.manager.as_str())
        );
        for (name, value) in [("apiVersion", &self.version), ("subresource", &self.subresource)] {
            if !value.is_empty() {
                text.push_str(&format!(",\"{name}\":{}", Value::from(value.as_str())));
            }
        }
        text + "}"
    }
}

fn entry(id: Id, managed: Managed) -> Value {
    let mut entry = Map::new();
    let operation = if id.applied { "Apply" } else { "Update" };
    entry.insert("apiVersion".to_owned(), managed.version.into());
    entry.insert("fieldsType".to_owned(), "FieldsV1".into());
    entry.insert("fieldsV1".to_owned(), managed.set.into_fields());
    if !id.manager.is_empty() {
        entry.insert("manager".to_owned(), id.manager.into());
    }
    entry.insert("operation".to_owned(), operation.into());
    if !id.subresource.is_empty() {
        entry.insert("subresource".to_owned(), id.subresource.into());
    }
    if let Some(time) = managed.time {
        entry.insert("time".to_owned(), time.to_string().into());
    }
    Value::Object(entry)
}

impl Held {
    /// Who holds it, in the words of a conflict.
    pub(super) fn holder(&self) -> String {
        let mut words = format!("{:?}", self.by.manager);
        if !self.by.subresource.is_empty() {
            words.push_str(&format!(" with subresource {:?}", self.by.subresource));
        }
        if !self.by.applied {
            words.push_str(&format!(" using {}", self.by.version));
        }
        words
    }

    /// The field, such as `.spec.replicas`.
    pub(super) fn field(&self) -> String {
        self.path.iter().map(|step| element::shown(step)).collect()
    }
}
