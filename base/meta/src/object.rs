//! The one shared copy of an API object.

use crate::{GroupVersionKind, ObjectMeta, OwnerReference, Uid, json};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{
    fmt,
    sync::{Arc, OnceLock},
};

/// A point in the history of the store; `metadata.resourceVersion` is its decimal text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(pub u64);

impl Revision {
    /// Reads a resourceVersion.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Namespace (empty for cluster-scoped objects) and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// The namespace, `""` for cluster-scoped objects.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// From its two parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: Arc::from(namespace),
            name: Arc::from(name),
        }
    }

    /// Reads `namespace/name` or `name`.
    pub fn parse(text: &str) -> Self {
        let (namespace, name) = text.split_once('/').unwrap_or(("", text));
        Self::new(namespace, name)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// How every body begins, so that type and resourceVersion can be spliced in.
const BODY_PREFIX: &[u8] = br#"{"metadata":{"#;

/// An API object as the whole process shares it: behind one `Arc`, never changed.
///
/// The body is JSON that begins at `metadata` and holds neither apiVersion, kind nor
/// resourceVersion: the type differs between GET (present) and the items of a list
/// (absent), and the revision is unknown until the write is committed.
#[derive(Clone, Debug)]
pub struct Object {
    /// What the object is, in the version the body is written in.
    pub kind: Arc<GroupVersionKind>,
    /// Where it lives.
    pub key: ObjectKey,
    /// Which life of the name this is.
    pub uid: Uid,
    /// The revision of its last change.
    pub revision: Revision,
    /// Labels, sorted by key.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// Owner references.
    pub owners: Box<[OwnerReference]>,
    /// Whether a deletionTimestamp is set.
    pub deleting: bool,
    /// Which edition of its kind's schema the body was written under; 0 for built-in kinds.
    pub edition: u64,
    /// JSON from `metadata` on. See [`Object::write_json`].
    body: Bytes,
    /// See [`Object::protobuf`].
    protobuf: Encoded,
}

/// An encoding made when it is first asked for. A copy of the object begins without one: it may be changed.
#[derive(Default)]
struct Encoded(OnceLock<Box<Bytes>>);

impl Clone for Encoded {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.get().map(|bytes| bytes.len()))
    }
}

/// Why bytes are not an object.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// Not JSON, or not of the expected shape.
    #[error("decoding object: {0}")]
    Json(#[from] serde_json::Error),
    /// No metadata member, or an empty one.
    #[error("object has no metadata")]
    NoMetadata,
}

impl Object {
    /// Makes an object of a JSON value; apiVersion, kind and resourceVersion inside it are ignored.
    pub fn from_value(kind: Arc<GroupVersionKind>, revision: Revision, value: &Value) -> Result<Self, ObjectError> {
        Self::from_body(kind, revision, encode_body(value)?)
    }

    /// Takes bytes made by [`encode_body`], as the store returns them.
    pub fn from_body(kind: Arc<GroupVersionKind>, revision: Revision, body: Bytes) -> Result<Self, ObjectError> {
        #[derive(serde::Deserialize)]
        struct Outline {
            metadata: ObjectMeta,
        }
        if !body.starts_with(BODY_PREFIX) || body.get(BODY_PREFIX.len()) == Some(&b'}') {
            return Err(ObjectError::NoMetadata);
        }
        let meta = serde_json::from_slice::<Outline>(&body)?.metadata;
        Ok(Self {
            kind,
            key: ObjectKey::new(&meta.namespace, &meta.name),
            uid: meta.uid,
            revision,
            labels: meta.labels.into_iter().map(|(k, v)| (k.into(), v.into())).collect(),
            owners: meta.owner_references.into(),
            deleting: meta.deletion_timestamp.is_some(),
            edition: 0,
            body,
            protobuf: Encoded::default(),
        })
    }

    /// The same object, written under an edition of its kind's schema.
    pub fn with_edition(mut self, edition: u64) -> Self {
        self.edition = edition;
        self
    }

    /// The stored body: JSON from `metadata` on.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The namespace, `""` for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        &self.key.namespace
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.key.name
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        let at = self.labels.binary_search_by(|(k, _)| k.as_ref().cmp(key)).ok()?;
        Some(&self.labels[at].1)
    }

    /// The owner that manages this object.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owners.iter().find(|owner| owner.controller == Some(true))
    }

    /// Appends the whole object as JSON. `with_type` is false for the items of a list.
    pub fn write_json(&self, out: &mut Vec<u8>, with_type: bool) {
        out.reserve(self.body.len() + 96);
        out.push(b'{');
        if with_type {
            out.extend_from_slice(br#""kind":"#);
            write_text(out, &self.kind.kind);
            out.extend_from_slice(br#","apiVersion":"#);
            write_text(out, &self.kind.api_version());
            out.push(b',');
        }
        out.extend_from_slice(br#""metadata":{"#);
        // What a dry run would create has no version.
        if self.revision != Revision(0) {
            out.extend_from_slice(br#""resourceVersion":""#);
            out.extend_from_slice(self.revision.0.to_string().as_bytes());
            out.extend_from_slice(br#"","#);
        }
        out.extend_from_slice(&self.body[BODY_PREFIX.len()..]);
    }

    /// The object's own protobuf message, which `encode` makes once for everybody who asks.
    pub fn protobuf<E>(&self, encode: impl FnOnce(&Self) -> Result<Bytes, E>) -> Result<Bytes, E> {
        if let Some(bytes) = self.protobuf.0.get() {
            return Ok(Bytes::clone(bytes));
        }
        let bytes = encode(self)?;
        // Another may have been first; both are the same.
        Ok(Bytes::clone(self.protobuf.0.get_or_init(|| Box::new(bytes))))
    }

    /// The whole object as JSON, with its type.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_json(&mut out, true);
        out
    }

    /// The whole object as a JSON value, with its type.
    pub fn to_value(&self) -> Result<Value, ObjectError> {
        Ok(serde_json::from_slice(&self.to_json())?)
    }

    /// The part of the object that a reader declares as `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, ObjectError> {
        Ok(serde_json::from_slice(&self.to_json())?)
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing text to memory cannot fail");
}

/// The stored form of a JSON object: `metadata` first, without apiVersion, kind and resourceVersion.
pub fn encode_body(value: &Value) -> Result<Bytes, ObjectError> {
    let object = value.as_object().ok_or(ObjectError::NoMetadata)?;
    let metadata = object
        .get("metadata")
        .and_then(Value::as_object)
        .ok_or(ObjectError::NoMetadata)?;
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(br#"{"metadata":"#);
    write_members(&mut out, metadata, &["resourceVersion"])?;
    for (name, member) in object {
        if !matches!(name.as_str(), "metadata" | "apiVersion" | "kind") {
            out.push(b',');
            write_text(&mut out, name);
            out.push(b':');
            json::write(&mut out, member);
        }
    }
    out.push(b'}');
    Ok(Bytes::from(out))
}

fn write_members(out: &mut Vec<u8>, map: &Map<String, Value>, without: &[&str]) -> Result<(), ObjectError> {
    out.push(b'{');
    let mut first = true;
    for (name, member) in map.iter().filter(|(name, _)| !without.contains(&name.as_str())) {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        write_text(out, name);
        out.push(b':');
        json::write(out, member);
    }
    out.push(b'}');
    Ok(())
}

/// One event of a watch.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// The object came into the watched set.
    Added(Arc<Object>),
    /// The object changed within the watched set.
    Modified(Arc<Object>),
    /// The object left the watched set; its last state at the revision of the removal.
    Deleted(Arc<Object>),
    /// Nothing older than this revision will follow.
    Bookmark(Revision),
}

impl WatchEvent {
    /// The object the event is about.
    pub fn object(&self) -> Option<&Arc<Object>> {
        match self {
            Self::Added(o) | Self::Modified(o) | Self::Deleted(o) => Some(o),
            Self::Bookmark(_) => None,
        }
    }

    /// The revision of the event.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Added(o) | Self::Modified(o) | Self::Deleted(o) => o.revision,
            Self::Bookmark(revision) => *revision,
        }
    }

    /// The `type` a watch frame carries.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Added(_) => "ADDED",
            Self::Modified(_) => "MODIFIED",
            Self::Deleted(_) => "DELETED",
            Self::Bookmark(_) => "BOOKMARK",
        }
    }
}

impl Serialize for Object {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.to_value().map_err(serde::ser::Error::custom)?.serialize(s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config_map() -> Value {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1"},
            "metadata": {"name": "c", "namespace": "n", "uid": "u", "resourceVersion": "4", "labels": {"x": "y", "a": "b"}},
        })
    }

    #[test]
    fn type_and_revision_are_spliced_in_when_written() {
        let kind = Arc::new(GroupVersionKind::new("", "v1", "ConfigMap"));
        let object = Object::from_value(kind, Revision(7), &config_map()).expect("valid");
        assert_eq!(object.label("x"), Some("y"));
        assert_eq!(object.label("q"), None);
        let mut whole = config_map();
        whole["metadata"]["resourceVersion"] = json!("7");
        assert_eq!(object.to_value().expect("json"), whole);
        let mut item = Vec::new();
        object.write_json(&mut item, false);
        let item: Value = serde_json::from_slice(&item).expect("json");
        assert!(item.get("kind").is_none() && item["metadata"]["resourceVersion"] == "7");
    }

    #[test]
    fn a_body_without_metadata_is_refused() {
        let kind = Arc::new(GroupVersionKind::new("", "v1", "ConfigMap"));
        for bad in [
            json!({}),
            json!([]),
            json!({"metadata": {}}),
            json!({"metadata": {"resourceVersion": "1"}}),
        ] {
            assert!(Object::from_value(kind.clone(), Revision(1), &bad).is_err(), "{bad}");
        }
    }
}
