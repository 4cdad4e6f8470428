//! What the API is shown of a pod that is this node's own.

use super::MIRROR;
use crate::pod::Pod;
use serde_json::{Value, json};
use std::sync::Arc;
use strata_client::{Client, DeleteOptions, Error, resources};
use strata_meta::{Object, Reason, Uid};

/// The identity under which the node runs what a pod of the API stands for: of a mirror, the pod it mirrors.
pub fn runs_as(pod: &Pod) -> &str {
    let mirrored = pod.metadata.annotations.get(MIRROR);
    mirrored.map_or(pod.metadata.uid.as_str(), String::as_str)
}

/// Whether a pod of the API only mirrors one of a node's own.
pub fn is_mirror(pod: &Pod) -> bool {
    pod.metadata.annotations.contains_key(MIRROR)
}

/// The identity of the mirror of a static pod, which is made if it is not there. One of an earlier manifest, or
/// one that somebody wants gone, makes room for a new one.
pub async fn present(client: &Client, pod: &Pod, manifest: &Arc<Value>) -> Result<Uid, Error> {
    let meta = &pod.metadata;
    if let Some((uid, hash, deleting)) = found(client, pod).await? {
        if hash == meta.uid.as_str() && !deleting {
            return Ok(uid);
        }
        forget(client, pod, uid).await?;
    }
    let node: Value = value(&*client.get(resources::NODES, "", &pod.spec.node_name).await?)?;
    let mut body = (**manifest).clone();
    body["metadata"]["annotations"][MIRROR] = meta.uid.as_str().into();
    body["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "Node", "name": pod.spec.node_name, "uid": node["metadata"]["uid"], "controller": true,
    }]);
    if let Some(meta) = body["metadata"].as_object_mut() {
        meta.remove("uid");
    }
    if let Some(body) = body.as_object_mut() {
        body.remove("status");
    }
    let made = client.create(resources::PODS, &meta.namespace, &body).await?;
    Ok(uid_of(&value(&made)?))
}

/// Has the API forget the mirror of a static pod.
pub async fn remove(client: &Client, pod: &Pod) -> Result<(), Error> {
    match found(client, pod).await? {
        Some((uid, hash, _)) if hash == pod.metadata.uid.as_str() => forget(client, pod, uid).await,
        _ => Ok(()),
    }
}

/// Has the API forget a mirror that mirrors nothing.
pub async fn forget(client: &Client, pod: &Pod, uid: Uid) -> Result<(), Error> {
    let options = DeleteOptions {
        grace_period_seconds: Some(0),
        uid: Some(uid),
        ..DeleteOptions::default()
    };
    let deleted = client.delete(resources::PODS, &pod.metadata.namespace, &pod.metadata.name, options);
    match deleted.await.map(drop) {
        Err(e) if e.is_not_found() || e.is_conflict() => Ok(()),
        other => other,
    }
}

/// Identity, whom it mirrors, and whether somebody wants it gone.
async fn found(client: &Client, pod: &Pod) -> Result<Option<(Uid, String, bool)>, Error> {
    let meta = &pod.metadata;
    let object = match client.get(resources::PODS, &meta.namespace, &meta.name).await {
        Ok(object) => object,
        // A node is told nothing of pods that are not its own, not even that there are none.
        Err(e) if e.is_not_found() || is_forbidden(&e) => return Ok(None),
        Err(e) => return Err(e),
    };
    let value = value(&object)?;
    let hash = value["metadata"]["annotations"][MIRROR].as_str().unwrap_or_default();
    let deleting = value["metadata"]["deletionTimestamp"].is_string();
    Ok(Some((uid_of(&value), hash.to_owned(), deleting)))
}

fn value(object: &Object) -> Result<Value, Error> {
    object.to_value().map_err(|e| Error::Decode(e.to_string()))
}

fn uid_of(value: &Value) -> Uid {
    value["metadata"]["uid"].as_str().unwrap_or_default().into()
}

fn is_forbidden(error: &Error) -> bool {
    error.status().is_some_and(|status| status.reason == Reason::Forbidden)
}
