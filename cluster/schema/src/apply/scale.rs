//! Who manages the replicas of an object, seen through its `scale` subresource.

use super::managers::{Id, Managed, Managers, Source};
use super::set::Set;
use serde_json::Value;

/// The version in which replicas are written through a scale.
const SCALE: &str = "autoscaling/v1";

/// Where an object has its replicas.
#[derive(Clone, Debug)]
pub struct Replicas<'a> {
    /// The versions of the object, such as `apps/v1`, and where each has them.
    pub paths: &'a [(String, Vec<String>)],
    /// The version in which the object is written.
    pub version: &'a str,
}

impl Replicas<'_> {
    /// The path in a version; `Err` if there is no such version.
    fn path(&self, version: &str) -> Result<Vec<String>, ()> {
        let known = self.paths.iter().find(|(known, _)| *known == version).ok_or(())?;
        Ok(known.1.iter().map(|name| super::element::field(name)).collect())
    }

    /// The entries of the object as its scale has them. Errors: an entry is malformed.
    pub fn to_scale(&self, entries: &Value) -> Result<Option<Value>, String> {
        let managers = Managers::read(entries.clone(), Source::Stored)?;
        let mut scale = Managers::default();
        for (id, managed) in managers.0 {
            let Ok(path) = self.path(&managed.version) else {
                continue;
            };
            if !managed.set.contains(&path) {
                continue;
            }
            let version = SCALE.to_owned();
            let set = Set::of_fields(&[&["spec", "replicas"]]);
            let time = managed.time;
            let id = Id::new(&id.manager, id.applied, SCALE, &id.subresource);
            scale.0.insert(id, Managed { version, time, set });
        }
        Ok(scale.write())
    }

    /// The entries of the object after a write of its scale. Errors: an entry is malformed.
    pub fn to_parent(&self, entries: &Value, scale: &Value) -> Result<Option<Value>, String> {
        let parent = Managers::read(entries.clone(), Source::Stored)?;
        let mut scale = Managers::read(scale.clone(), Source::Client)?;
        let times: Vec<_> = parent
            .0
            .iter()
            .map(|(id, managed)| (id.clone(), managed.time))
            .collect();
        let mut out = Managers::default();
        for (id, mut managed) in parent.0 {
            let Ok(path) = self.path(&managed.version) else {
                continue;
            };
            if managed.set.contains(&path) {
                let seen = Id::new(&id.manager, id.applied, SCALE, &id.subresource);
                if scale.0.remove(&seen).is_none() {
                    let mut stolen = Set::default();
                    stolen.insert(&path);
                    managed.set.subtract(&stolen);
                }
            }
            if !managed.set.is_empty() {
                out.0.insert(id, managed);
            }
        }
        let Ok(path) = self.path(self.version) else {
            return Ok(out.write());
        };
        let replicas = Set::of_fields(&[&["spec", "replicas"]]);
        for (id, managed) in scale.0 {
            if !managed.set.meets(&replicas) {
                continue;
            }
            let mut set = Set::default();
            set.insert(&path);
            let seen = id.clone();
            let id = Id::new(&id.manager, id.applied, self.version, &id.subresource);
            let version = self.version.to_owned();
            // Upstream looks for the time of a new entry among those of the object.
            let time = times
                .iter()
                .find(|(known, _)| *known == seen)
                .and_then(|(_, time)| *time);
            out.0.insert(id, Managed { version, time, set });
        }
        Ok(out.write())
    }
}
