//! Making a container, step by step.

use crate::cdi;
use crate::engine::Inner;
use crate::entry::ContainerEntry;
use crate::life::expect;
use crate::link::ShimLink;
use crate::record::{ContainerRecord, Life, SandboxRecord, make};
use crate::rootfs::{self, Layers};
use crate::spec::{build, text};
use crate::steps::done;
use crate::{ContainerConfig, ContainerId, ContainerState, Error, LogRotation, PidNamespace, signal};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use strata_runtime::spec::{NamespaceKind, Spec};
use strata_shim::protocol::{ContainerSpec, LogSpec};

impl Inner {
    /// Makes a container up to the moment before its program begins. What a failure leaves is the caller's to undo.
    pub(crate) fn make_container(
        &self,
        id: &ContainerId,
        sandbox: &SandboxRecord,
        link: &ShimLink,
        mut config: ContainerConfig,
    ) -> Result<(), Error> {
        self.without_huge_pages(&mut config.resources);
        let folder = self.folders.container(id);
        let (cgroup, named) = cgroup_of(sandbox, id);
        let users = user_namespace(sandbox, link)?;
        let volumes = self.mount_volumes(id, &config.image_volumes, users.as_ref().map(AsFd::as_fd))?;
        done("mount volumes");
        config.mounts.extend(volumes);
        let spec = self.specification(sandbox, &config, &folder, named)?;
        let record = self.container_record(id, sandbox, &config, cgroup)?;
        let layers = make_folders(&folder, &config)?;
        done("make a container's folders");
        self.images.lease(id.as_str(), &config.image)?;
        done("lease an image");
        let log = self.log(&record.log_path, config.log_rotation)?;
        let rootfs = match (sandbox.users, users) {
            (Some(range), Some(namespace)) => rootfs::mapped(&self.folders, id, range, namespace, &layers)?,
            _ => rootfs::plain(&layers)?,
        };
        done("make a root file system");
        let entry = Arc::new(ContainerEntry::new(record, created()));
        // Known before the shim makes it: events about it must find it.
        self.known.add_container(Arc::clone(&entry));
        self.save(&entry)?;
        done("write a container's record");
        let request = ContainerSpec {
            id: id.to_string(),
            spec,
            rootfs: Some(rootfs),
            bundle: text(&folder)?,
            log,
            stdin: config.stdin,
            stdin_once: config.stdin_once,
            own_pid: config.pid == PidNamespace::Own,
            systemd: sandbox.systemd,
        };
        let pid = link
            .call(|connection| connection.create(request))
            .map_err(|error| link.explain("create container", error))?;
        done("create a container");
        entry.life.send_modify(|life| {
            if life.state == ContainerState::Created {
                life.pid = Some(pid);
            }
        });
        Ok(())
    }

    /// What the runtime is told.
    fn specification(
        &self,
        sandbox: &SandboxRecord,
        config: &ContainerConfig,
        folder: &Path,
        cgroup: String,
    ) -> Result<Spec, Error> {
        let mut spec = build(
            sandbox,
            &self.sandbox_files(sandbox),
            config,
            &folder.join("rootfs"),
            cgroup,
            self.cgroups.is_unified(),
            self.pid_namespace(sandbox, &config.pid)?,
        )?;
        cdi::apply(&config.cdi_devices, &mut spec)?;
        if let Some(finish) = &config.finish {
            finish.apply(&mut spec);
        }
        Ok(spec)
    }

    /// The pid namespace that a container joins, if it is another container's.
    fn pid_namespace(&self, sandbox: &SandboxRecord, pid: &PidNamespace) -> Result<Option<String>, Error> {
        let PidNamespace::Of(id) = pid else {
            return Ok(None);
        };
        let target = self.known.container(id)?;
        if target.record.sandbox_id != sandbox.id {
            return Err(Error::InvalidConfig(format!(
                "container {id} is in another sandbox; its processes cannot be shared"
            )));
        }
        expect(&target, ContainerState::Running)?;
        let pid = target.life.borrow().pid;
        let pid = pid.ok_or_else(|| Error::ContainerNotFound(id.clone()))?;
        Ok(Some(format!("/proc/{pid}/ns/pid")))
    }

    fn container_record(
        &self,
        id: &ContainerId,
        sandbox: &SandboxRecord,
        config: &ContainerConfig,
        cgroup: String,
    ) -> Result<ContainerRecord, Error> {
        let image = &config.image;
        let stop = config.stop_signal.as_deref().filter(|name| !name.is_empty());
        let stop = stop.unwrap_or(&image.config.stop_signal);
        let stop_signal =
            signal::number(stop).ok_or_else(|| Error::InvalidConfig(format!("unknown stop signal {stop:?}")))?;
        Ok(ContainerRecord {
            id: id.clone(),
            sandbox_id: sandbox.id.clone(),
            name: config.name.clone(),
            attempt: config.attempt,
            created_at: SystemTime::now(),
            image: config.image_name.clone(),
            image_id: image
                .repo_digests
                .first()
                .cloned()
                .unwrap_or_else(|| image.id.to_string()),
            stop_signal,
            cgroup,
            log_path: log_path(&sandbox.log_dir, &config.log_path)?,
            tty: config.tty,
            stdin: config.stdin,
            memo: config.memo.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
        })
    }

    /// The log to write, in a folder that is there; none without a path.
    fn log(&self, path: &Path, rotation: Option<LogRotation>) -> Result<Option<LogSpec>, Error> {
        if path.as_os_str().is_empty() {
            return Ok(None);
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io("create directory", parent))?;
        }
        let rotation = rotation.unwrap_or(LogRotation {
            max_bytes: self.log_max_size,
            max_files: self.log_max_files,
        });
        Ok(Some(LogSpec {
            path: path.display().to_string(),
            max_bytes: rotation.max_bytes,
            max_files: rotation.max_files,
        }))
    }
}

/// The user namespace of a sandbox that has one of its own.
fn user_namespace(sandbox: &SandboxRecord, link: &ShimLink) -> Result<Option<OwnedFd>, Error> {
    if sandbox.users.is_none() {
        return Ok(None);
    }
    link.call(|connection| connection.namespace(NamespaceKind::User))
        .map(Some)
        .map_err(|error| link.explain("open the user namespace", error))
}

/// The folders that the root file system is made of.
fn make_folders(folder: &Path, config: &ContainerConfig) -> Result<Layers, Error> {
    let writable = config.writable.as_deref().unwrap_or(folder);
    let target = folder.join("rootfs");
    make(&target)?;
    // An image may have no layers at all; overlayfs wants one.
    let empty = config.image.layers.is_empty().then(|| folder.join("empty"));
    if let Some(empty) = &empty {
        make(empty)?;
    }
    let (upper, work) = (writable.join("upper"), writable.join("work"));
    // The upper layer's root is the container's root directory; one that is kept has its own ideas.
    if !upper.exists() {
        make(&upper)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&upper, mode).map_err(Error::io("change", &upper))?;
    }
    make(&work)?;
    Ok(Layers {
        lower: config.image.layers.iter().chain(&empty).cloned().collect(),
        upper,
        work,
        target,
        volatile: config.writable.is_none(),
    })
}

/// How a container's life begins.
fn created() -> Life {
    Life {
        state: ContainerState::Created,
        pid: None,
        started_at: None,
        finished_at: None,
        exit_code: None,
        signal: None,
        reason: String::new(),
        message: String::new(),
    }
}

/// A container's cgroup: its path in each hierarchy, and as the shim is told it.
fn cgroup_of(sandbox: &SandboxRecord, id: &ContainerId) -> (String, String) {
    let parent = &sandbox.cgroup_parent;
    if sandbox.systemd {
        let slice = parent.rsplit('/').next().unwrap_or(parent);
        return (format!("{parent}/strata-{id}.scope"), format!("{slice}:strata:{id}"));
    }
    let path = format!("{parent}/{id}");
    (path.clone(), path)
}

/// The log's absolute path; it must stay in the sandbox's folder.
fn log_path(folder: &Path, relative: &str) -> Result<PathBuf, Error> {
    if relative.is_empty() {
        return Ok(PathBuf::new());
    }
    let plain = Path::new(relative)
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    if plain {
        Ok(folder.join(relative))
    } else {
        Err(Error::InvalidConfig(format!(
            "log path {relative:?} leads out of the log folder"
        )))
    }
}
