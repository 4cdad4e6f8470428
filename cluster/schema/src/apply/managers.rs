//! Who manages which fields: the entries of `metadata.managedFields`.

use super::set::{Element, Path, Set};
use super::walk::Comparison;
use serde_json::{Value, json};
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
#[derive(Clone, Debug)]
pub(super) struct Managed {
    pub(super) version: String,
    pub(super) time: Option<Time>,
    pub(super) set: Set,
}

/// Every manager of an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Managers(pub(super) BTreeMap<Id, Managed>);

/// A field that another manager holds.
pub(super) struct Held {
    pub(super) by: Id,
    pub(super) path: Path,
}

impl Managers {
    /// Reads the entries of an object. Errors say which entry is malformed.
    pub(super) fn read(entries: &Value) -> Result<Self, String> {
        let mut managers = BTreeMap::new();
        for (at, entry) in entries.as_array().into_iter().flatten().enumerate() {
            let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            let applied = match entry["operation"].as_str() {
                Some("Apply") => true,
                Some("Update") => false,
                _ => return Err("operation must be `Apply` or `Update`".to_owned()),
            };
            let version = text("apiVersion");
            if version.is_empty() {
                return Err("apiVersion must not be empty".to_owned());
            }
            match text("fieldsType").as_str() {
                "FieldsV1" => {}
                "" => return Err(format!("missing fieldsType in managed fields entry {at}")),
                other => return Err(format!("invalid fieldsType {other:?} in managed fields entry {at}")),
            }
            let id = Id::new(&text("manager"), applied, &version, &text("subresource"));
            let time = entry["time"].as_str().and_then(Time::parse);
            managers.insert(
                id,
                Managed {
                    version,
                    time,
                    set: Set::from_fields(&entry["fieldsV1"]),
                },
            );
        }
        Ok(Self(managers))
    }

    /// The entries in upstream's order; `None` if there are none.
    pub(super) fn write(&self) -> Option<Value> {
        let mut all: Vec<(&Id, &Managed)> = self.0.iter().collect();
        all.sort_by_key(|(id, managed)| {
            let second = managed.time.map_or(0, |time| time.as_second());
            (!id.applied, second, &id.manager, &managed.version, &id.subresource)
        });
        let entries: Vec<Value> = all.into_iter().map(|(id, managed)| entry(id, managed)).collect();
        (!entries.is_empty()).then_some(Value::Array(entries))
    }

    /// Takes what changed away from everyone but the writer. Errors: what others hold, unless forced.
    pub(super) fn take(&mut self, comparison: &Comparison, writer: Option<&Id>, force: bool) -> Result<(), Vec<Held>> {
        let changed = comparison.modified.union(&comparison.added);
        let others = || self.0.iter().filter(|(id, _)| Some(*id) != writer);
        if !force {
            let held: Vec<Held> = others()
                .flat_map(|(id, managed)| {
                    let paths = managed.set.intersection(&changed).paths();
                    paths.into_iter().map(|path| Held { by: id.clone(), path })
                })
                .collect();
            if !held.is_empty() {
                return Err(held);
            }
        }
        let gone = changed.union(&comparison.removed);
        for (id, managed) in &mut self.0 {
            if Some(id) != writer {
                managed.set = managed.set.difference(&gone);
            }
        }
        self.0.retain(|_, managed| !managed.set.is_empty());
        Ok(())
    }

    /// Merges the oldest updates until there are few enough.
    pub(super) fn cap(&mut self) {
        let mut updaters: Vec<Id> = self.0.keys().filter(|id| !id.applied).cloned().collect();
        if updaters.len() <= MAX_UPDATERS {
            return;
        }
        updaters.sort_by_key(|id| (self.0[id].time.map_or(0, |time| time.as_second()), id.clone()));
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
            if let (Some(merged), Some(into)) = (self.0.remove(&id), self.0.get_mut(&bucket)) {
                into.set = into.set.union(&merged.set);
                into.time = merged.time;
            }
            surplus -= 1;
        }
    }
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

fn entry(id: &Id, managed: &Managed) -> Value {
    let mut entry = json!({
        "manager": id.manager,
        "operation": if id.applied { "Apply" } else { "Update" },
        "apiVersion": managed.version,
        "fieldsType": "FieldsV1",
        "fieldsV1": managed.set.to_fields(),
    });
    if let Some(time) = managed.time {
        entry["time"] = time.to_string().into();
    }
    if !id.subresource.is_empty() {
        entry["subresource"] = id.subresource.clone().into();
    }
    entry
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
        self.path.iter().map(Element::to_string).collect()
    }
}
