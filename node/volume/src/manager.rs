//! Provides and removes the volumes of pods.

use crate::{
    DownwardApi, EmptyDir, FieldRef, HostPath, KeysSource, ObjectCache, Projected, ResourceFieldRef, TokenProjection,
    Volume, VolumeError,
    atomic::{self, Payload},
    payload::{self, DEFAULT_MODE},
    persistent::Persistent,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};
use strata_client::{Client, Resource, resources};
use strata_meta::{Object, Time, Uid};

/// Seconds a projected token is valid when the pod does not say.
const TOKEN_SECONDS: i64 = 3600;

/// An object whose keys become files.
struct KeysKind {
    resource: Resource,
    /// What messages call the object.
    object: &'static str,
    /// What messages call its keys.
    key: &'static str,
    data: fn(&Object) -> Result<payload::Keys, VolumeError>,
}

const CONFIG_MAP: KeysKind = KeysKind {
    resource: resources::CONFIG_MAPS,
    object: "configmap",
    key: "config",
    data: payload::config_map_data,
};

const SECRET: KeysKind = KeysKind {
    resource: resources::SECRETS,
    object: "secret",
    key: "secret",
    data: payload::secret_data,
};

/// What the manager needs to know of a pod.
pub trait VolumePod: Sync {
    /// Its namespace.
    fn namespace(&self) -> &str;
    /// Its name.
    fn name(&self) -> &str;
    /// Its identity.
    fn uid(&self) -> &Uid;
    /// Its service account.
    fn service_account(&self) -> &str;
    /// The node that it is bound to.
    fn node_name(&self) -> &str;
    /// The group that volumes are given to.
    fn fs_group(&self) -> Option<u32>;
    /// Whether a persistent volume whose root is the group's already is left as it is.
    fn fs_group_on_root_mismatch(&self) -> bool;
    /// Its volumes.
    fn volumes(&self) -> &[Volume];
    /// The value of a field of the pod (`metadata.*`, `spec.*`, `status.*`).
    fn field(&self, reference: &FieldRef) -> Result<String, VolumeError>;
    /// The value of a container's resource.
    fn resource(&self, reference: &ResourceFieldRef) -> Result<String, VolumeError>;
}

/// Where a pod's volumes are on this node.
#[derive(Clone, Debug, Default)]
pub struct PodVolumes {
    /// Host path by volume name.
    pub paths: BTreeMap<String, PathBuf>,
    /// Names of the volumes that no container may write, whatever it asks for.
    pub read_only: BTreeSet<String>,
    /// When the content must be looked at again (a token ages).
    pub refresh_at: Option<Time>,
}

struct Token {
    text: String,
    refresh_at: Time,
}

/// Tokens by pod, audience and lifetime.
type Tokens = HashMap<(Uid, String, i64), Token>;

/// What claims stand for, by pod and volume.
type Claimed = HashMap<(Uid, String), Persistent>;

/// Provides and removes the volumes of pods below `<root>/<pod uid>/volumes`.
pub struct VolumeManager {
    client: Client,
    objects: Arc<ObjectCache>,
    root: PathBuf,
    tokens: Mutex<Tokens>,
    claimed: Mutex<Claimed>,
}

impl VolumeManager {
    /// `root` holds a directory per pod.
    pub fn new(client: Client, objects: Arc<ObjectCache>, root: PathBuf) -> Self {
        Self {
            client,
            objects,
            root,
            tokens: Mutex::default(),
            claimed: Mutex::default(),
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn claimed(&self) -> MutexGuard<'_, Claimed> {
        self.claimed.lock().expect("no holder of this lock panics")
    }

    /// Where everything of a pod lives.
    pub fn pod_dir(&self, uid: &Uid) -> PathBuf {
        self.root.join(uid.as_str())
    }

    /// Provides every volume of a pod, or brings their content up to date; may be repeated.
    ///
    /// Errors: the name of the volume and why it cannot be provided.
    pub async fn set_up(&self, pod: &dyn VolumePod) -> Result<PodVolumes, (String, VolumeError)> {
        let mut result = PodVolumes::default();
        for volume in pod.volumes().iter().filter(|volume| volume.image.is_none()) {
            let named = |e| (volume.name.clone(), e);
            let path = match self.persistent(pod, volume).await.map_err(named)? {
                Some(persistent) => {
                    if persistent.read_only {
                        result.read_only.insert(volume.name.clone());
                    }
                    persistent.path
                }
                None => self
                    .set_up_one(pod, volume, &mut result.refresh_at)
                    .await
                    .map_err(named)?,
            };
            result.paths.insert(volume.name.clone(), path);
        }
        Ok(result)
    }

    async fn set_up_one(
        &self,
        pod: &dyn VolumePod,
        volume: &Volume,
        refresh_at: &mut Option<Time>,
    ) -> Result<PathBuf, VolumeError> {
        if let Some(source) = &volume.host_path {
            return blocking({
                let source = source.clone();
                move || host_path(&source)
            })
            .await;
        }
        let (kind, in_memory) = match volume {
            Volume { empty_dir: Some(e), .. } => ("kubernetes.io~empty-dir", e.medium == "Memory"),
            Volume {
                config_map: Some(_), ..
            } => ("kubernetes.io~configmap", false),
            Volume { secret: Some(_), .. } => ("kubernetes.io~secret", true),
            Volume { projected: Some(_), .. } => ("kubernetes.io~projected", true),
            Volume {
                downward_api: Some(_), ..
            } => ("kubernetes.io~downward-api", false),
            _ => return Err(VolumeError::Unsupported(volume.name.clone())),
        };
        let dir = self.pod_dir(pod.uid()).join("volumes").join(kind).join(&volume.name);
        let content = self.payload(pod, volume, refresh_at).await?;
        let (group, empty_dir, path) = (pod.fs_group(), volume.empty_dir.clone(), dir.clone());
        blocking(move || {
            make_directory(&path, in_memory, empty_dir.as_ref(), group)?;
            if let Some(content) = content {
                atomic::write(&path, &content, group)?;
            }
            Ok(())
        })
        .await?;
        Ok(dir)
    }

    /// The files of a volume whose content the node decides; `None` for scratch space.
    async fn payload(
        &self,
        pod: &dyn VolumePod,
        volume: &Volume,
        refresh_at: &mut Option<Time>,
    ) -> Result<Option<Payload>, VolumeError> {
        let mut payload = Payload::new();
        if let Some(source) = &volume.config_map {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            self.add_keys(pod, &CONFIG_MAP, source, mode, &mut payload).await?;
        } else if let Some(source) = &volume.secret {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            self.add_keys(pod, &SECRET, source, mode, &mut payload).await?;
        } else if let Some(source) = &volume.downward_api {
            add_downward(pod, source, source.default_mode.unwrap_or(DEFAULT_MODE), &mut payload)?;
        } else if let Some(source) = &volume.projected {
            self.add_projected(pod, source, &mut payload, refresh_at).await?;
        } else {
            return Ok(None);
        }
        Ok(Some(payload))
    }

    async fn add_projected(
        &self,
        pod: &dyn VolumePod,
        projected: &Projected,
        payload: &mut Payload,
        refresh_at: &mut Option<Time>,
    ) -> Result<(), VolumeError> {
        let mode = projected.default_mode.unwrap_or(DEFAULT_MODE);
        for source in &projected.sources {
            if let Some(config_map) = &source.config_map {
                self.add_keys(pod, &CONFIG_MAP, config_map, mode, payload).await?;
            }
            if let Some(secret) = &source.secret {
                self.add_keys(pod, &SECRET, secret, mode, payload).await?;
            }
            if let Some(downward) = &source.downward_api {
                add_downward(pod, downward, mode, payload)?;
            }
            if let Some(token) = &source.service_account_token {
                let (text, refresh) = self.token(pod, token).await?;
                *refresh_at = Some(refresh_at.map_or(refresh, |at| at.min(refresh)));
                // Only the owner may read a token, unless fsGroup widens it (KEP-1205).
                payload.insert(token.path.clone(), payload::file(text.into_bytes(), mode));
            }
        }
        Ok(())
    }

    async fn add_keys(
        &self,
        pod: &dyn VolumePod,
        kind: &KeysKind,
        source: &KeysSource,
        mode: u32,
        payload: &mut Payload,
    ) -> Result<(), VolumeError> {
        let optional = source.optional == Some(true);
        let object = self
            .objects
            .get(pod.uid(), kind.resource, pod.namespace(), &source.name)
            .await?;
        let data = match found(object, kind.object, &source.name, optional)? {
            Some(object) => (kind.data)(&object)?,
            None => BTreeMap::new(),
        };
        payload::add_keys(payload, kind.key, &data, &source.items, optional, mode)
    }

    /// A token bound to the pod, from the cache while less than 80% of its life has passed.
    async fn token(&self, pod: &dyn VolumePod, source: &TokenProjection) -> Result<(String, Time), VolumeError> {
        let seconds = source.expiration_seconds.unwrap_or(TOKEN_SECONDS);
        let key = (pod.uid().clone(), source.audience.clone(), seconds);
        let now = Time::now();
        if let Some(token) = self.tokens.lock().expect("no holder of this lock panics").get(&key)
            && now < token.refresh_at
        {
            return Ok((token.text.clone(), token.refresh_at));
        }
        let audiences: Vec<&str> = Some(source.audience.as_str())
            .filter(|a| !a.is_empty())
            .into_iter()
            .collect();
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {
                "audiences": audiences, "expirationSeconds": seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod.name(), "uid": pod.uid()},
            },
        });
        let (namespace, account) = (pod.namespace(), pod.service_account());
        let answer = self
            .client
            .create_subresource(resources::SERVICE_ACCOUNTS, namespace, account, "token", &request)
            .await?;
        let text = answer.pointer("/status/token").and_then(Value::as_str);
        let text = text.ok_or_else(|| strata_client::Error::Decode("TokenRequest without a token".into()))?;
        let refresh_at = now.plus_seconds(seconds * 8 / 10);
        let token = Token {
            text: text.to_owned(),
            refresh_at,
        };
        self.tokens
            .lock()
            .expect("no holder of this lock panics")
            .insert(key, token);
        Ok((text.to_owned(), refresh_at))
    }

    /// Unmounts and removes everything of a pod.
    pub async fn tear_down(&self, uid: &Uid) -> Result<(), VolumeError> {
        self.objects.release(uid);
        self.claimed().retain(|(owner, _), _| owner != uid);
        self.tokens
            .lock()
            .expect("no holder of this lock panics")
            .retain(|(owner, _, _), _| owner != uid);
        let dir = self.pod_dir(uid);
        blocking(move || {
            if fs::symlink_metadata(&dir).is_err() {
                return Ok(());
            }
            strata_mount::unmount_below(&dir).map_err(VolumeError::io("unmounting below", &dir))?;
            fs::remove_dir_all(&dir).map_err(VolumeError::io("removing", &dir))
        })
        .await
    }

    /// The pods that have a directory here, for the removal of those that are gone.
    pub fn known_pods(&self) -> Vec<Uid> {
        let Ok(entries) = fs::read_dir(&self.root) else {
            return Vec::new();
        };
        let name = |entry: fs::DirEntry| Uid::from(entry.file_name().to_string_lossy().as_ref());
        entries.flatten().map(name).collect()
    }
}

fn found(
    object: Option<Arc<Object>>,
    kind: &'static str,
    name: &str,
    optional: bool,
) -> Result<Option<Arc<Object>>, VolumeError> {
    match object {
        None if !optional => Err(VolumeError::NotFound {
            kind,
            name: name.to_owned(),
        }),
        object => Ok(object),
    }
}

fn add_downward(
    pod: &dyn VolumePod,
    source: &DownwardApi,
    default_mode: u32,
    payload: &mut Payload,
) -> Result<(), VolumeError> {
    for item in &source.items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => pod.field(field)?,
            (None, Some(resource)) => pod.resource(resource)?,
            (None, None) => return Err(VolumeError::FieldPath(item.path.clone())),
        };
        payload.insert(
            item.path.clone(),
            payload::file(text.into_bytes(), item.mode.unwrap_or(default_mode)),
        );
    }
    Ok(())
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, VolumeError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| VolumeError::Cancelled)?
}

fn make_directory(
    path: &Path,
    in_memory: bool,
    empty_dir: Option<&EmptyDir>,
    group: Option<u32>,
) -> Result<(), VolumeError> {
    let fresh = fs::symlink_metadata(path).is_err();
    fs::create_dir_all(path).map_err(VolumeError::io("creating", path))?;
    if in_memory && !strata_mount::is_mount_point(path).map_err(VolumeError::io("looking at", path))? {
        let size = empty_dir
            .and_then(|e| e.size_limit)
            .map(|q| q.value().max(0).unsigned_abs());
        strata_mount::mount_tmpfs(path, size).map_err(VolumeError::io("mounting tmpfs on", path))?;
    } else if !fresh {
        return Ok(());
    }
    if let Some(group) = group {
        chown(path, None, Some(group)).map_err(VolumeError::io("changing group of", path))?;
    }
    let mode = match (empty_dir, group) {
        (Some(_), None) => 0o777,
        (Some(_), Some(_)) => 0o2777,
        (None, None) => 0o755,
        (None, Some(_)) => 0o2775,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(VolumeError::io("setting mode of", path))
}

/// core/v1 HostPathType.
pub(crate) fn host_path(source: &HostPath) -> Result<PathBuf, VolumeError> {
    use std::os::unix::fs::FileTypeExt;
    let path = PathBuf::from(&source.path);
    let kind = source.kind.as_deref().unwrap_or("");
    let meta = fs::metadata(&path).ok();
    let wrong = |expected| VolumeError::HostPathType {
        path: path.clone(),
        expected,
    };
    let is = |test: fn(&fs::Metadata) -> bool| meta.as_ref().is_some_and(test);
    match kind {
        "DirectoryOrCreate" if meta.is_none() => {
            fs::create_dir_all(&path).map_err(VolumeError::io("creating", &path))?;
        }
        "FileOrCreate" if meta.is_none() => {
            fs::File::create(&path).map_err(VolumeError::io("creating", &path))?;
        }
        // An absent path of no particular type becomes a directory, as container engines do.
        "" if meta.is_none() => fs::create_dir_all(&path).map_err(VolumeError::io("creating", &path))?,
        "Directory" | "DirectoryOrCreate" if !is(|m| m.is_dir()) => return Err(wrong("a directory")),
        "File" | "FileOrCreate" if !is(|m| m.is_file()) => return Err(wrong("a file")),
        "Socket" if !is(|m| m.file_type().is_socket()) => return Err(wrong("a socket")),
        "CharDevice" if !is(|m| m.file_type().is_char_device()) => return Err(wrong("a character device")),
        "BlockDevice" if !is(|m| m.file_type().is_block_device()) => return Err(wrong("a block device")),
        _ => {}
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_paths_are_checked_or_made_as_their_type_says() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str, kind: &str| HostPath {
            path: dir.path().join(name).to_string_lossy().into_owned(),
            kind: Some(kind.into()),
        };
        assert!(host_path(&at("none", "Directory")).is_err());
        assert!(host_path(&at("made", "DirectoryOrCreate")).unwrap().is_dir());
        assert!(host_path(&at("made", "File")).is_err());
        assert!(host_path(&at("file", "FileOrCreate")).unwrap().is_file());
        assert!(host_path(&at("file", "Socket")).is_err());
    }
}
