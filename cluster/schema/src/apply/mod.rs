//! Server-side apply: merging a manager's configuration into an object, and keeping account of
//! who manages which fields (KEP-555).
//!
//! [`apply`] is for apply patches, [`update`] for every other write. Neither defaults nor
//! validates; both keep `metadata.managedFields` of the object they return. The types they walk are
//! [`Node`]s, so that they need not be built-in ones.

mod atomics;
mod compare;
mod element;
mod filter;
mod kind;
mod last_applied;
mod managers;
mod merge;
mod node;
mod scale;
mod session;
mod set;
mod validate;
mod walk;

pub(crate) use validate::{go_type, go_value};

pub use atomics::check_mutation;
pub use filter::{Filter, Pattern};
pub use kind::{BuiltinKind, Convert, CustomKind, Kind};
pub use node::{Anything, Form, Identity, Keys, Node, Scalar};
pub use scale::Replicas;

use crate::decode::as_written_down;
use managers::{Held, Managers, Source};
use serde_json::Value;
use session::{Refusal, Session};
use strata_meta::Time;

const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// The client whose earlier client-side applies are taken over.
const KUBECTL: &str = "kubectl";

/// Who writes what, and when.
#[derive(Clone, Copy)]
pub struct Write<'a> {
    /// The kind of the object.
    pub kind: &'a dyn Kind,
    /// The field manager's name; empty is `unknown`.
    pub manager: &'a str,
    /// The subresource that is written, or empty.
    pub subresource: &'a str,
    /// Fields that this path of the API does not write.
    pub filter: &'a Filter,
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
    /// The configuration may not say what it says.
    #[error("{0}")]
    BadRequest(String),
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

/// Applies a configuration to an object, or makes a new one of it. The result is in canonical
/// form and not defaulted yet.
pub fn apply(write: &Write<'_>, live: Option<&Value>, config: &Value, force: bool) -> Result<Value, ApplyError> {
    let whole = as_written_down(config);
    let config = &*whole;
    let session = Session::new(write).map_err(ApplyError::Invalid)?;
    let live = live.unwrap_or(write.kind.empty());
    let mut managers = Managers::read(live["metadata"]["managedFields"].clone(), Source::Stored)
        .map_err(|e| ApplyError::Invalid(format!("failed to decode managed fields: {e}")))?;
    session.check(config)?;
    let live = without_managed_fields(live.clone());
    if managers.0.is_empty() {
        let before = Write {
            manager: BEFORE_FIRST_APPLY,
            ..*write
        };
        let session = Session::new(&before).map_err(ApplyError::Invalid)?;
        let refused = |e| ApplyError::Invalid(format!("failed to create manager for existing fields: {e}"));
        session
            .account(write.kind.empty(), &live, &mut managers)
            .map_err(refused)?;
        managers.cap();
    }
    let mut outcome = session.merge(&live, config, managers.clone(), force);
    if let Err(Refusal::Held(held)) = &outcome
        && write.manager == KUBECTL
    {
        outcome = session.take_over(&live, config, &managers, held);
    }
    let (object, managers) = outcome.map_err(Refusal::into_error)?;
    let mut object = write
        .kind
        .normalise(object.unwrap_or(live))
        .map_err(|why| session.unversioned(config, &why))?;
    if write.manager == KUBECTL {
        last_applied::renew(&mut object, config);
    }
    with_managed_fields(object, managers).map_err(|_| ApplyError::BadRequest("exceeded max depth".to_owned()))
}

/// Keeps account of a write that is no apply: what it changed is the writer's. `live` is the object
/// before the write, `None` for a new one; the result is `new` with its managed fields. Errors: the
/// object is not of its type, so that there is no telling what changed; it comes back without them.
pub fn update(write: &Write<'_>, live: Option<&Value>, mut new: Value) -> Result<Value, (String, Value)> {
    let session = match Session::new(write) {
        Ok(session) => session,
        Err(why) => return Err((why, new)),
    };
    let sent = take_managed_fields(&mut new);
    let mut managers = managers_of_update(write, live, sent);
    // Tracking starts with the object or with its first apply, not in between.
    if managers.0.is_empty() && live.is_some() {
        return Ok(new);
    }
    // 80 and 80.0 are one to those who manage them.
    let accounted = session.account(
        live.unwrap_or(write.kind.empty()),
        &as_written_down(&new),
        &mut managers,
    );
    if let Err(why) = accounted {
        return Err((why, new));
    }
    managers.cap();
    with_managed_fields(new, managers).map_err(|object| ("exceeded max depth".to_owned(), object))
}

/// Whether the entries are such that the server could keep them. Errors: upstream's sentence.
pub fn check_entries(entries: &Value) -> Result<(), String> {
    Managers::read(entries.clone(), Source::Client).map(|_| ())
}

/// Whether two objects differ in nothing but the times of their managed fields' entries.
pub fn same_but_for_times(a: &Value, b: &Value) -> bool {
    members_same(a, b, |name, a, b| match name {
        "metadata" => members_same(a, b, |name, a, b| match name {
            "managedFields" => entries_same(a, b),
            _ => a == b,
        }),
        _ => a == b,
    })
}

fn entries_same(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_array(), b.as_array()) else {
        return a == b;
    };
    let same = |(a, b): (&Value, &Value)| members_same(a, b, |name, a, b| name == "time" || a == b);
    a.len() == b.len() && a.iter().zip(b).all(same)
}

fn members_same(a: &Value, b: &Value, same: impl Fn(&str, &Value, &Value) -> bool) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else {
        return a == b;
    };
    let is_same = |(name, a): (&String, &Value)| b.get(name).is_some_and(|b| same(name, a, b));
    a.len() == b.len() && a.iter().all(is_same)
}

/// The entries to go on from: those the writer sends, or else the object's.
fn managers_of_update(write: &Write<'_>, live: Option<&Value>, sent: Option<Value>) -> Managers {
    let kept = live.map(|live| &live["metadata"]["managedFields"]);
    let of_live = || {
        let entries = kept.cloned().unwrap_or_default();
        Managers::read(entries, Source::Stored).unwrap_or_default()
    };
    let Some(sent) = sent.filter(|_| write.subresource.is_empty()) else {
        return of_live();
    };
    if is_reset(&sent) {
        return Managers::default();
    }
    let source = match kept == Some(&sent) {
        true => Source::Stored,
        false => Source::Client,
    };
    match Managers::read(sent, source) {
        Ok(managers) if !managers.0.is_empty() => managers,
        _ => of_live(),
    }
}

/// An empty list, or one empty entry, asks for a fresh start.
fn is_reset(entries: &Value) -> bool {
    let is_blank = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    match entries.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([one]) => one.as_object().is_some_and(|entry| entry.values().all(is_blank)),
        _ => false,
    }
}

fn take_managed_fields(object: &mut Value) -> Option<Value> {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut)?;
    metadata.remove("managedFields")
}

fn without_managed_fields(mut object: Value) -> Value {
    take_managed_fields(&mut object);
    object
}

/// Deepest nesting of an object that can be read again.
const MAX_DEPTH: usize = 127;

/// Errors: the entries nest deeper than the object they tell of, too deep to be read again; the object comes back
/// without them.
fn with_managed_fields(mut object: Value, managers: Managers) -> Result<Value, Value> {
    let Some(entries) = managers.write() else {
        return Ok(object);
    };
    // The object and its metadata are around them.
    if !fits(&entries, MAX_DEPTH - 2) {
        return Err(object);
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("managedFields".to_owned(), entries);
    }
    Ok(object)
}

/// Whether a value nests no deeper than that.
fn fits(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(items) => depth > 0 && items.iter().all(|item| fits(item, depth - 1)),
        Value::Object(members) => depth > 0 && members.values().all(|member| fits(member, depth - 1)),
        _ => true,
    }
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
            let lines: Vec<String> = by_holder
                .iter()
                .map(|(holder, fields)| format!("conflicts with {holder}:\n- {}", fields.join("\n- ")))
                .collect();
            format!("Apply failed with {} conflicts: {}", causes.len(), lines.join("\n"))
        }
    };
    ApplyError::Conflict { message, causes }
}
