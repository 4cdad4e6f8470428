//! Making and ending sandboxes.

use crate::engine::Inner;
use crate::entry::SandboxEntry;
use crate::link::{ShimLink, blocking};
use crate::record::{NetworkKind, SandboxRecord, make, new_id, remove};
use crate::spec::{SandboxFiles, limits, text};
use crate::steps::done;
use crate::{Engine, EngineEvent, Error, Network, Sandbox, SandboxConfig, SandboxId};
use futures::future::join_all;
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};
use strata_runtime::cgroup::Cgroup;
use strata_runtime::spec::IdMapping;
use strata_shim::protocol::SandboxSpec;
use strata_shim::{Connection, LaunchSpec};

/// What docker and containerd give /dev/shm.
const SHM_SIZE: u64 = 64 << 20;
/// Sticky and open to all, as any /dev/shm.
const SHM_MODE: u32 = 0o1777;
/// Longest host name (hostname(7)).
const MAX_HOSTNAME: usize = 64;

/// What of a sandbox is wanted once, besides its record.
pub(crate) struct Plan {
    pub record: SandboxRecord,
    resolv_conf: Option<String>,
    network: Network,
    sysctls: BTreeMap<String, String>,
    share_process_namespace: bool,
    resources: Option<crate::Resources>,
}

impl Engine {
    /// Makes a sandbox: namespaces, cgroup, network address. Nothing is left behind on failure.
    pub async fn run_sandbox(&self, config: SandboxConfig) -> Result<Sandbox, Error> {
        let inner = Arc::clone(&self.inner);
        let plan = plan(config)?;
        let (entry, link) = blocking(move || {
            let id = plan.record.id.clone();
            let network = plan.network.clone();
            inner
                .make_sandbox(plan)
                .inspect_err(|_| inner.undo_sandbox(&id, &network))
        })
        .await?;
        self.inner.known.add_sandbox(Arc::clone(&entry));
        if let Err(error) = self.inner.follow(&entry, &link).await {
            if let Err(left) = self.remove_sandbox(&entry.id).await {
                tracing::warn!(sandbox = %entry.id, error = %left, "left a sandbox behind that could not be followed");
            }
            return Err(error);
        }
        let record = entry.record();
        Ok(Sandbox {
            id: record.id,
            ip: record.ip,
            created_at: record.created_at,
        })
    }

    /// Kills all containers of a sandbox at once and takes its network away. No error if it is stopped already.
    pub async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        let entry = self.inner.known.sandbox(id)?;
        let _ending = entry.ending.lock().await;
        self.inner.end_sandbox(&entry).await
    }

    /// Stops and forgets a sandbox with its containers. No error if it does not exist.
    pub async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        let Ok(entry) = self.inner.known.sandbox(id) else {
            return Ok(());
        };
        let _ending = entry.ending.lock().await;
        self.inner.end_sandbox(&entry).await?;
        let containers = self.inner.known.containers_of(id);
        let removals = containers
            .iter()
            .map(|container| self.remove_container(&container.record.id));
        join_all(removals).await.into_iter().collect::<Result<(), _>>()?;
        let inner = Arc::clone(&self.inner);
        let record = entry.record();
        let mut siblings = self.inner.known.sandboxes();
        siblings.retain(|other| other.id != record.id && other.lock_record().cgroup_parent == record.cgroup_parent);
        let shared = !siblings.is_empty();
        blocking(move || {
            // Whoever goes last takes it away.
            for other in siblings.iter().filter(|_| !record.keep_cgroup) {
                let record = {
                    let mut record = other.lock_record();
                    record.keep_cgroup = false;
                    record.clone()
                };
                inner.folders.write_sandbox(&record)?;
            }
            // The folder of the shared pid namespace's init goes with the shim.
            if !shared && !record.keep_cgroup {
                let cgroup = inner.cgroup(&record.cgroup_parent)?;
                cgroup
                    .remove()
                    .map_err(|error| Error::InvalidConfig(error.to_string()))?;
            }
            done("remove a pod's cgroup");
            remove(&inner.folders.run(&record.id))?;
            done("remove a sandbox's run folder");
            remove(&inner.folders.sandbox(&record.id))
        })
        .await?;
        self.inner.known.forget_sandbox(id);
        Ok(())
    }
}

/// What is wanted, found sound. Pure, but for the identity and the machine's host name.
pub(crate) fn plan(config: SandboxConfig) -> Result<Plan, Error> {
    let network = match &config.network {
        Network::Host => NetworkKind::Host,
        Network::Pod(_) => NetworkKind::Pod,
        Network::None => NetworkKind::None,
    };
    let hostname = match network {
        NetworkKind::Host => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        _ => config.hostname,
    };
    if config.users.is_some() && (network == NetworkKind::Host || config.host_pid || config.host_ipc) {
        return Err(Error::InvalidConfig(
            "a sandbox in a user namespace cannot share namespaces of the machine".into(),
        ));
    }
    if hostname.len() > MAX_HOSTNAME || hostname.contains(['\n', '\0', '/']) {
        return Err(Error::InvalidConfig(format!(
            "hostname {hostname:?} is longer than 64 characters or malformed"
        )));
    }
    if !config.cgroup_parent.starts_with('/') || config.cgroup_parent == "/" {
        return Err(Error::InvalidConfig(format!(
            "cgroup parent {:?} is not absolute",
            config.cgroup_parent
        )));
    }
    if config.systemd && !config.cgroup_parent.ends_with(".slice") {
        return Err(Error::InvalidConfig(format!(
            "cgroup parent {:?} is not a slice, and systemd has no other",
            config.cgroup_parent
        )));
    }
    let record = SandboxRecord {
        id: SandboxId::from(new_id()?.as_str()),
        namespace: config.namespace,
        name: config.name,
        uid: config.uid,
        attempt: config.attempt,
        hostname,
        log_dir: config.log_dir,
        network,
        host_pid: config.host_pid,
        host_ipc: config.host_ipc,
        cgroup_parent: config.cgroup_parent,
        created_at: SystemTime::now(),
        labels: config.labels,
        annotations: config.annotations,
        ip: None,
        shim: Default::default(),
        stopped: false,
        users: config.users,
        keep_cgroup: config.keep_cgroup,
        systemd: config.systemd,
        resolv_conf: config.resolv_conf.is_some(),
        memo: config.memo,
    };
    Ok(Plan {
        record,
        resolv_conf: config.resolv_conf,
        network: config.network,
        sysctls: config.sysctls,
        share_process_namespace: config.share_process_namespace && !config.host_pid,
        resources: config.resources,
    })
}

impl Inner {
    /// The whole making. Blocking, a few milliseconds.
    fn make_sandbox(&self, plan: Plan) -> Result<(Arc<SandboxEntry>, Arc<ShimLink>), Error> {
        let Plan {
            mut record,
            resolv_conf,
            network,
            sysctls,
            share_process_namespace,
            resources,
        } = plan;
        let folder = self.folders.sandbox(&record.id);
        make(&folder)?;
        done("make a sandbox's folder");
        // Written first, so that whatever follows is found again even if this process ends in the middle.
        self.folders.write_sandbox(&record)?;
        done("write a sandbox's record");
        if !record.log_dir.as_os_str().is_empty() {
            fs::create_dir_all(&record.log_dir).map_err(Error::io("create directory", &record.log_dir))?;
        }
        if let Some(text) = resolv_conf {
            let path = folder.join("resolv.conf");
            fs::write(&path, text).map_err(Error::io("write", &path))?;
        }
        let hostname = folder.join("hostname");
        fs::write(&hostname, format!("{}\n", record.hostname)).map_err(Error::io("write", &hostname))?;
        let launch = LaunchSpec {
            sandbox_id: record.id.to_string(),
            state_dir: text(&self.folders.run(&record.id))?,
            cgroup: self.shim_cgroup.clone(),
        };
        let launched = self.helper.launch(&launch);
        let (shim, mut connection) = launched.map_err(|error| Error::Shim {
            id: record.id.clone(),
            why: error.to_string(),
        })?;
        done("launch a shim");
        record.shim = shim;
        self.folders.write_sandbox(&record)?;
        done("remember the shim");
        if self.make_cgroup(&record, resources.as_ref())? {
            record.keep_cgroup = false;
            self.folders.write_sandbox(&record)?;
        }
        done("make a pod's cgroup");
        self.make_shm(&record)?;
        done("mount a sandbox's memory");
        let spec = sandbox_spec(&record, sysctls, share_process_namespace);
        record.ip = attach(&record, spec, &mut connection, &network)?;
        done("make the namespaces");
        self.folders.write_sandbox(&record)?;
        done("remember the address");
        let link = Arc::new(ShimLink::new(record.id.clone(), record.shim.clone(), Some(connection)));
        let network = match network {
            Network::Pod(network) => Some(network),
            Network::Host | Network::None => None,
        };
        Ok((
            Arc::new(SandboxEntry::new(record, Some(Arc::clone(&link)), network)),
            link,
        ))
    }

    /// Whether the cgroup was not there before: then it is nobody else's, whoever named it.
    fn make_cgroup(&self, record: &SandboxRecord, resources: Option<&crate::Resources>) -> Result<bool, Error> {
        let failed = |error: strata_runtime::Error| Error::Runtime {
            what: "make the cgroup of the pod",
            why: error.to_string(),
        };
        let (cgroup, fresh) = {
            let _making = self.making_cgroup.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = !self.cgroup(&record.cgroup_parent)?.exists();
            (
                Cgroup::create(&self.cgroups, &record.cgroup_parent).map_err(failed)?,
                fresh,
            )
        };
        if let Some(resources) = resources {
            cgroup.apply(&limits(resources)).map_err(failed)?;
        }
        Ok(fresh)
    }

    fn make_shm(&self, record: &SandboxRecord) -> Result<(), Error> {
        if record.host_ipc {
            return Ok(());
        }
        let path = self.folders.shm(&record.id);
        make(&path)?;
        strata_mount::mount_tmpfs_with(&path, Some(SHM_SIZE), SHM_MODE).map_err(Error::io("mount a tmpfs on", path))
    }

    /// Takes back what a failed making left.
    fn undo_sandbox(&self, id: &SandboxId, network: &Network) {
        let record = crate::record::read::<SandboxRecord>(&self.folders.sandbox(id).join("sandbox.json"));
        if let Ok(Some(record)) = record {
            if !record.shim.socket.is_empty()
                && let Ok(connection) = Connection::open(&record.shim.socket)
                && let Err(error) = connection.shutdown()
            {
                tracing::warn!(sandbox = %id, %error, "could not end the shim of a sandbox that failed");
            }
            let used = self
                .known
                .sandboxes()
                .iter()
                .any(|e| e.lock_record().cgroup_parent == record.cgroup_parent);
            if !used
                && !record.keep_cgroup
                && let Ok(cgroup) = self.cgroup(&record.cgroup_parent)
            {
                warn(id, "remove the cgroup", cgroup.remove());
            }
        }
        if let Network::Pod(network) = network {
            warn(id, "detach the network", network.detach(id.as_str()));
        }
        warn(id, "unmount /dev/shm", self.unmount_shm(id));
        warn(id, "remove the run folder", remove(&self.folders.run(id)));
        warn(id, "remove the folder", remove(&self.folders.sandbox(id)));
    }

    pub(crate) fn unmount_shm(&self, id: &SandboxId) -> Result<(), Error> {
        let path = self.folders.shm(id);
        match strata_mount::unmount(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("unmount", path)(error)),
            _ => Ok(()),
        }
    }

    /// Ends all that runs. The caller holds `ending`.
    async fn end_sandbox(self: &Arc<Self>, entry: &Arc<SandboxEntry>) -> Result<(), Error> {
        let link = entry.link().ok();
        if link.is_some() {
            let containers = self.known.containers_of(&entry.id);
            let ends = containers
                .iter()
                .map(|container| self.stop(container, entry, Duration::ZERO));
            join_all(ends).await.into_iter().collect::<Result<(), _>>()?;
        }
        if entry.lock_record().stopped {
            return Ok(());
        }
        let inner = Arc::clone(self);
        let sandbox = Arc::clone(entry);
        // From here on the shim's end is no surprise.
        let link = entry.unlink();
        blocking(move || {
            // While the namespace lives: the kernel takes a link away at once only then.
            detach(&sandbox)?;
            match link {
                Some(link) => link.end()?,
                // An earlier attempt may have failed half-way.
                None => inner.end_orphans(&sandbox)?,
            }
            done("end the shim");
            inner.release(&sandbox)?;
            done("note that a sandbox is stopped");
            Ok(())
        })
        .await?;
        self.tell(EngineEvent::SandboxExited {
            sandbox_id: entry.id.clone(),
        });
        Ok(())
    }

    pub(crate) fn sandbox_files(&self, record: &SandboxRecord) -> SandboxFiles {
        let resolv_conf = match record.resolv_conf {
            true => self.folders.sandbox(&record.id).join("resolv.conf"),
            false => PathBuf::from("/etc/resolv.conf"),
        };
        SandboxFiles {
            hostname: self.folders.sandbox(&record.id).join("hostname"),
            resolv_conf: Some(resolv_conf).filter(|path| Path::exists(path)),
            shm: self.folders.shm(&record.id),
        }
    }
}

fn sandbox_spec(
    record: &SandboxRecord,
    sysctls: BTreeMap<String, String>,
    share_process_namespace: bool,
) -> SandboxSpec {
    let host_network = record.host_network();
    SandboxSpec {
        network: !host_network,
        network_path: None,
        ipc: !record.host_ipc,
        // As upstream: the host's network comes with the host's name.
        uts: !host_network,
        uid_mappings: record
            .users
            .map(|users| range(users.uid, users.uids))
            .into_iter()
            .collect(),
        gid_mappings: record
            .users
            .map(|users| range(users.gid, users.gids))
            .into_iter()
            .collect(),
        shared_pid: share_process_namespace,
        hostname: if host_network {
            String::new()
        } else {
            record.hostname.clone()
        },
        sysctls,
        cgroup: if share_process_namespace {
            format!("{}/sandbox-{}", record.cgroup_parent, record.id)
        } else {
            String::new()
        },
    }
}

fn range(host_id: u32, size: u32) -> IdMapping {
    IdMapping {
        container_id: 0,
        host_id,
        size,
    }
}

/// Makes the namespaces and connects the network.
fn attach(
    record: &SandboxRecord,
    spec: SandboxSpec,
    connection: &mut Connection,
    network: &Network,
) -> Result<Option<IpAddr>, Error> {
    let namespace = connection.create_sandbox(spec).map_err(|error| Error::Runtime {
        what: "create the namespaces of the pod",
        why: error.to_string(),
    })?;
    let Network::Pod(network) = network else {
        return Ok(None);
    };
    let failed = |why: String| Error::Network {
        id: record.id.clone(),
        why,
    };
    let namespace = namespace.ok_or_else(|| failed("the shim made no network namespace".into()))?;
    let address = network
        .attach(record.id.as_str(), namespace.as_fd())
        .map_err(|error| failed(error.to_string()))?;
    Ok(Some(address.ip))
}

/// Gives the sandbox's address back.
pub(crate) fn detach(sandbox: &SandboxEntry) -> Result<(), Error> {
    match &sandbox.network {
        Some(network) => network.detach(sandbox.id.as_str()).map_err(|error| Error::Network {
            id: sandbox.id.clone(),
            why: error.to_string(),
        }),
        None => Ok(()),
    }
}

fn warn<E: std::fmt::Display>(id: &SandboxId, what: &str, result: Result<(), E>) {
    if let Err(error) = result {
        tracing::warn!(sandbox = %id, %error, "could not {what} of a sandbox that failed");
    }
}
