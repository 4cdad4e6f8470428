//! From definitions to rows, and back.

use super::{Custom, Definition, strategy::CustomStrategy};
use crate::{
    cache::{ResourceCache, prefix_of},
    core::Core,
    registry::{Row, Subresource},
    schema::RowSchema,
    strategy::StrategyOf,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, RwLock},
    time::Duration,
};
use strata_meta::{GroupResource, GroupVersionKind, WatchEvent};
use strata_schema::Schema;
use strata_task::CancellationToken;
use tokio::sync::mpsc;

/// The group of definitions.
pub(crate) const GROUP: &str = "apiextensions.k8s.io";
/// Their plural name.
pub(crate) const PLURAL: &str = "customresourcedefinitions";

/// The definitions there are.
pub(crate) struct Extensions {
    definitions: RwLock<HashMap<String, Arc<Definition>>>,
    dirty: mpsc::UnboundedSender<String>,
    todo: std::sync::Mutex<Option<mpsc::UnboundedReceiver<String>>>,
    /// Names that are looked at again after a while.
    later: std::sync::Mutex<HashSet<String>>,
}

impl Default for Extensions {
    fn default() -> Self {
        // Bounded by changes of definitions: each change is one short name, and the controller takes them at once.
        let (dirty, todo) = mpsc::unbounded_channel();
        Self {
            definitions: RwLock::default(),
            dirty,
            todo: std::sync::Mutex::new(Some(todo)),
            later: std::sync::Mutex::default(),
        }
    }
}

impl Extensions {
    /// All definitions now.
    pub(crate) fn all(&self) -> Vec<Arc<Definition>> {
        let definitions = self.definitions.read().expect("no panic under this lock");
        definitions.values().cloned().collect()
    }

    /// A definition by name.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Definition>> {
        let definitions = self.definitions.read().expect("no panic under this lock");
        definitions.get(name).cloned()
    }

    /// Names of definitions to look at; once, for the controller.
    pub(super) fn take_todo(&self) -> Option<mpsc::UnboundedReceiver<String>> {
        self.todo.lock().expect("no panic under this lock").take()
    }

    /// Has the controller look at a definition.
    pub(super) fn look_at(&self, name: &str) {
        // Nobody listens any more only when the server ends.
        let _ = self.dirty.send(name.to_owned());
    }

    /// Has the controller look at a definition after a while, once however often that is asked for.
    pub(super) fn look_later(self: &Arc<Self>, name: &str, after: Duration, cancel: &CancellationToken) {
        if !self.later().insert(name.to_owned()) {
            return;
        }
        let (extensions, name, cancel) = (self.clone(), name.to_owned(), cancel.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = tokio::time::sleep(after) => {
                    extensions.later().remove(&name);
                    extensions.look_at(&name);
                }
            }
        });
    }

    fn later(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.later.lock().expect("no panic under this lock")
    }

    /// A change of a definition, before anybody else hears of it.
    pub(crate) fn observe(&self, core: &Core, event: &WatchEvent) {
        let Some(object) = event.object() else { return };
        let name = object.name().to_owned();
        let before = self.get(&name);
        if matches!(event, WatchEvent::Deleted(_)) {
            self.definitions
                .write()
                .expect("no panic under this lock")
                .remove(&name);
            if let Some(before) = before {
                withdraw(core, &before);
            }
            self.look_at(&name);
            return;
        }
        match Definition::read(object, before.as_deref()) {
            Ok(definition) => {
                let definition = Arc::new(definition);
                let mut definitions = self.definitions.write().expect("no panic under this lock");
                definitions.insert(name.clone(), definition.clone());
                drop(definitions);
                if definition.established {
                    install(core, &definition, before.as_deref());
                } else if before.is_some_and(|before| before.established) {
                    unserve(core, &definition);
                }
            }
            Err(error) => tracing::error!(%name, %error, "a definition cannot be read and is not served"),
        }
        self.look_at(&name);
    }
}

/// Where instances are kept: beside those of a built-in kind of the same name, which no plural has a dot for.
fn prefix(definition: &Definition) -> String {
    let (group, plural) = (&definition.group, &definition.names.plural);
    let mut builtin = Schema::builtin().kinds().iter();
    match builtin.any(|kind| kind.group == group && kind.plural == plural) {
        true => prefix_of(group, &format!("{plural}.custom")),
        false => prefix_of(group, plural),
    }
}

/// The row of the version that instances are stored in, whether it is served or not.
pub(super) fn storage_row(core: &Core, definition: &Arc<Definition>) -> Option<Arc<Row>> {
    let cache = core.cache.named(&prefix(definition))?;
    let resource = GroupResource::new(&definition.group, &definition.names.plural);
    Some(Arc::new(row(definition, definition.storage, &resource, &cache)))
}

fn withdraw(core: &Core, definition: &Definition) {
    unserve(core, definition);
    core.cache.remove(&prefix(definition));
}

/// Takes the rows out; what is stored stays.
fn unserve(core: &Core, definition: &Definition) {
    let resource = GroupResource::new(&definition.group, &definition.names.plural);
    core.registry
        .replace(|row| !row.schema.is_custom() || row.resource != resource, Vec::new());
}

/// Puts the served versions into the registry, in place of what was there.
fn install(core: &Core, definition: &Arc<Definition>, before: Option<&Definition>) {
    let prefix = prefix(definition);
    let cache = match core.cache.named(&prefix) {
        Some(cache) => {
            if before.is_none_or(|before| differs(before, definition)) {
                cache.reform(definition.form(), definition.selectable());
            }
            cache
        }
        None => {
            let progress = core.cache.progress().clone();
            let cache = Arc::new(ResourceCache::new(
                prefix,
                definition.form(),
                definition.selectable(),
                progress,
            ));
            let (extensions, name) = (Arc::downgrade(&core.extensions), definition.object.name().to_owned());
            cache.observe(Box::new(move |event, _| {
                // The last instance of a definition that goes takes the definition with it.
                if let (WatchEvent::Deleted(_), Some(extensions)) = (event, extensions.upgrade())
                    && extensions.get(&name).is_some_and(|d| d.terminating)
                {
                    extensions.look_at(&name);
                }
            }));
            core.cache.add(cache.clone());
            cache
        }
    };
    let resource = GroupResource::new(&definition.group, &definition.names.plural);
    let present = core.registry.rows();
    // Nobody takes the place of what is built in.
    let taken = |version: &GroupVersionKind| {
        let mut builtin = present.iter().filter(|row| !row.schema.is_custom());
        builtin.any(|row| row.gvk.group == version.group && row.gvk.version == version.version)
    };
    let versions = definition
        .versions
        .iter()
        .enumerate()
        .filter(|(_, version)| version.served && !taken(&version.gvk));
    let rows = versions.map(|(at, _)| row(definition, at, &resource, &cache)).collect();
    core.registry
        .replace(|row| !row.schema.is_custom() || row.resource != resource, rows);
}

/// Whether two readings of a definition serve different things; then watches end, as upstream's do.
fn differs(a: &Definition, b: &Definition) -> bool {
    let spec = |d: &Definition| serde_json::from_slice::<SpecOnly>(d.object.body()).map(|s| s.spec.get().to_owned());
    a.names != b.names || spec(a).ok() != spec(b).ok()
}

#[derive(serde::Deserialize)]
struct SpecOnly {
    spec: Box<serde_json::value::RawValue>,
}

/// Discovery's opaque hash of what is stored.
fn storage_hash(gvk: &GroupVersionKind) -> String {
    let text = format!("{}/{}/{}", gvk.group, gvk.version, gvk.kind);
    STANDARD.encode(&Sha256::digest(text)[..8])
}

fn row(definition: &Arc<Definition>, at: usize, resource: &GroupResource, cache: &Arc<ResourceCache>) -> Row {
    let custom = Custom::new(definition.clone(), at);
    let version = custom.version();
    let owned = |list: &[&str]| list.iter().map(|verb| (*verb).to_owned()).collect::<Vec<_>>();
    let verbs = owned(&[
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "create",
        "update",
        "watch",
    ]);
    let subresource = |name: &str, gvk: GroupVersionKind| Subresource {
        name: name.to_owned(),
        gvk,
        verbs: owned(&["get", "patch", "update"]),
    };
    let mut subresources = Vec::new();
    if version.status {
        subresources.push(subresource("status", (*version.gvk).clone()));
    }
    if version.scale.is_some() {
        subresources.push(subresource(
            "scale",
            GroupVersionKind::new("autoscaling", "v1", "Scale"),
        ));
    }
    let names = &definition.names;
    Row {
        gvk: version.gvk.clone(),
        resource: resource.clone(),
        singular: names.singular.clone(),
        short_names: names.short_names.clone(),
        categories: names.categories.clone(),
        namespaced: definition.namespaced,
        list_kind: names.list_kind.clone(),
        verbs,
        subresources,
        storage_version_hash: storage_hash(&definition.form().kind),
        schema: RowSchema::Structural(custom.clone()),
        strategy: StrategyOf::Custom(Arc::new(CustomStrategy(custom))),
        cache: Some(cache.clone()),
        conversion: None,
    }
}
