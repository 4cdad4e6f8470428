//! One write: merging, pruning, and who owns what afterwards.

use super::compare::{Comparison, compare, field_set};
use super::managers::{Held, Id, Managed, Managers};
use super::merge::{merge, reconciled, remove, with_named_fields};
use super::node::Node;
use super::set::Set;
use super::{ApplyError, Write, conflict, last_applied, validate};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Metadata that nobody manages.
const UNMANAGED: &[&[&str]] = &[
    &["apiVersion"],
    &["kind"],
    &["metadata"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "clusterName"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

/// Fields that no entry ever has.
static UNMANAGED_SET: LazyLock<Set> = LazyLock::new(|| Set::of_fields(UNMANAGED));

/// What the live object has and the compared one does not.
static ENTRIES: LazyLock<Set> = LazyLock::new(|| Set::of_fields(&[&["metadata", "managedFields"]]));

/// Why a merge did not come about.
pub(super) enum Refusal {
    Held(Vec<Held>),
    Other(String),
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Self::Other(why)
    }
}

impl Refusal {
    pub(super) fn into_error(self) -> ApplyError {
        match self {
            Self::Other(why) => ApplyError::Invalid(why),
            Self::Held(held) => conflict(&held),
        }
    }
}

/// A merge's outcome: the object, or `None` if nothing changes, and who owns what.
type Merged = Result<(Option<Value>, Managers), Refusal>;

/// One write's view of the object's type.
pub(super) struct Session<'a> {
    write: &'a Write<'a>,
    version: String,
    node: &'a dyn Node,
}

impl<'a> Session<'a> {
    pub(super) fn new(write: &'a Write<'a>) -> Result<Self, String> {
        let version = write.kind.gvk().api_version();
        let node = write.kind.node(&version);
        let node = node.ok_or_else(|| format!("no corresponding type for {}", write.kind.gvk()))?;
        Ok(Self { write, version, node })
    }

    /// The configuration has to be of this kind, with known fields of the right types.
    pub(super) fn check(&self, config: &Value) -> Result<(), ApplyError> {
        let entries = config["metadata"].get("managedFields");
        if entries.is_some_and(|entries| !entries.is_null()) {
            return Err(ApplyError::BadRequest("metadata.managedFields must be nil".to_owned()));
        }
        match validate::problems(self.node, config) {
            None => Ok(()),
            Some(why) => Err(ApplyError::Invalid(format!(
                "failed to create typed patch object ({}): {why}",
                self.address(config)
            ))),
        }
    }

    fn address(&self, object: &Value) -> String {
        let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
        format!("{}/{}; {}", text("namespace"), text("name"), self.write.kind.gvk())
    }

    /// What an object that is none after merging is refused with.
    pub(super) fn unversioned(&self, config: &Value, why: &str) -> ApplyError {
        let address = self.address(config);
        ApplyError::Invalid(format!(
            "failed to convert new object ({address}) to proper version: {why}"
        ))
    }

    /// Merges, prunes and settles ownership.
    pub(super) fn merge(&self, live: &Value, config: &Value, mut managers: Managers, force: bool) -> Merged {
        self.reconcile(&mut managers);
        let failed = |why| format!("failed to merge config: {why}");
        let merged = merge(self.node, Some(live), Some(config)).map_err(failed)?;
        let merged = merged.unwrap_or_else(|| json!({}));
        let manager = if self.write.manager.is_empty() {
            "unknown"
        } else {
            self.write.manager
        };
        let id = Id::new(manager, true, "", self.write.subresource);
        let last = managers.0.get(&id).cloned();
        let mut set = field_set(self.node, config).map_err(|why| format!("failed to get field set: {why}"))?;
        self.write.filter.set(&mut set);
        let managed = Managed {
            version: self.version.clone(),
            time: last.as_ref().and_then(|last| last.time),
            set,
        };
        // Most applies change values, not fields: whatever pruning would take out would come back as managed.
        let same = |last: &Managed| last.version == managed.version && managed.set.covers(&last.set);
        let nothing_lost = last.as_ref().is_none_or(same);
        managers.0.insert(id.clone(), managed);
        let new = match last {
            Some(last) if !nothing_lost => self.prune(merged, &managers, &last)?,
            Some(last) if cfg!(debug_assertions) && !last.set.is_empty() => {
                // Pruning fails on an item of a keyed list that is `{}`, which validation refuses with a better reason.
                if let Ok(pruned) = self.prune(merged.clone(), &managers, &last) {
                    debug_assert_eq!(pruned, merged);
                }
                merged
            }
            _ => merged,
        };
        self.take(live, &new, &mut managers, Some(&id), force)?;
        let changed = new != *live;
        if let Some(managed) = managers.0.get_mut(&id) {
            managed.set.subtract(&UNMANAGED_SET);
            if changed {
                managed.time = Some(self.write.now);
            }
        }
        managers.0.retain(|_, managed| !managed.set.is_empty());
        Ok((changed.then_some(new), managers))
    }

    /// Gives the writer what an update changed, and takes it from everyone else.
    pub(super) fn account(&self, old: &Value, new: &Value, managers: &mut Managers) -> Result<(), String> {
        if self.write.kind.changes() {
            self.reconcile(managers);
        }
        let comparison = match self.take(old, new, managers, None, true) {
            Ok(comparison) => comparison,
            Err(Refusal::Other(why)) => return Err(why),
            Err(Refusal::Held(_)) => return Err("a forced write met a conflict".to_owned()),
        };
        let mut set = comparison.modified;
        set.add(&comparison.added);
        set.subtract(&UNMANAGED_SET);
        if set.is_empty() {
            return Ok(());
        }
        let manager = match self.write.manager {
            "" => "unknown",
            stated => stated,
        };
        let id = Id::new(manager, false, &self.version, self.write.subresource);
        let entry = managers.0.entry(id).or_insert_with(|| Managed {
            version: self.version.clone(),
            time: None,
            set: Set::default(),
        });
        entry.set.add(&set);
        entry.time = Some(self.write.now);
        Ok(())
    }

    /// Takes what changed away from everyone but the writer. Errors: what others hold, unless forced.
    fn take(
        &self,
        old: &Value,
        new: &Value,
        managers: &mut Managers,
        writer: Option<&Id>,
        force: bool,
    ) -> Result<Comparison, Refusal> {
        let own = self.compare(self.node, old, new)?;
        let mut versions: BTreeMap<String, Option<Comparison>> = BTreeMap::new();
        for managed in managers.0.values().filter(|managed| managed.version != self.version) {
            if !versions.contains_key(&managed.version) {
                let found = self.compare_in(&managed.version, old, new)?;
                versions.insert(managed.version.clone(), found);
            }
        }
        let in_version = |version: &str| match version == self.version {
            true => Some(&own),
            false => versions.get(version).and_then(Option::as_ref),
        };
        // Versions that are no longer served are forgotten.
        managers
            .0
            .retain(|id, managed| Some(id) == writer || in_version(&managed.version).is_some());
        let mut held: Vec<Held> = Vec::new();
        for (id, managed) in &mut managers.0 {
            let Some(changes) = in_version(&managed.version).filter(|_| Some(id) != writer) else {
                continue;
            };
            if !force {
                let changed = changes.modified.clone().union(&changes.added);
                let paths = managed.set.intersection(&changed).paths();
                held.extend(paths.into_iter().map(|path| Held { by: id.clone(), path }));
            }
            for changed in [&changes.modified, &changes.added, &changes.removed] {
                managed.set.subtract(changed);
            }
        }
        if !held.is_empty() {
            held.sort_by_cached_key(|held| held.by.text());
            return Err(Refusal::Held(held));
        }
        managers.0.retain(|_, managed| !managed.set.is_empty());
        Ok(own)
    }

    fn compare(&self, node: &dyn Node, old: &Value, new: &Value) -> Result<Comparison, String> {
        let mut found = compare(node, old, new).map_err(|why| format!("failed to compare objects: {why}"))?;
        for set in found.sets_mut() {
            set.subtract_trees(&ENTRIES);
        }
        self.write.filter.comparison(&mut found);
        Ok(found)
    }

    /// The comparison in another version; `None` if there is no such version.
    fn compare_in(&self, version: &str, old: &Value, new: &Value) -> Result<Option<Comparison>, String> {
        let kind = self.write.kind;
        let Some(node) = kind.node(version) else {
            return Ok(None);
        };
        let (old, new) = (
            kind.convert(old, &self.version, version),
            kind.convert(new, &self.version, version),
        );
        self.compare(node, &old, &new).map(Some)
    }

    /// Sets that were written when the types were others.
    fn reconcile(&self, managers: &mut Managers) {
        for managed in managers.0.values_mut() {
            let node = self.write.kind.node(&managed.version);
            if let Some(set) = node.and_then(|node| reconciled(node, &managed.set)) {
                managed.set = set;
            }
        }
    }

    /// Removes what the applier applied last time, does not apply now, and nobody else manages.
    fn prune(&self, merged: Value, managers: &Managers, last: &Managed) -> Result<Value, String> {
        let kind = self.write.kind;
        let Some(node) = kind.node(&last.version) else {
            return Ok(merged);
        };
        let convert = |value: Value, from: &str, to: &str| match from == to {
            true => value,
            false => kind.convert(&value, from, to),
        };
        let failed = |why: String| format!("failed to prune fields: {why}");
        let merged = convert(merged, &self.version, &last.version);
        let named = with_named_fields(Some(node), last.set.level());
        let pruned = remove(node, &merged, named.level());
        // Everything that is managed comes back, first in the version that was pruned.
        let mut by_version: BTreeMap<&str, Set> = BTreeMap::new();
        for managed in managers.0.values() {
            by_version.entry(&managed.version).or_default().add(&managed.set);
        }
        let mut versions: Vec<(&str, Set)> = by_version.into_iter().collect();
        versions.sort_by_key(|(version, _)| *version != last.version);
        let (mut all, mut kept, mut at) = (merged.clone(), pruned, last.version.as_str());
        for (version, managed) in versions {
            let Some(node) = kind.node(version) else { continue };
            (all, kept) = (convert(all, at, version), convert(kept, at, version));
            at = version;
            let named = |set: &Set| with_named_fields(Some(node), set.level());
            let everything = named(&field_set(node, &all).map_err(failed)?);
            let stays = named(&field_set(node, &kept).map_err(failed)?).union(&named(&managed));
            kept = remove(node, &all, everything.difference(&stays).level());
        }
        let kept = convert(kept, at, &last.version);
        // Items that nobody owns stay, unless the applier owned them.
        let set_of = |value: &Value| field_set(node, value).map_err(failed);
        let left = with_named_fields(Some(node), set_of(&kept)?.level());
        let everything = with_named_fields(Some(node), set_of(&merged)?.level());
        let gone = everything.difference(&left).intersection(&named);
        let pruned = remove(node, &merged, gone.level());
        Ok(convert(pruned, &last.version, &self.version))
    }

    /// kubectl may take what its client-side apply wrote, if that is unchanged since.
    pub(super) fn take_over(&self, live: &Value, config: &Value, managers: &Managers, held: &[Held]) -> Merged {
        let Some(allowed) = last_applied::unchanged(self.node, &self.version, live) else {
            return Err(Refusal::Held(held.to_vec()));
        };
        let left: Vec<Held> = held
            .iter()
            .filter(|held| !allowed.contains(&held.path))
            .cloned()
            .collect();
        match left.is_empty() {
            true => self.merge(live, config, managers.clone(), true),
            false => Err(Refusal::Held(left)),
        }
    }
}
