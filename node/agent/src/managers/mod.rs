//! Who gets which processors and devices for itself: asked when a pod begins, given when its containers start.
//!
//! `cpus.rs` chooses processors, `devices` knows plugins, `ledger.rs` remembers, `pod_resources.rs` tells others.

mod cpus;
mod cpuset;
mod ledger;
mod pod_resources;

pub use cpuset::CpuSet;
pub use pod_resources::serve as serve_pod_resources;

use crate::{
    admission::Refusal,
    configuration::{Configuration, ConfigurationError},
    devices::{Devices, messages::ContainerAllocation},
    pod::{Container, Pod},
    state::NodeState,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use cpus::{StaticCpus, Topology};
use ledger::{Grant, Ledger};
use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};
use strata_client::Informer;
use strata_engine::{ContainerConfig, ContainerState, Engine, Mount, Resources};
use strata_task::CancellationToken;
use tokio::sync::watch;

/// Where the kernel describes processors.
const SYSTEM: &str = "/sys/devices/system/cpu";

/// What containers have for themselves.
pub struct Managers {
    /// Plugins and their devices.
    pub devices: Arc<Devices>,
    pods: Informer<Pod>,
    cpus: Option<StaticCpus>,
    ledger: Mutex<Ledger>,
    path: PathBuf,
    /// One pod is given to at a time.
    turn: tokio::sync::Mutex<()>,
    /// The processors that everybody shares.
    shared: watch::Sender<CpuSet>,
}

/// What a container's devices come to, by resource.
type Chosen = BTreeMap<String, BTreeSet<String>>;

impl Managers {
    /// `folder` has the sockets of plugins, `pods` shows who is still there.
    pub fn new(
        configuration: &Configuration,
        folder: &Path,
        state: watch::Sender<NodeState>,
        pods: Informer<Pod>,
    ) -> Result<Self, ConfigurationError> {
        let path = folder.join("grants.json");
        let ledger = Ledger::load(&path);
        let devices = Devices::new(folder.join("device-plugins"), state, ledger.resources.iter().cloned());
        let managers = Self {
            devices: Arc::new(devices),
            pods,
            cpus: policy(configuration)?,
            ledger: Mutex::new(ledger),
            path,
            turn: tokio::sync::Mutex::default(),
            shared: watch::channel(CpuSet::default()).0,
        };
        managers.share();
        Ok(managers)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no holder of this lock panics")
    }

    /// Sets devices and processors aside for a pod that begins. Errors: why it cannot be.
    pub async fn admit(&self, pod: &Pod) -> Result<(), Refusal> {
        if !pod.lasting_containers().any(|c| self.concerns(pod, c)) {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        self.forget_gone();
        let uid = pod.metadata.uid.to_string();
        let given = self.give_all(pod).await;
        if given.is_err() {
            self.ledger().grants.remove(&uid);
        }
        self.share();
        self.save().map_err(|why| refusal("UnexpectedAdmissionError", why))?;
        given
    }

    fn concerns(&self, pod: &Pod, container: &Container) -> bool {
        let wants_cpus = self.cpus.is_some() && StaticCpus::wanted(pod, container) > 0;
        wants_cpus || container.resources.limits.keys().any(|name| self.devices.knows(name))
    }

    async fn give_all(&self, pod: &Pod) -> Result<(), Refusal> {
        let (mut reusable, mut spare) = (Chosen::new(), CpuSet::default());
        for container in pod.lasting_containers() {
            let init = pod.spec.init_containers.iter().any(|c| c.name == container.name);
            let mut grant = Grant::default();
            for (resource, amount) in &container.resources.limits {
                let count = usize::try_from(amount.value()).unwrap_or(0);
                if count > 0 && self.devices.knows(resource) {
                    let reuse = reusable.entry(resource.clone()).or_default();
                    let chosen = self.choose(resource, count, reuse).await?;
                    self.allocate(resource, &chosen, &mut grant).await?;
                }
            }
            self.give_cpus(pod, container, &spare, &mut grant)?;
            // What an init container had is free again when it has ended; what lasts is not.
            let lasting = !init || container.is_sidecar();
            for (resource, ids) in &grant.devices {
                let reuse = reusable.entry(resource.clone()).or_default();
                if lasting {
                    reuse.retain(|id| !ids.contains(id));
                } else {
                    reuse.extend(ids.iter().cloned());
                }
            }
            let cpus = CpuSet::parse(&grant.cpus).unwrap_or_default();
            spare = if lasting {
                spare.difference(&cpus)
            } else {
                spare.union(&cpus)
            };
            if !grant.is_empty() {
                let mut ledger = self.ledger();
                let of_pod = ledger.grants.entry(pod.metadata.uid.to_string()).or_default();
                of_pod.insert(container.name.clone(), grant);
            }
        }
        Ok(())
    }

    async fn choose(&self, resource: &str, count: usize, reuse: &BTreeSet<String>) -> Result<Vec<String>, Refusal> {
        let healthy = self.devices.healthy(resource);
        let used = self.ledger().used(resource);
        let kept: BTreeSet<String> = reuse.intersection(&healthy).take(count).cloned().collect();
        let free: BTreeSet<String> = healthy.difference(&used).chain(&kept).cloned().collect();
        if free.len() < count {
            let why = format!(
                "Allocate failed due to requested number of devices unavailable for {resource}. Requested: {count}, Available: {}, which is unexpected",
                free.len()
            );
            return Err(refusal("UnexpectedAdmissionError", why));
        }
        let mut chosen: Vec<String> = kept.iter().cloned().collect();
        if let Some(plugin) = self.devices.plugin(resource) {
            let preferred = plugin.preferred(&free, &kept, count).await;
            chosen.extend(preferred.into_iter().filter(|id| !kept.contains(id)));
        }
        let rest = free.into_iter().filter(|id| !chosen.contains(id)).collect::<Vec<_>>();
        chosen.extend(rest);
        chosen.truncate(count);
        Ok(chosen)
    }

    async fn allocate(&self, resource: &str, ids: &[String], grant: &mut Grant) -> Result<(), Refusal> {
        let failed = |why: String| {
            let why = format!("Allocate failed due to {why}, which is unexpected");
            refusal("UnexpectedAdmissionError", why)
        };
        let gone = || {
            failed(format!(
                "endpoint not found in cache for a registered resource: {resource}"
            ))
        };
        let plugin = self.devices.plugin(resource).ok_or_else(gone)?;
        let answer = plugin
            .allocate(ids.to_vec())
            .await
            .map_err(|status| failed(status.to_string()))?;
        grant.devices.insert(resource.to_owned(), ids.to_vec());
        grant
            .answers
            .insert(resource.to_owned(), BASE64.encode(answer.encode_to_vec()));
        Ok(())
    }

    fn give_cpus(&self, pod: &Pod, container: &Container, spare: &CpuSet, grant: &mut Grant) -> Result<(), Refusal> {
        let (Some(policy), count @ 1..) = (&self.cpus, StaticCpus::wanted(pod, container)) else {
            return Ok(());
        };
        let taken = self.taken();
        let given = policy.give(count, &taken, spare);
        grant.cpus = given.map_err(|(reason, why)| refusal(reason, why))?.to_string();
        Ok(())
    }

    /// Processors that somebody has for itself.
    fn taken(&self) -> CpuSet {
        let ledger = self.ledger();
        let all = ledger.grants.values().flat_map(|pod| pod.values());
        let sets = all.filter_map(|grant| CpuSet::parse(&grant.cpus).ok());
        sets.fold(CpuSet::default(), |sum, set| sum.union(&set))
    }

    /// Takes back what belonged to pods that have ended.
    fn forget_gone(&self) {
        let pods = self.pods.list();
        let here: BTreeSet<&str> = pods
            .iter()
            .filter(|(_, pod)| !pod.is_finished())
            .map(|(_, pod)| pod.metadata.uid.as_str())
            .collect();
        self.ledger().grants.retain(|uid, _| here.contains(uid.as_str()));
    }

    fn save(&self) -> Result<(), String> {
        let ledger = {
            let mut ledger = self.ledger();
            ledger.resources = self.devices.resources().into_iter().collect();
            ledger.clone()
        };
        let saved = tokio::task::block_in_place(|| ledger.save(&self.path));
        saved.map_err(|error| format!("{}: {error}", self.path.display()))
    }

    fn share(&self) {
        if let Some(policy) = &self.cpus {
            let shared = policy.shared(&self.taken());
            self.shared.send_if_modified(|present| {
                let changed = *present != shared;
                *present = shared;
                changed
            });
        }
    }

    /// Gives a container that is about to be made what is set aside for it. Errors: a sentence.
    pub async fn equip(&self, pod: &Pod, container: &str, config: &mut ContainerConfig) -> Result<(), String> {
        let grant = self
            .ledger()
            .grant(pod.metadata.uid.as_str(), container)
            .cloned()
            .unwrap_or_default();
        if self.cpus.is_some() {
            let shared = || self.shared.borrow().to_string();
            config.resources.cpuset_cpus = Some(match grant.cpus.as_str() {
                "" => shared(),
                own => {
                    // Who has processors for itself is not held back on them.
                    (config.resources.cpu_quota, config.resources.cpu_period) = (None, None);
                    own.to_owned()
                }
            });
        }
        for (resource, ids) in &grant.devices {
            let answer = grant.answers.get(resource).and_then(|text| BASE64.decode(text).ok());
            let answer = answer.and_then(|bytes| ContainerAllocation::decode(&*bytes).ok());
            let answer = answer.ok_or_else(|| format!("what the plugin of {resource} said is not known any more"))?;
            apply(answer, config);
            if let Some(plugin) = self.devices.plugin(resource) {
                plugin
                    .prepare(ids.clone())
                    .await
                    .map_err(|status| format!("device plugin PreStartContainer rpc failed with err: {status}"))?;
            }
        }
        Ok(())
    }

    /// Keeps everybody without processors of its own on those that are shared, until cancelled.
    pub async fn keep_shared(self: Arc<Self>, engine: Engine, cancel: CancellationToken) {
        if self.cpus.is_none() {
            return;
        }
        let mut changes = self.shared.subscribe();
        loop {
            let shared = changes.borrow_and_update().to_string();
            for container in engine.list_containers() {
                let uid = container
                    .labels
                    .get(crate::container::POD_UID)
                    .map_or("", String::as_str);
                let own = self
                    .ledger()
                    .grant(uid, &container.name)
                    .is_some_and(|grant| !grant.cpus.is_empty());
                if own || container.state != ContainerState::Running {
                    continue;
                }
                let update = Resources {
                    cpuset_cpus: Some(shared.clone()),
                    ..Resources::default()
                };
                if let Err(error) = engine.update_resources(&container.id, update).await {
                    tracing::warn!(container = %container.id, %error, "a container stays on processors that others have for themselves");
                }
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                more = changes.changed() => if more.is_err() { return },
            }
        }
    }
}

fn refusal(reason: &str, message: String) -> Refusal {
    Refusal {
        reason: reason.to_owned(),
        message,
        by_labels: false,
    }
}

fn policy(configuration: &Configuration) -> Result<Option<StaticCpus>, ConfigurationError> {
    if configuration.cpu_manager_policy != "static" {
        return Ok(None);
    }
    let wrong = |why: String| ConfigurationError::value("cpuManagerPolicy", why);
    let topology = Topology::read(Path::new(SYSTEM)).map_err(|e| wrong(format!("{SYSTEM}: {e}")))?;
    let named = CpuSet::parse(&configuration.reserved_system_cpus).map_err(wrong)?;
    // Upstream rounds what is reserved up to whole processors.
    let count = usize::try_from(configuration.reserved("cpu").value()).unwrap_or(usize::MAX);
    let full = configuration.cpu_manager_policy_options.get("full-pcpus-only");
    let policy = StaticCpus::new(topology, named, count, full.is_some_and(|v| v == "true"));
    policy.map(Some).map_err(wrong)
}

/// What a plugin wants for a container.
fn apply(answer: ContainerAllocation, config: &mut ContainerConfig) {
    // The pod's own variables come after, and win.
    config.env.splice(0..0, answer.envs);
    config.annotations.extend(answer.annotations);
    config
        .cdi_devices
        .extend(answer.cdi_devices.into_iter().map(|device| device.name));
    let device = |d: crate::devices::messages::DeviceSpec| strata_engine::Device {
        host_path: d.host_path.into(),
        container_path: d.container_path.into(),
        permissions: d.permissions,
    };
    config.devices.extend(answer.devices.into_iter().map(device));
    let mount = |m: crate::devices::messages::DeviceMount| Mount {
        host_path: m.host_path.into(),
        container_path: m.container_path.into(),
        read_only: m.read_only,
        ..Mount::default()
    };
    config.mounts.extend(answer.mounts.into_iter().map(mount));
}
