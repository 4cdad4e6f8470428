//! Server-side apply: merging a manager's configuration into an object, and keeping account of
//! who manages which fields (KEP-555).
//!
//! [`apply`] is for apply patches, [`update`] for every other write. Neither defaults nor
//! validates; both keep `metadata.managedFields` of the object they return.

mod managers;
mod node;
mod set;
mod walk;

pub use node::{Anything, Form, Identity, Keys, Node, Scalar};

use crate::{Error, Schema, Shape, decode_check, decode_value};
use managers::{Held, Id, Managed, Managers};
use serde_json::{Map, Value, json};
use set::{Element, Set};
use std::sync::LazyLock;
use strata_meta::{GroupVersionKind, Time};
use walk::{Comparison, NoIdentity, Place};

const BEFORE_FIRST_APPLY: &str = "before-first-apply";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The client whose earlier client-side applies are taken over.
const KUBECTL: &str = "kubectl";

/// Metadata that nobody manages.
const UNMANAGED: &[&str] = &[
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
];

/// Who writes what, and when.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// The kind of the object.
    pub gvk: &'a GroupVersionKind,
    /// The field manager's name.
    pub manager: &'a str,
    /// The subresource that is written, or empty.
    pub subresource: &'a str,
    /// The time of the write.
    pub now: Time,
}

/// Why an apply was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Other managers hold fields with other values; the sentence is upstream's.
    #[error("{message}")]
    Conflict {
        /// The whole sentence.
        message: String,
        /// One cause for each field.
        causes: Vec<Conflict>,
    },
    /// The configuration or the object is malformed.
    #[error("{0}")]
    Invalid(String),
}

/// A field that another manager holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The field, such as `.spec.replicas`.
    pub field: String,
    /// `conflict with "manager" using apps/v1`.
    pub message: String,
}

impl From<NoIdentity> for ApplyError {
    fn from(error: NoIdentity) -> Self {
        Self::Invalid(error.0)
    }
}

impl From<Error> for ApplyError {
    fn from(error: Error) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// Applies a configuration to an object, or makes a new one of it. The result is in canonical
/// form and not defaulted yet.
pub fn apply(write: &Write<'_>, live: Option<&Value>, config: &Value, force: bool) -> Result<Value, ApplyError> {
    let session = Session::new(write)?;
    session.check(config)?;
    let empty = session.empty()?;
    let live = live.unwrap_or(&empty);
    let mut managers = Managers::read(&live["metadata"]["managedFields"])
        .map_err(|e| ApplyError::Invalid(format!("failed to decode managed fields: {e}")))?;
    let live = without_managed_fields(live.clone());
    if managers.0.is_empty() {
        let before = Write {
            manager: BEFORE_FIRST_APPLY,
            subresource: "",
            ..*write
        };
        session.account(&before, &empty, &live, &mut managers)?;
    }
    let mut outcome = session.merge(&live, config, managers.clone(), force);
    if let Err(Refusal::Held(held)) = &outcome
        && write.manager == KUBECTL
    {
        outcome = session.take_over(&live, config, &managers, held);
    }
    let (object, managers) = outcome.map_err(Refusal::into_error)?;
    session.finish(object.unwrap_or(live), config, &managers)
}

/// Keeps account of a write that is no apply: what it changed is the writer's. `live` is the object
/// before the write, `None` for a new one; the result is `new` with its managed fields.
pub fn update(write: &Write<'_>, live: Option<&Value>, new: Value) -> Result<Value, ApplyError> {
    let session = Session::new(write)?;
    let mut managers = managers_of_update(write, live, &new);
    let new = without_managed_fields(new);
    // Tracking starts with the object or with its first apply, not in between.
    if managers.0.is_empty() && live.is_some() {
        return Ok(new);
    }
    match live {
        Some(live) => session.account(write, live, &new, &mut managers)?,
        None => session.account(write, &session.empty()?, &new, &mut managers)?,
    }
    managers.cap();
    Ok(with_managed_fields(new, &managers))
}

/// The entries to go on from: those the writer sends, or else the object's.
fn managers_of_update(write: &Write<'_>, live: Option<&Value>, new: &Value) -> Managers {
    let of_live = || {
        live.and_then(|live| Managers::read(&live["metadata"]["managedFields"]).ok())
            .unwrap_or_default()
    };
    if !write.subresource.is_empty() {
        return of_live();
    }
    let sent = &new["metadata"]["managedFields"];
    let reset = sent.as_array().is_some_and(|entries| match entries.as_slice() {
        [] => true,
        [one] => one.as_object().is_some_and(Map::is_empty),
        _ => false,
    });
    match Managers::read(sent) {
        _ if reset => Managers::default(),
        Ok(managers) if !managers.0.is_empty() => managers,
        _ => of_live(),
    }
}

/// Why a merge did not come about.
enum Refusal {
    Held(Vec<Held>),
    Other(ApplyError),
}

impl<E: Into<ApplyError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

impl Refusal {
    fn into_error(self) -> ApplyError {
        match self {
            Self::Other(error) => error,
            Self::Held(held) => conflict(&held),
        }
    }
}

/// One write's view of the object's type.
struct Session<'a> {
    write: &'a Write<'a>,
    schema: &'static Schema,
    shape: Shape,
    /// Fields that this path of the API does not write.
    ignored: Set,
}

impl<'a> Session<'a> {
    fn new(write: &'a Write<'a>) -> Result<Self, ApplyError> {
        let schema = Schema::builtin();
        let id = schema
            .type_of(write.gvk)
            .ok_or_else(|| Error::UnknownKind(write.gvk.to_string()))?;
        let mut ignored = Set::default();
        match write.subresource {
            "" if schema.kind(write.gvk).is_some_and(|kind| kind.has_status()) => {
                ignored.insert(&[Element::Field("status".to_owned())]);
            }
            "status" => ignored.insert(&[Element::Field("spec".to_owned())]),
            _ => {}
        }
        Ok(Self {
            write,
            schema,
            shape: Shape::Struct(id),
            ignored,
        })
    }

    fn place(&self) -> Place<'_> {
        Place::root(self.schema, &self.shape)
    }

    /// A new object of which nothing is set.
    fn empty(&self) -> Result<Value, ApplyError> {
        Ok(decode_value(self.write.gvk, json!({}))?.value)
    }

    /// The configuration has to be of this kind, with known fields of the right types.
    fn check(&self, config: &Value) -> Result<(), ApplyError> {
        if config["metadata"]
            .get("managedFields")
            .is_some_and(|entries| !entries.is_null())
        {
            return Err(ApplyError::Invalid("metadata.managedFields must be nil".to_owned()));
        }
        let text = |name: &str| config["metadata"][name].as_str().unwrap_or_default();
        let (namespace, name) = (text("namespace"), text("name"));
        let failed = |why: String| {
            ApplyError::Invalid(format!(
                "failed to create typed patch object ({namespace}/{name}; {}): {why}",
                self.write.gvk
            ))
        };
        let decoded = decode_check(self.write.gvk, config).map_err(|e| failed(e.to_string()))?;
        let unknown = decoded
            .strict
            .iter()
            .find_map(|finding| finding.strip_prefix("unknown field \"")?.strip_suffix('"'));
        match unknown {
            Some(path) => Err(failed(format!(".{path}: field not declared in schema"))),
            None => Ok(()),
        }
    }

    /// Merges, prunes and settles ownership. Returns `None` for the object if nothing changes.
    fn merge(
        &self,
        live: &Value,
        config: &Value,
        mut managers: Managers,
        force: bool,
    ) -> Result<(Option<Value>, Managers), Refusal> {
        let place = self.place();
        let merged = place.merge(Some(live), Some(config))?.unwrap_or_else(|| json!({}));
        let id = Id::new(self.write.manager, true, "", self.write.subresource);
        let version = self.write.gvk.api_version();
        let last = managers.0.get(&id).cloned();
        let set = place.field_set(config)?.recursive_difference(&self.ignored);
        let time = last.as_ref().and_then(|last| last.time);
        managers.0.insert(id.clone(), Managed { version, time, set });
        let new = match last.filter(|last| !last.set.is_empty()) {
            Some(last) => self.prune(&merged, &managers, &last.set)?,
            None => merged,
        };
        let comparison = self.compare(live, &new)?;
        managers.take(&comparison, Some(&id), force).map_err(Refusal::Held)?;
        let changed = new != *live;
        if let Some(managed) = managers.0.get_mut(&id) {
            managed.set = managed.set.difference(unmanaged());
            if changed {
                managed.time = Some(self.write.now);
            }
        }
        managers.0.retain(|_, managed| !managed.set.is_empty());
        Ok((changed.then_some(new), managers))
    }

    fn compare(&self, old: &Value, new: &Value) -> Result<Comparison, NoIdentity> {
        let found = self.place().compare(old, new)?;
        Ok(Comparison {
            added: found.added.recursive_difference(&self.ignored),
            removed: found.removed.recursive_difference(&self.ignored),
            modified: found.modified.recursive_difference(&self.ignored),
        })
    }

    /// Removes what the applier applied last time, does not apply now, and nobody else manages.
    fn prune(&self, merged: &Value, managers: &Managers, last: &Set) -> Result<Value, NoIdentity> {
        let place = self.place();
        let named = |set: &Set| place.with_named_fields(set);
        let last = named(last);
        let pruned = place.remove(merged, &last)?;
        let managed = managers
            .0
            .values()
            .fold(Set::default(), |all, managed| all.union(&managed.set));
        let everything = named(&place.field_set(merged)?);
        let kept = named(&place.field_set(&pruned)?).union(&named(&managed));
        let pruned = place.remove(merged, &everything.difference(&kept))?;
        // Items that nobody owns stay, unless the applier owned them.
        let left = named(&place.field_set(&pruned)?);
        place.remove(merged, &everything.difference(&left).intersection(&last))
    }

    /// kubectl may take what its client-side apply wrote, if that is unchanged since.
    fn take_over(
        &self,
        live: &Value,
        config: &Value,
        managers: &Managers,
        held: &[Held],
    ) -> Result<(Option<Value>, Managers), Refusal> {
        let allowed = self.last_applied(live).unwrap_or_default();
        let still_held = |held: &&Held| {
            let mut one = Set::default();
            one.insert(&held.path);
            !one.difference(&allowed).is_empty()
        };
        let left: Vec<Held> = held
            .iter()
            .filter(still_held)
            .map(|held| Held {
                by: held.by.clone(),
                path: held.path.clone(),
            })
            .collect();
        match left.is_empty() {
            true => self.merge(live, config, managers.clone(), true),
            false => Err(Refusal::Held(left)),
        }
    }

    fn last_applied(&self, live: &Value) -> Option<Set> {
        let text = live["metadata"]["annotations"].get(LAST_APPLIED)?.as_str()?;
        let last: Value = serde_json::from_str(text).ok()?;
        if last["apiVersion"].as_str()? != self.write.gvk.api_version() {
            return None;
        }
        let found = self.place().compare(&last, live).ok()?;
        let set = self.place().field_set(&last).ok()?;
        Some(
            set.difference(&found.modified)
                .difference(&found.added)
                .difference(&found.removed),
        )
    }

    /// Gives the writer what an update changed, and takes it from everyone else.
    fn account(&self, write: &Write<'_>, old: &Value, new: &Value, managers: &mut Managers) -> Result<(), ApplyError> {
        let comparison = self.compare(old, new)?;
        if managers.take(&comparison, None, true).is_err() {
            return Err(ApplyError::Invalid("a forced write met a conflict".to_owned()));
        }
        let set = comparison.modified.union(&comparison.added).difference(unmanaged());
        if set.is_empty() {
            return Ok(());
        }
        let manager = if write.manager.is_empty() {
            "unknown"
        } else {
            write.manager
        };
        let version = write.gvk.api_version();
        let id = Id::new(manager, false, &version, write.subresource);
        let entry = managers.0.entry(id).or_insert_with(|| Managed {
            version,
            time: None,
            set: Set::default(),
        });
        entry.set = entry.set.union(&set);
        entry.time = Some(write.now);
        Ok(())
    }

    /// Canonical form, managed fields, and the annotation that kubectl's client-side apply compares with.
    fn finish(&self, object: Value, config: &Value, managers: &Managers) -> Result<Value, ApplyError> {
        let mut object = decode_value(self.write.gvk, object)?.value;
        if self.write.manager == KUBECTL
            && object["metadata"]["annotations"]
                .get(LAST_APPLIED)
                .and_then(Value::as_str)
                .is_some_and(|t| !t.is_empty())
        {
            let mut config = config.clone();
            if let Some(annotations) = config["metadata"].get_mut("annotations").and_then(Value::as_object_mut) {
                annotations.remove(LAST_APPLIED);
            }
            object["metadata"]["annotations"][LAST_APPLIED] = format!("{config}\n").into();
        }
        Ok(with_managed_fields(object, managers))
    }
}

/// Fields that no entry ever has.
fn unmanaged() -> &'static Set {
    static UNMANAGED_SET: LazyLock<Set> = LazyLock::new(|| {
        let field = |name: &str| Element::Field(name.to_owned());
        let mut set = Set::default();
        for name in ["apiVersion", "kind", "metadata"] {
            set.insert(&[field(name)]);
        }
        for name in UNMANAGED {
            set.insert(&[field("metadata"), field(name)]);
        }
        set
    });
    &UNMANAGED_SET
}

fn without_managed_fields(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

fn with_managed_fields(mut object: Value, managers: &Managers) -> Value {
    if let (Some(entries), Some(metadata)) = (
        managers.write(),
        object.get_mut("metadata").and_then(Value::as_object_mut),
    ) {
        metadata.insert("managedFields".to_owned(), entries);
    }
    object
}

/// The sentence and the causes of a refusal.
fn conflict(held: &[Held]) -> ApplyError {
    let mut by_holder: Vec<(String, Vec<String>)> = Vec::new();
    let mut causes = Vec::new();
    for one in held {
        let (holder, field) = (one.holder(), one.field());
        causes.push(Conflict {
            message: format!("conflict with {holder}"),
            field: field.clone(),
        });
        match by_holder.iter_mut().find(|(known, _)| *known == holder) {
            Some((_, fields)) => fields.push(field),
            None => by_holder.push((holder, vec![field])),
        }
    }
    let message = match causes.as_slice() {
        [one] => format!("Apply failed with 1 conflict: {}: {}", one.message, one.field),
        _ => {
            by_holder.sort();
            let lines: Vec<String> = by_holder
                .iter()
                .map(|(holder, fields)| format!("conflicts with {holder}:\n- {}", fields.join("\n- ")))
                .collect();
            format!("Apply failed with {} conflicts: {}", causes.len(), lines.join("\n"))
        }
    };
    ApplyError::Conflict { message, causes }
}
