//! Which resources are served: a row for each.

use crate::{
    cache::{Cache, ResourceCache, Selectable, StoredForm, prefix_of},
    core::Core,
    encode::conversion::{Conversion, conversion_for},
    extension::Custom,
    schema::RowSchema,
    strategy::{StrategyOf, strategy_for},
};
use bytes::Bytes;
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
};
use strata_meta::{GroupKind, GroupResource, GroupVersionKind, Object};
use strata_schema::{KindInfo, Schema};
use tokio::sync::watch;

/// One served resource.
pub(crate) struct Row {
    /// Group, version and kind of its objects as they are served.
    pub(crate) gvk: Arc<GroupVersionKind>,
    /// Group and plural name.
    pub(crate) resource: GroupResource,
    /// Singular name.
    pub(crate) singular: String,
    /// Short names.
    pub(crate) short_names: Vec<String>,
    /// Categories.
    pub(crate) categories: Vec<String>,
    /// Whether objects live in namespaces.
    pub(crate) namespaced: bool,
    /// Kind of a list.
    pub(crate) list_kind: String,
    /// Verbs of the resource itself.
    pub(crate) verbs: Vec<String>,
    /// Subresources.
    pub(crate) subresources: Vec<Subresource>,
    /// Discovery's hash of the stored form.
    pub(crate) storage_version_hash: String,
    /// What is known of the fields of its objects.
    pub(crate) schema: RowSchema,
    /// The rules of the kind.
    pub(crate) strategy: StrategyOf,
    /// Where objects are; absent for what is answered without being stored.
    pub(crate) cache: Option<Arc<ResourceCache>>,
    /// How objects are changed between the stored and the served version, when they differ.
    pub(crate) conversion: Option<&'static Conversion>,
}

/// A subresource of a row.
pub(crate) struct Subresource {
    /// Its name.
    pub(crate) name: String,
    /// The kind of its bodies.
    pub(crate) gvk: GroupVersionKind,
    /// Its verbs.
    pub(crate) verbs: Vec<String>,
}

impl Row {
    /// Whether a verb is served on the resource itself.
    pub(crate) fn allows(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    /// A subresource by name.
    pub(crate) fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Whether spec and status are written apart.
    pub(crate) fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// Group and kind, as validation names it.
    pub(crate) fn group_kind(&self) -> GroupKind {
        // The stored one: an event is core's however it came.
        let stored = self.cache.as_ref().map(|cache| cache.kind());
        stored.unwrap_or_else(|| self.gvk.clone()).group_kind()
    }

    /// Whether stored bytes are what this row serves, so that they are sent as they are.
    pub(crate) fn serves_stored(&self, object: &Object) -> bool {
        match &self.schema {
            RowSchema::Builtin => self.conversion.is_none(),
            RowSchema::Structural(custom) => custom.is_current(object),
        }
    }

    /// Stored objects as this row serves them. Unlike [`Row::view`] it may ask a conversion webhook. Errors: 500.
    pub(crate) async fn present(
        &self,
        core: &Core,
        objects: Vec<Arc<Object>>,
    ) -> Result<Vec<Arc<Object>>, strata_meta::Status> {
        match &self.schema {
            RowSchema::Builtin => objects.iter().map(|object| self.view(object)).collect(),
            RowSchema::Structural(custom) => custom.present(core, objects).await,
        }
    }

    /// What a verb is refused with that the kind does not have.
    pub(crate) fn not_allowed(&self, verb: &str) -> strata_meta::Status {
        // What can be listed has the route of a watch.
        match verb == "watch" && self.allows("list") {
            true => strata_meta::Status::method_not_supported(&self.resource, "watch"),
            false => strata_meta::Status::method_not_allowed(),
        }
    }

    /// Whether a webhook converts between its versions.
    pub(crate) fn converts_elsewhere(&self) -> bool {
        self.schema.custom().is_some_and(Custom::converts_elsewhere)
    }

    /// One stored object, made ready for [`Row::view`], which built-in kinds always are. Errors: 500.
    pub(crate) async fn ready(&self, core: &Core, object: Arc<Object>) -> Result<Arc<Object>, strata_meta::Status> {
        match &self.schema {
            RowSchema::Structural(custom) if custom.needs_help(&object) => {
                let mut shown = custom.present(core, vec![object]).await?;
                shown
                    .pop()
                    .ok_or_else(|| strata_meta::Status::internal("a converted object was lost"))
            }
            RowSchema::Structural(custom) => custom.knows(&object).map(|()| object),
            RowSchema::Builtin => Ok(object),
        }
    }

    /// Whether all that is stored can be listed. Errors: 429.
    pub(crate) fn can_be_listed(&self) -> Result<(), strata_meta::Status> {
        match (self.schema.custom(), &self.cache) {
            (Some(custom), Some(cache)) => custom.can_be_listed(cache),
            _ => Ok(()),
        }
    }

    /// A value that the pipeline is done with, as it is stored. Errors: 500.
    pub(crate) async fn stored(&self, core: &Core, value: &Value) -> Result<(StoredForm, Bytes), strata_meta::Status> {
        match (&self.schema, &self.cache) {
            (RowSchema::Structural(custom), _) => custom.stored(core, value).await,
            (RowSchema::Builtin, Some(cache)) => {
                let body = strata_meta::encode_body(value).map_err(strata_meta::Status::internal)?;
                Ok(((*cache.form()).clone(), body))
            }
            (RowSchema::Builtin, None) => Err(strata_meta::Status::method_not_allowed()),
        }
    }

    /// The warning that every use of a built-in kind brings which is on its way out.
    pub(crate) fn deprecation(&self) -> Option<String> {
        let (since, instead) = match (self.gvk.group.as_str(), self.gvk.kind.as_str()) {
            ("", "Endpoints") => ("v1.33+", "; use discovery.k8s.io/v1 EndpointSlice"),
            ("", "ComponentStatus") => ("v1.19+", ""),
            _ => return None,
        };
        Some(format!("v1 {} is deprecated in {since}{instead}", self.gvk.kind))
    }

    /// The key under which upstream keeps an object, as its sentences name it.
    pub(crate) fn upstream_key(&self, namespace: &str, name: &str) -> String {
        let (group, plural) = (self.gvk.group.as_str(), self.resource.resource.as_str());
        let folder = match (group, plural) {
            ("", "replicationcontrollers") => "controllers".into(),
            ("", "services") => "services/specs".into(),
            ("", "endpoints") => "services/endpoints".into(),
            ("", "nodes") => "minions".into(),
            ("networking.k8s.io", "ingresses") => "ingress".into(),
            ("apiextensions.k8s.io" | "apiregistration.k8s.io", _) => format!("{group}/{plural}"),
            _ if self.schema.is_custom() => format!("{group}/{plural}"),
            _ => plural.to_owned(),
        };
        match namespace {
            "" => format!("/registry/{folder}/{name}"),
            _ if !self.namespaced => format!("/registry/{folder}/{name}"),
            namespace => format!("/registry/{folder}/{namespace}/{name}"),
        }
    }

    /// How upstream's sentences name the type that stands for a kind of this row's group.
    pub(crate) fn go_type(&self, kind: &str) -> String {
        if self.schema.is_custom() {
            return "*unstructured.Unstructured".to_owned() + if kind == self.list_kind { "List" } else { "" };
        }
        let package = match self.gvk.group.split('.').next() {
            None | Some("" | "events") => "core",
            Some(first) => first,
        };
        format!("*{package}.{kind}")
    }

    /// A stored object as this row serves it.
    pub(crate) fn view(&self, object: &Arc<Object>) -> Result<Arc<Object>, strata_meta::Status> {
        if let RowSchema::Structural(custom) = &self.schema {
            return custom.view(object);
        }
        match self.conversion {
            None => Ok(object.clone()),
            Some(conversion) => {
                let converted = object.to_value().and_then(|mut value| {
                    (conversion.from_stored)(&mut value);
                    Object::from_value(self.gvk.clone(), object.revision, &value)
                });
                converted.map(Arc::new).map_err(strata_meta::Status::internal)
            }
        }
    }
}

type Key = (String, String, String);

/// The rows, by group, version and plural name.
pub(crate) struct Registry {
    rows: RwLock<Arc<Rows>>,
    changes: watch::Sender<u64>,
}

/// All rows at a moment.
#[derive(Clone, Default)]
pub(crate) struct Rows {
    list: Vec<Arc<Row>>,
    by_path: HashMap<Key, Arc<Row>>,
}

impl Rows {
    /// In the order they are discovered.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.list.iter()
    }

    /// The row of a path.
    pub(crate) fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Row>> {
        self.by_path
            .get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }
}

impl Registry {
    /// The built-in kinds that upstream serves by default, and kinds that are worked out when asked for.
    pub(crate) fn builtin(cache: &Cache, computed: Vec<Row>) -> Self {
        let mut rows = Rows::default();
        for kind in Schema::builtin().kinds().iter().filter(|k| k.served_by_default) {
            rows.add(row_of(kind, cache));
        }
        computed.into_iter().for_each(|row| rows.add(row));
        Self {
            rows: RwLock::new(Arc::new(rows)),
            changes: watch::Sender::new(0),
        }
    }

    /// All rows now.
    pub(crate) fn rows(&self) -> Arc<Rows> {
        self.rows.read().expect("no panic under this lock").clone()
    }

    /// Changes the rows: those that `keep` refuses go, the new ones come. Requests that hold a row finish with it.
    pub(crate) fn replace(&self, keep: impl Fn(&Row) -> bool, new: Vec<Row>) {
        let mut current = self.rows.write().expect("no panic under this lock");
        let mut rows = Rows::default();
        for row in current.list.iter().filter(|row| keep(row)) {
            rows.share(row.clone());
        }
        for row in new {
            rows.add(row);
        }
        *current = Arc::new(rows);
        drop(current);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Told each time the rows have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The row of a path.
    pub(crate) fn get(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Row>> {
        self.rows().get(group, version, plural).cloned()
    }
}

impl Rows {
    fn add(&mut self, row: Row) {
        self.share(Arc::new(row));
    }

    fn share(&mut self, row: Arc<Row>) {
        let key = (
            row.gvk.group.clone(),
            row.gvk.version.clone(),
            row.resource.resource.clone(),
        );
        self.by_path.insert(key, row.clone());
        self.list.push(row);
    }
}

/// Reviews and bindings are answered, not kept.
fn is_stored(kind: &KindInfo) -> bool {
    kind.allows("get") && kind.plural != "componentstatuses"
}

fn row_of(kind: &KindInfo, cache: &Cache) -> Row {
    // By the served group: events are held to more in the newer one.
    let strategy = strategy_for(kind.group, kind.plural);
    let stored = is_stored(kind).then(|| {
        let prefix = prefix_of(kind.storage.0, kind.plural);
        cache.named(&prefix).unwrap_or_else(|| {
            let stored = Arc::new(GroupVersionKind::new(kind.storage.0, kind.storage.1, kind.kind));
            let fields = strategy.selectable_fields().iter().map(Selectable::from);
            let resource = ResourceCache::new(prefix, StoredForm::builtin(stored), fields, cache.progress().clone());
            let resource = Arc::new(resource);
            cache.add(resource.clone());
            resource
        })
    });
    let owned = |list: &[&'static str]| list.iter().map(|s| (*s).to_owned()).collect();
    Row {
        gvk: Arc::new(kind.gvk()),
        resource: kind.group_resource(),
        singular: kind.singular.to_owned(),
        short_names: owned(&kind.short_names),
        categories: owned(&kind.categories),
        namespaced: kind.namespaced,
        list_kind: kind.list_kind.clone(),
        verbs: owned(&kind.verbs),
        subresources: kind.subresources.iter().map(subresource_of).collect(),
        storage_version_hash: kind.storage_version_hash.to_owned(),
        schema: RowSchema::Builtin,
        strategy: StrategyOf::Builtin(strategy),
        cache: stored,
        conversion: conversion_for(kind),
    }
}

fn subresource_of(sub: &strata_schema::Subresource) -> Subresource {
    Subresource {
        name: sub.name.to_owned(),
        gvk: GroupVersionKind::new(sub.group, sub.version, sub.kind),
        verbs: sub.verbs.iter().map(|v| (*v).to_owned()).collect(),
    }
}
