//! Who decides about calls with SCMP_ACT_NOTIFY: a program that listens at a socket and gets the filter's descriptor.

use crate::error::{Context, Error, Result};
use crate::spec::Seccomp;
use alloc::{format, string::String};
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use strata_sys::message;

/// Where the listener of a filter goes.
#[derive(Clone, Debug)]
pub(super) struct Address {
    path: String,
    metadata: String,
}

/// A connection to who will decide.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: OwnedFd,
    metadata: String,
}

impl Address {
    /// Errors: a profile that notifies without saying whom.
    pub(super) fn of(profile: &Seccomp, notifies: bool) -> Result<Option<Self>> {
        if !notifies {
            return Ok(None);
        }
        if profile.listener_path.is_empty() {
            return Err(Error::Invalid(
                "SCMP_ACT_NOTIFY needs linux.seccomp.listenerPath".into(),
            ));
        }
        let (path, metadata) = (profile.listener_path.clone(), profile.listener_metadata.clone());
        Ok(Some(Address { path, metadata }))
    }

    /// To be called where the host's files are seen.
    pub(super) fn connect(&self) -> Result<Listener> {
        let what = || format!("connect to the seccomp listener {}", self.path);
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .context(what)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(&*self.path).context(what)?).context(what)?;
        Ok(Listener {
            socket,
            metadata: self.metadata.clone(),
        })
    }
}

impl Listener {
    /// "Container process state" of the specification, for the process `pid` of the container in `state`.
    pub(crate) fn message(&self, version: &str, pid: i32, state: &str) -> String {
        let quote = |text: &str| serde_json::Value::from(text);
        format!(
            "{{\"ociVersion\":{},\"fds\":[\"seccompFd\"],\"pid\":{pid},\"metadata\":{},\"state\":{state}}}",
            quote(version),
            quote(&self.metadata)
        )
    }

    /// Sends the filter's descriptor. The filter holds for this call too: it allocates nothing and calls
    /// sendmsg(2) alone.
    pub(crate) fn send(&self, message: &str, filter: &OwnedFd) -> strata_sys::Result<()> {
        message::send(&self.socket, message.as_bytes(), &[filter.as_fd()])
    }
}
