//! Images for containers: when to pull, with which credentials, and what a failure is called.

use crate::pod::{Container, Pod};
use base64::Engine as _;
use serde::Deserialize;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use strata_client::{EventRecorder, EventType, ObjectReference, resources};
use strata_image::{Credentials, Image, ImageError, ImageStore};
use strata_volume::{ObjectCache, payload};
use tokio::sync::Semaphore;

/// Pulls from one registry that may run at the same time. One that does not answer holds up its own only.
const PARALLEL_PULLS: usize = 4;
/// Registries whose slots are remembered while nothing is pulled from them.
const REMEMBERED: usize = 16;

/// What the names of images that every node has begin with.
const BUILTIN: &str = "strata.local/";

/// Why a container has no image: the waiting reason and its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullError {
    /// `ErrImagePull`, `InvalidImageName` or `ErrImageNeverPull`.
    pub reason: &'static str,
    /// Sentence to the reason.
    pub message: String,
}

/// Provides images to pods.
pub struct Puller {
    images: ImageStore,
    objects: Arc<ObjectCache>,
    events: EventRecorder,
    slots: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Puller {
    /// A puller into that store.
    pub fn new(images: ImageStore, objects: Arc<ObjectCache>, events: EventRecorder) -> Self {
        Self {
            images,
            objects,
            events,
            slots: Mutex::default(),
        }
    }

    /// The image of a container, pulled if its policy says so.
    pub async fn image(&self, pod: &Pod, container: &Container, about: &ObjectReference) -> Result<Image, PullError> {
        self.named(pod, &container.image, &container.image_pull_policy, about)
            .await
    }

    /// The images that a container has mounted, with the name of their volume.
    pub async fn volumes(
        &self,
        pod: &Pod,
        container: &Container,
        about: &ObjectReference,
    ) -> Result<BTreeMap<String, Image>, PullError> {
        let mut images = BTreeMap::new();
        for volume in &pod.spec.volumes {
            let mounted = container.volume_mounts.iter().any(|mount| mount.name == volume.name);
            if let Some(source) = volume.image.as_ref().filter(|_| mounted) {
                let image = self.named(pod, &source.reference, &source.pull_policy, about).await?;
                images.insert(volume.name.clone(), image);
            }
        }
        Ok(images)
    }

    /// An image by its name, pulled if the policy says so.
    async fn named(&self, pod: &Pod, name: &str, policy: &str, about: &ObjectReference) -> Result<Image, PullError> {
        let present = match self.images.resolve(name) {
            Ok(present) => present,
            Err(e) if e.is_invalid_name() => return Err(self.invalid_name(name, &e, about)),
            Err(e) => {
                let message = e.to_string();
                self.events.event(about, EventType::Warning, "Failed", message.clone());
                return Err(PullError {
                    reason: "ImageInspectError",
                    message,
                });
            }
        };
        // No registry has a built-in image, so asking one would only fail.
        let policy = if name.starts_with(BUILTIN) {
            "IfNotPresent"
        } else {
            policy
        };
        match (policy, present) {
            ("Never", None) => {
                let message = format!("Container image {name:?} is not present with pull policy of Never");
                Err(PullError {
                    reason: "ErrImageNeverPull",
                    message,
                })
            }
            ("Never" | "IfNotPresent" | "", Some(image)) => {
                let message = format!("Container image {name:?} already present on machine");
                self.events.event(about, EventType::Normal, "Pulled", message);
                Ok(image)
            }
            _ => self.pull(pod, name, about).await,
        }
    }

    fn invalid_name(&self, name: &str, error: &ImageError, about: &ObjectReference) -> PullError {
        let message = format!("Failed to apply default image tag {name:?}: {error}");
        self.events
            .event(about, EventType::Warning, "InspectFailed", message.clone());
        PullError {
            reason: "InvalidImageName",
            message,
        }
    }

    async fn pull(&self, pod: &Pod, name: &str, about: &ObjectReference) -> Result<Image, PullError> {
        let _slot = self.slots(name).acquire_owned().await.map_err(|_| PullError {
            reason: "ErrImagePull",
            message: "the node is shutting down".into(),
        })?;
        self.events
            .event(about, EventType::Normal, "Pulling", format!("Pulling image {name:?}"));
        let began = Instant::now();
        let mut last = None;
        for credentials in self.credentials(pod, name).await {
            match self.images.pull(name, credentials, None).await {
                Ok(image) => {
                    let (took, size) = (began.elapsed(), image.size);
                    let message = format!(
                        "Successfully pulled image {name:?} in {took:.0?} ({took:.0?} including waiting). Image size: {size} bytes."
                    );
                    self.events.event(about, EventType::Normal, "Pulled", message);
                    return Ok(image);
                }
                Err(e) if e.is_invalid_name() => return Err(self.invalid_name(name, &e, about)),
                Err(e) => last = Some(e),
            }
        }
        let why = last.map(|e| e.to_string()).unwrap_or_default();
        let message = format!("Failed to pull image {name:?}: {why}");
        self.events.event(about, EventType::Warning, "Failed", message);
        self.events
            .event(about, EventType::Warning, "Failed", "Error: ErrImagePull");
        Err(PullError {
            reason: "ErrImagePull",
            message: why,
        })
    }

    /// The slots of the registry an image comes from.
    fn slots(&self, image: &str) -> Arc<Semaphore> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() > REMEMBERED {
            slots.retain(|_, slots| Arc::strong_count(slots) > 1);
        }
        let image = with_registry(image);
        let registry = image.split('/').next().unwrap_or(&image);
        let new = || Arc::new(Semaphore::new(PARALLEL_PULLS));
        slots.entry(registry.to_owned()).or_insert_with(new).clone()
    }

    /// The credentials to try, in order; anonymous if there are none.
    async fn credentials(&self, pod: &Pod, image: &str) -> Vec<Option<Credentials>> {
        let meta = &pod.metadata;
        let mut found = Vec::new();
        for secret in &pod.spec.image_pull_secrets {
            match self
                .objects
                .get(&meta.uid, resources::SECRETS, &meta.namespace, &secret.name)
                .await
            {
                Ok(Some(object)) => match payload::secret_data(&object) {
                    Ok(data) => found.extend(matching(&data, image).map(Some)),
                    Err(error) => tracing::warn!(secret = secret.name, %error, "pull secret is not readable"),
                },
                Ok(None) => tracing::debug!(secret = secret.name, "pull secret does not exist"),
                Err(error) => tracing::warn!(secret = secret.name, %error, "pull secret could not be read"),
            }
        }
        if found.is_empty() {
            found.push(None);
        }
        found
    }
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
}

/// The credentials of a pull secret that fit an image (longest prefix, as upstream's keyring).
fn matching(data: &BTreeMap<String, Vec<u8>>, image: &str) -> Option<Credentials> {
    let auths = match (data.get(".dockerconfigjson"), data.get(".dockercfg")) {
        (Some(json), _) => serde_json::from_slice::<DockerConfig>(json).ok()?.auths,
        (None, Some(json)) => serde_json::from_slice(json).ok()?,
        (None, None) => return None,
    };
    let image = with_registry(image);
    let fits = |key: &str| {
        let key = key.trim_start_matches("https://").trim_start_matches("http://");
        let key = key
            .trim_end_matches('/')
            .trim_end_matches("/v1")
            .trim_end_matches("/v2");
        let key = if key == "index.docker.io" { "docker.io" } else { key };
        image
            .strip_prefix(key)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest.starts_with(':'))
    };
    let (_, auth) = auths
        .into_iter()
        .filter(|(key, _)| fits(key))
        .max_by_key(|(key, _)| key.len())?;
    let (mut username, mut password) = (auth.username, auth.password);
    if username.is_empty() && !auth.auth.is_empty() {
        let decoded = base64::engine::general_purpose::STANDARD.decode(&auth.auth).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (u, p) = text.split_once(':')?;
        (username, password) = (u.to_owned(), p.trim_end_matches('\0').to_owned());
    }
    Some(Credentials {
        username,
        password,
        token: auth.identitytoken,
    })
}

fn with_registry(image: &str) -> String {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => image.to_owned(),
        Some(_) => format!("docker.io/{image}"),
        None => format!("docker.io/library/{image}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_matching_entry_of_a_pull_secret_is_used() {
        let config = br#"{"auths":{"localhost:5000":{"username":"a","password":"b"},
            "localhost:5000/team":{"auth":"Yzpk"},"https://index.docker.io/v1/":{"username":"hub","password":"x"}}}"#;
        let data = BTreeMap::from([(".dockerconfigjson".to_owned(), config.to_vec())]);
        let user = |image: &str| matching(&data, image).map(|c| (c.username, c.password));
        assert_eq!(user("localhost:5000/app:1"), Some(("a".into(), "b".into())));
        assert_eq!(user("localhost:5000/team/app"), Some(("c".into(), "d".into())));
        assert_eq!(user("busybox"), Some(("hub".into(), "x".into())));
        assert_eq!(user("example.com/app"), None);
        assert_eq!(user("localhost:50001/app"), None);
    }
}
