//! What is remembered of each sandbox and container beyond what the engine knows: the request it was made with.

use crate::error::{Answer, OrStatus};
use crate::generated::v1::{
    ContainerConfig, CreateContainerRequest, LinuxContainerUser, PodSandboxConfig, RunPodSandboxRequest,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost::Message;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use strata_engine::{ContainerId, Engine, Error as EngineError, Resources, SandboxId};
use strata_http::GrpcStatus;

/// Of a container.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ContainerMemo {
    /// As it was asked for, with resources as they were updated.
    #[prost(message, optional, tag = "1")]
    pub request: Option<CreateContainerRequest>,
    /// Who its process was when it began.
    #[prost(message, optional, tag = "2")]
    pub user: Option<LinuxContainerUser>,
    /// Digest of the image's configuration.
    #[prost(string, tag = "3")]
    pub image_id: String,
}

impl ContainerMemo {
    /// The configuration it was made with.
    pub fn config(&self) -> ContainerConfig {
        let config = self.request.as_ref().and_then(|request| request.config.clone());
        config.unwrap_or_default()
    }
}

/// Of a sandbox: the request.
pub(crate) type SandboxMemo = RunPodSandboxRequest;

/// Memos as read once; the engine keeps them over restarts.
#[derive(Default)]
pub(crate) struct Memos {
    sandboxes: Cache<SandboxId, SandboxMemo>,
    containers: Cache<ContainerId, ContainerMemo>,
    /// Held while a sandbox's is changed.
    changing: tokio::sync::Mutex<()>,
}

impl Memos {
    pub fn sandbox(&self, engine: &Engine, id: &SandboxId) -> Answer<Arc<SandboxMemo>> {
        self.sandboxes.get(id, || engine.sandbox_memo(id).status())
    }

    pub fn sandbox_config(&self, engine: &Engine, id: &SandboxId) -> Answer<PodSandboxConfig> {
        Ok(self.sandbox(engine, id)?.config.clone().unwrap_or_default())
    }

    pub fn container(&self, engine: &Engine, id: &ContainerId) -> Answer<Arc<ContainerMemo>> {
        self.containers.get(id, || engine.container_memo(id).status())
    }

    /// Changes what is remembered of a container.
    pub async fn update(
        &self,
        engine: &Engine,
        id: &ContainerId,
        change: impl FnOnce(&mut ContainerMemo),
    ) -> Answer<()> {
        // One change at a time, so that none undoes another.
        let changed = engine.change_container_memo(id, |text| {
            let mut memo: ContainerMemo = decoded(text).map_err(EngineError::InvalidConfig)?;
            change(&mut memo);
            let text = encoded(&memo);
            self.containers.put(id.clone(), memo);
            Ok(text)
        });
        changed.await.status()
    }

    /// Changes what is remembered of a sandbox, and sets the limits that the change answers in a cgroup that is its own.
    pub async fn update_sandbox(
        &self,
        engine: &Engine,
        id: &SandboxId,
        change: impl FnOnce(&mut SandboxMemo) -> Option<Resources>,
    ) -> Answer<()> {
        // One change at a time, so that none undoes another.
        let _changing = self.changing.lock().await;
        let mut memo = (*self.sandbox(engine, id)?).clone();
        let limits = change(&mut memo);
        engine.update_sandbox(id, encoded(&memo), limits).await.status()?;
        self.sandboxes.put(id.clone(), memo);
        Ok(())
    }

    pub fn forget_sandbox(&self, id: &SandboxId) {
        self.sandboxes.forget(id);
    }

    pub fn forget_container(&self, id: &ContainerId) {
        self.containers.forget(id);
    }
}

/// A message as text for the engine's records.
pub(crate) fn encoded(message: &impl Message) -> String {
    STANDARD.encode(message.encode_to_vec())
}

fn decoded<V: Message + Default>(text: &str) -> Result<V, String> {
    let broken = |why: &dyn std::fmt::Display| format!("broken record: {why}");
    let bytes = STANDARD.decode(text).map_err(|e| broken(&e))?;
    V::decode(bytes.as_slice()).map_err(|e| broken(&e))
}

struct Cache<K, V>(Mutex<HashMap<K, Arc<V>>>);

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq + Clone, V: Message + Default> Cache<K, V> {
    fn get(&self, key: &K, read: impl FnOnce() -> Answer<String>) -> Answer<Arc<V>> {
        if let Some(known) = self.lock().get(key) {
            return Ok(known.clone());
        }
        let value: V = decoded(&read()?).map_err(|why| GrpcStatus::new(GrpcStatus::INTERNAL, why))?;
        let value = Arc::new(value);
        self.lock().insert(key.clone(), value.clone());
        Ok(value)
    }

    fn put(&self, key: K, value: V) {
        self.lock().insert(key, Arc::new(value));
    }

    fn forget(&self, key: &K) {
        self.lock().remove(key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<K, Arc<V>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
