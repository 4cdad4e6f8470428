//! What callers that know containers closely ask for beyond the usual: a last word on the
//! specification, a writable layer that outlives its container, pausing, the network namespace.

use crate::link::blocking;
use crate::{ContainerId, Engine, Error, SandboxId};
use std::ffi::CString;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use strata_runtime::spec::{NamespaceKind, Spec};

/// A last word on a container's specification, said when everything else is in it.
#[derive(Clone)]
pub struct Finish(Arc<dyn Fn(&mut Spec) + Send + Sync>);

impl Finish {
    /// Wraps the change.
    pub fn new(change: impl Fn(&mut Spec) + Send + Sync + 'static) -> Self {
        Self(Arc::new(change))
    }

    pub(crate) fn apply(&self, spec: &mut Spec) {
        (self.0)(spec);
    }
}

impl fmt::Debug for Finish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Finish")
    }
}

impl Engine {
    /// Freezes every process of a container.
    pub async fn pause(&self, id: &ContainerId) -> Result<(), Error> {
        let (_, sandbox) = self.inner.pair(id)?;
        let name = id.to_string();
        let link = sandbox.link()?;
        link.ask("pause container", move |connection| connection.pause(&name))
            .await
    }

    /// Thaws a container.
    pub async fn resume(&self, id: &ContainerId) -> Result<(), Error> {
        let (_, sandbox) = self.inner.pair(id)?;
        let name = id.to_string();
        let link = sandbox.link()?;
        link.ask("resume container", move |connection| connection.resume(&name))
            .await
    }

    /// The network namespace of a running sandbox that has one of its own.
    pub async fn network_namespace(&self, id: &SandboxId) -> Result<OwnedFd, Error> {
        let link = self.inner.known.sandbox(id)?.link()?;
        link.ask("open the network namespace", |connection| {
            connection.namespace(NamespaceKind::Network)
        })
        .await
    }

    /// Where a sandbox's /dev/shm lies on this machine.
    pub fn shm(&self, id: &SandboxId) -> std::path::PathBuf {
        self.inner.folders.shm(id)
    }

    /// Sets how much a sandbox's /dev/shm may hold, in bytes.
    pub async fn resize_shm(&self, id: &SandboxId, bytes: u64) -> Result<(), Error> {
        let path = self.inner.folders.shm(id);
        blocking(move || {
            let options = CString::new(format!("size={bytes}")).expect("digits hold no NUL");
            let flags = rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV;
            rustix::mount::mount_remount(&path, flags, options.as_c_str())
                .map_err(|errno| Error::io("resize", &path)(errno.into()))
        })
        .await
    }
}
