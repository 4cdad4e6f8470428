//! The kind of the objects that are written: its type in each version, and how to get from one to
//! another.

use super::node::Node;
use crate::structural::{Root, Structural, apply_root as root_of};
use crate::{Error, Schema, Shape, decode_converted, decode_value};
use serde_json::{Value, json};
use std::sync::Arc;
use strata_meta::{GroupVersion, GroupVersionKind};

/// A kind as server-side apply sees it.
pub trait Kind: Send + Sync {
    /// The group, version and kind in which objects are written.
    fn gvk(&self) -> &GroupVersionKind;

    /// The type of the objects in a version (`apps/v1`), if there is that version.
    fn node(&self, version: &str) -> Option<&dyn Node>;

    /// A new object of which nothing is set.
    fn empty(&self) -> &Value;

    /// The canonical form of a merged object. Errors: upstream's sentence.
    fn normalise(&self, object: Value) -> Result<Value, String>;

    /// An object of one version in another one. Both are versions that [`Kind::node`] knows.
    fn convert(&self, object: &Value, from: &str, to: &str) -> Value;

    /// Whether types change while there are objects of them.
    fn changes(&self) -> bool {
        false
    }
}

/// Changes an object in place; `apiVersion` is the caller's to change.
pub type Convert = Box<dyn Fn(&mut Value) + Send + Sync>;

/// A kind of the built-in table.
pub struct BuiltinKind {
    gvk: GroupVersionKind,
    root: Shape,
    empty: Value,
    /// Other versions: how to get there from the kind's own, and back.
    others: Vec<Other>,
}

struct Other {
    version: String,
    root: Shape,
    there: Convert,
    back: Convert,
}

impl BuiltinKind {
    /// A kind in the one version. Errors: the table does not know it.
    pub fn new(gvk: &GroupVersionKind) -> Result<Self, Error> {
        let root = root(gvk)?;
        Ok(Self {
            root,
            empty: decode_value(gvk, json!({}))?.value,
            gvk: gvk.clone(),
            others: Vec::new(),
        })
    }

    /// Adds a version that objects are written in too. Errors: the table does not know it.
    pub fn with_version(mut self, version: &GroupVersion, there: Convert, back: Convert) -> Result<Self, Error> {
        self.others.push(Other {
            root: root(&version.kind(&self.gvk.kind))?,
            version: version.to_string(),
            there,
            back,
        });
        Ok(self)
    }
}

fn root(gvk: &GroupVersionKind) -> Result<Shape, Error> {
    let id = Schema::builtin().type_of(gvk);
    id.map(Shape::Struct).ok_or_else(|| Error::UnknownKind(gvk.to_string()))
}

impl Kind for BuiltinKind {
    fn gvk(&self) -> &GroupVersionKind {
        &self.gvk
    }

    fn node(&self, version: &str) -> Option<&dyn Node> {
        if version == self.gvk.api_version() {
            return Some(&self.root);
        }
        let other = self.others.iter().find(|other| other.version == version)?;
        Some(&other.root)
    }

    fn empty(&self) -> &Value {
        &self.empty
    }

    fn normalise(&self, object: Value) -> Result<Value, String> {
        match decode_converted(&self.gvk, object) {
            Ok(decoded) => Ok(decoded.value),
            Err(error) => {
                let (version, kind) = (self.gvk.api_version(), &self.gvk.kind);
                let slash = if self.gvk.group.is_empty() { "/" } else { "" };
                Err(format!(
                    "unable to convert unstructured object to {slash}{version}, Kind={kind}: {error}"
                ))
            }
        }
    }

    fn convert(&self, object: &Value, from: &str, to: &str) -> Value {
        let mut object = object.clone();
        let other = |version: &str| self.others.iter().find(|other| other.version == version);
        if let Some(from) = other(from) {
            (from.back)(&mut object);
        }
        if let Some(to) = other(to) {
            (to.there)(&mut object);
        }
        object["apiVersion"] = to.into();
        object
    }
}

/// A kind that a CustomResourceDefinition defines.
pub struct CustomKind {
    gvk: GroupVersionKind,
    empty: Value,
    schema: Arc<Structural>,
    /// The type in each version.
    roots: Vec<(String, Root)>,
}

impl CustomKind {
    /// A kind in one version, and its types in others (`example.com/v1`).
    pub fn new(gvk: &GroupVersionKind, schema: &Arc<Structural>, others: Vec<(String, &Arc<Structural>)>) -> Self {
        let others = others.into_iter().map(|(version, schema)| (version, root_of(schema)));
        let own = (gvk.api_version(), root_of(schema));
        Self {
            empty: json!({"apiVersion": gvk.api_version(), "kind": gvk.kind}),
            gvk: gvk.clone(),
            schema: schema.clone(),
            roots: std::iter::once(own).chain(others).collect(),
        }
    }
}

impl Kind for CustomKind {
    fn gvk(&self) -> &GroupVersionKind {
        &self.gvk
    }

    fn node(&self, version: &str) -> Option<&dyn Node> {
        let (_, root) = self.roots.iter().find(|(known, _)| known == version)?;
        Some(root)
    }

    fn empty(&self) -> &Value {
        &self.empty
    }

    fn normalise(&self, object: Value) -> Result<Value, String> {
        match self.schema.decode_value(&self.gvk, object) {
            Ok(decoded) => Ok(decoded.value),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Versions of a custom resource that a webhook converts are compared as they are: entries of
    /// other versions keep the fields that have the same place in both.
    fn convert(&self, object: &Value, _from: &str, to: &str) -> Value {
        let mut object = object.clone();
        object["apiVersion"] = to.into();
        object
    }

    fn changes(&self) -> bool {
        true
    }
}
