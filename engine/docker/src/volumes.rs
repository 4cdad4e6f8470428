//! Named volumes: folders that outlive containers.

use crate::call::{Call, created, nothing, ok};
use crate::daemon::Inner;
use crate::error::{Answer, ApiError, blocking};
use crate::names;
use crate::record::{make_folder, new_id, now, read, remove_folder, replace};
use http::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use strata_http::Body;

/// The label of volumes that nobody named.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// All volumes.
pub(crate) struct Volumes {
    root: PathBuf,
    all: Mutex<BTreeMap<String, Volume>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Volume {
    pub name: String,
    pub created: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct CreateBody {
    name: String,
    driver: String,
    labels: BTreeMap<String, String>,
    driver_opts: BTreeMap<String, String>,
}

impl Volumes {
    /// Reads what there is.
    pub fn open(root: PathBuf) -> Answer<Self> {
        make_folder(&root)?;
        let mut all = BTreeMap::new();
        for item in std::fs::read_dir(&root).map_err(ApiError::io("read", &root))? {
            let path = item.map_err(ApiError::io("read", &root))?.path();
            match read::<Volume>(&path.join("volume.json"))? {
                Some(volume) => {
                    all.insert(volume.name.clone(), volume);
                }
                // An interrupted creation or removal.
                None => remove_folder(&path)?,
            }
        }
        Ok(Self {
            root,
            all: Mutex::new(all),
        })
    }

    /// A volume's files.
    pub fn data(&self, name: &str) -> PathBuf {
        self.root.join(name).join("_data")
    }

    pub fn get(&self, name: &str) -> Option<Volume> {
        self.all
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    pub fn list(&self) -> Vec<Volume> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().cloned().collect()
    }

    /// Makes a volume, or finds the one of that name; an empty name makes an anonymous one.
    pub fn ensure(&self, name: &str, mut labels: BTreeMap<String, String>) -> Answer<Volume> {
        let name = if name.is_empty() {
            labels.insert(ANONYMOUS.into(), String::new());
            new_id()?
        } else {
            names::checked(name).map_err(|_| {
                ApiError::invalid(format!(
                    "create {name}: {name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
                ))
            })?
        };
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(&name) {
            return Ok(known.clone());
        }
        let volume = Volume {
            name: name.clone(),
            created: now(),
            labels,
            options: BTreeMap::new(),
        };
        let folder = self.root.join(&name);
        make_folder(&folder)?;
        let data = self.data(&name);
        make_folder(&data)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&data, mode).map_err(ApiError::io("chmod", &data))?;
        replace(&folder.join("volume.json"), &volume)?;
        all.insert(name, volume.clone());
        Ok(volume)
    }

    /// Removes a volume and its files.
    pub fn remove(&self, name: &str) -> Answer<()> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains_key(name) {
            return Err(no_volume(name));
        }
        let folder = self.root.join(name);
        // Without its description, what is left after an interruption is cleaned up at the next start.
        let description = folder.join("volume.json");
        std::fs::remove_file(&description).map_err(ApiError::io("remove", &description))?;
        all.remove(name);
        remove_folder(&folder)
    }
}

fn no_volume(name: &str) -> ApiError {
    ApiError::not_found(format!("get {name}: no such volume"))
}

impl Inner {
    /// Containers that mount a volume.
    fn users_of_volume(&self, name: &str) -> Vec<String> {
        let all = self.all();
        let uses = all.iter().filter(|container| {
            let record = container.lock();
            record
                .mounts
                .iter()
                .any(|mount| mount.kind == "volume" && mount.name == name)
        });
        uses.map(|container| container.id.clone()).collect()
    }

    fn volume_json(&self, volume: &Volume) -> Value {
        let labels = if volume.labels.is_empty() {
            Value::Null
        } else {
            json!(volume.labels)
        };
        let options = if volume.options.is_empty() {
            Value::Null
        } else {
            json!(volume.options)
        };
        json!({
            "CreatedAt": volume.created, "Driver": "local", "Labels": labels,
            "Mountpoint": self.volumes.data(&volume.name), "Name": volume.name, "Options": options, "Scope": "local",
        })
    }

    fn remove_volume(&self, name: &str) -> Answer<()> {
        let users = self.users_of_volume(name);
        if !users.is_empty() {
            return Err(ApiError::conflict(format!(
                "remove {name}: volume is in use - [{}]",
                users.join(", ")
            )));
        }
        self.volumes.remove(name)?;
        let attributes = [("driver".to_owned(), "local".to_owned())].into();
        self.events.tell("volume", "destroy", name, attributes);
        Ok(())
    }
}

/// `GET /volumes`
pub(crate) async fn list(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let filters = call.filters()?;
    filters.only(&["dangling", "driver", "label", "label!", "name"])?;
    let fits = |volume: &Volume| {
        filters.fits("name", |name| volume.name.contains(name))
            && filters.fits("driver", |driver| driver == "local")
            && filters.fits("dangling", |wanted| {
                crate::call::is_true(wanted) == inner.users_of_volume(&volume.name).is_empty()
            })
            && filters.fits_labels(&volume.labels)
    };
    let volumes = inner.volumes.list();
    let rows: Vec<Value> = volumes
        .iter()
        .filter(|volume| fits(volume))
        .map(|volume| inner.volume_json(volume))
        .collect();
    ok(&json!({"Volumes": rows, "Warnings": null}))
}

/// `POST /volumes/create`
pub(crate) async fn create(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let body: CreateBody = call.json().await?;
    if !matches!(body.driver.as_str(), "" | "local") {
        return Err(ApiError::not_found(format!(
            "create {}: error looking up volume plugin {}: plugin \"{}\" not found",
            body.name, body.driver, body.driver
        )));
    }
    if !body.driver_opts.is_empty() {
        return Err(ApiError::invalid(
            "options of the local volume driver are not supported",
        ));
    }
    let volume = blocking({
        let inner = Arc::clone(&inner);
        move || {
            let known = inner.volumes.get(&body.name).is_some();
            let volume = inner.volumes.ensure(&body.name, body.labels)?;
            if !known {
                let attributes = [("driver".to_owned(), "local".to_owned())].into();
                inner.events.tell("volume", "create", &volume.name, attributes);
            }
            Ok(volume)
        }
    })
    .await?;
    created(&inner.volume_json(&volume))
}

/// `GET /volumes/{name}`
pub(crate) async fn inspect(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let volume = inner.volumes.get(call.name()).ok_or_else(|| no_volume(call.name()))?;
    ok(&inner.volume_json(&volume))
}

/// `DELETE /volumes/{name}`
pub(crate) async fn remove(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let (name, force) = (call.name().to_owned(), call.flag("force"));
    blocking(move || match inner.remove_volume(&name) {
        Err(error) if force && error.status == http::StatusCode::NOT_FOUND => Ok(()),
        other => other,
    })
    .await?;
    nothing()
}

/// `POST /volumes/prune`
pub(crate) async fn prune(inner: Arc<Inner>, call: Call) -> Answer<Response<Body>> {
    let filters = call.filters()?;
    filters.only(&["label", "label!", "all"])?;
    let all = filters.get("all").iter().any(|value| crate::call::is_true(value));
    let (deleted, freed) = blocking(move || {
        let (mut deleted, mut freed) = (Vec::new(), 0);
        for volume in inner.volumes.list() {
            let wanted = (all || volume.labels.contains_key(ANONYMOUS)) && filters.fits_labels(&volume.labels);
            if wanted && inner.users_of_volume(&volume.name).is_empty() {
                let size = crate::usage::folder_size(&inner.volumes.data(&volume.name));
                inner.remove_volume(&volume.name)?;
                freed += size;
                deleted.push(volume.name);
            }
        }
        Ok((deleted, freed))
    })
    .await?;
    ok(&json!({"VolumesDeleted": deleted, "SpaceReclaimed": freed}))
}
