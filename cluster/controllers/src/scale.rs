//! Scales of objects of any kind, by the subresource that any kind may have.

use crate::{Error, error::During};
use serde_json::Value;
use std::{fmt::Write as _, sync::Arc};
use strata_client::{
    Client, Resource,
    discovery::{Discovered, discover},
};
use tokio::sync::Mutex;

/// Finds the resource of a kind, and reads and writes scales.
pub(crate) struct Scales {
    client: Client,
    /// Kept until it lacks something.
    served: Mutex<Option<Arc<Discovered>>>,
}

impl Scales {
    pub fn new(client: Client) -> Self {
        Self {
            client,
            served: Mutex::default(),
        }
    }

    /// The resource that serves a kind, in its group's preferred version.
    pub async fn resource(&self, group: &str, kind: &str) -> Result<Option<Resource>, Error> {
        let mut served = self.served.lock().await;
        let known = |served: &Discovered| served.of_kind(group, kind).map(|s| s.resource);
        if let Some(resource) = served.as_deref().and_then(known) {
            return Ok(Some(resource));
        }
        let fresh = discover(&self.client).await?;
        let fresh = served.insert(Arc::new(fresh));
        Ok(known(fresh))
    }

    /// The scale of one object.
    pub async fn get(&self, resource: Resource, namespace: &str, name: &str) -> Result<Value, strata_client::Error> {
        let prefix = match resource.group {
            "" => format!("/api/{}", resource.version),
            group => format!("/apis/{group}/{}", resource.version),
        };
        let name = escaped(name);
        let path = format!("{prefix}/namespaces/{namespace}/{}/{name}/scale", resource.plural);
        let body = self.client.get_path(&path, "application/json").await?;
        Ok(serde_json::from_slice(&body)?)
    }

    /// Writes a scale that was read.
    pub async fn put(&self, resource: Resource, namespace: &str, name: &str, scale: &Value) -> Result<(), Error> {
        let written = self
            .client
            .update_subresource(resource, namespace, name, "scale", scale);
        written
            .await
            .during(|| format!("scaling {} {name}", resource.plural))
            .map(drop)
    }

    /// Whatever was known of what is served is asked anew.
    pub async fn forget(&self) {
        *self.served.lock().await = None;
    }
}

/// A name that users wrote, as one segment of a path.
fn escaped(name: &str) -> String {
    name.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => write!(out, "%{byte:02X}").expect("writing to a String cannot fail"),
        }
        out
    })
}
