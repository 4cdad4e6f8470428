//! A sandbox's own user namespace, and the namespaces that belong to it.
//!
//! The shim stays in the machine's user namespace: a process in between makes the others, and the shim joins them.

use crate::protocol::SandboxSpec;
use alloc::format;
use rustix::fd::OwnedFd;
use rustix::pipe::{PipeFlags, pipe_with};
use strata_runtime::spec::NamespaceKind;
use strata_runtime::{Context, Error, Result, id_map, namespace_flag};
use strata_sys::process::{self, Child, Fork, ForkOptions};
use strata_sys::{Errno, file, namespace};

/// Makes the user namespace and, inside it, those of `new`, which the caller is in afterwards.
pub(super) fn make(spec: &SandboxSpec, new: u64) -> Result<OwnedFd> {
    let what = || "make the pod's user namespace";
    let (hear_go, say_go) = pipe_with(PipeFlags::CLOEXEC).context(what)?;
    let (hear_made, say_made) = pipe_with(PipeFlags::CLOEXEC).context(what)?;
    let options = ForkOptions {
        flags: namespace_flag(NamespaceKind::User),
        cgroup: None,
    };
    // SAFETY: the shim has one thread.
    let child = match unsafe { process::fork(options) }.context(what)? {
        Fork::Parent(child) => child,
        Fork::Child => {
            drop(say_go);
            let made = await_byte(&hear_go)
                .and_then(|_| process::set_identity(0, 0, &[]))
                .and_then(|()| namespace::unshare(new));
            let code = made.err().map_or(0, |errno| errno.raw_os_error() as u8);
            let _ = rustix::io::write(&say_made, &[code]);
            // Until the other side has opened them.
            let _ = await_byte(&hear_go);
            process::exit(0)
        }
    };
    drop((hear_go, say_made));
    let joined = (|| {
        for (name, map) in [("uid_map", &spec.uid_mappings), ("gid_map", &spec.gid_mappings)] {
            file::write(&*format!("/proc/{}/{name}", child.pid), id_map(map).as_bytes())
                .context(|| format!("write {name}"))?;
        }
        rustix::io::write(&say_go, b"0").context(what)?;
        match await_byte(&hear_made).context(what)? {
            0 => {}
            code => {
                return Err(Error::System {
                    what: "make the pod's namespaces".into(),
                    errno: Errno::from_raw_os_error(i32::from(code)),
                });
            }
        }
        let open = |name: &str| {
            let path = format!("/proc/{}/ns/{name}", child.pid);
            namespace::open(&path).context(|| format!("open {path}"))
        };
        for (kind, name) in [
            (NamespaceKind::Network, "net"),
            (NamespaceKind::Ipc, "ipc"),
            (NamespaceKind::Uts, "uts"),
        ] {
            if new & namespace_flag(kind) != 0 {
                namespace::join(open(name)?, namespace_flag(kind)).context(|| format!("join the {name} namespace"))?;
            }
        }
        open("user")
    })();
    drop(say_go);
    process::reap(child.pid).context(what)?;
    joined
}

/// Runs `f` in the child of a process that has joined the user namespace: what it makes belongs to that.
/// The child is the caller's own.
pub(super) fn fork_inside(users: &OwnedFd, flags: u64, f: impl FnOnce()) -> Result<Child> {
    let what = || "make a process in the pod's user namespace";
    let (hear, say) = pipe_with(PipeFlags::CLOEXEC).context(what)?;
    // SAFETY: the shim has one thread.
    let between = match unsafe { process::fork(ForkOptions::default()) }.context(what)? {
        Fork::Parent(between) => between,
        Fork::Child => {
            let options = ForkOptions {
                flags: flags | libc::CLONE_PARENT as u64,
                cgroup: None,
            };
            let forked = namespace::join(users, namespace_flag(NamespaceKind::User))
                // SAFETY: as above.
                .and_then(|()| unsafe { process::fork(options) });
            match forked {
                Ok(Fork::Child) => {
                    drop(say);
                    f();
                }
                Ok(Fork::Parent(child)) => {
                    let _ = rustix::io::write(&say, &child.pid.to_ne_bytes());
                }
                Err(_) => {}
            }
            process::exit(0)
        }
    };
    drop(say);
    let mut pid = [0; 4];
    let heard = rustix::io::read(&hear, &mut pid);
    process::reap(between.pid).context(what)?;
    if heard != Ok(pid.len()) {
        return Err(Error::State(
            "no process could be made in the pod's user namespace".into(),
        ));
    }
    let pid = i32::from_ne_bytes(pid);
    // It is a child of ours, so its number is not given to another before it is reaped here.
    let pidfd = process::open(pid).context(what)?;
    Ok(Child { pid, pidfd })
}

fn await_byte(descriptor: &OwnedFd) -> core::result::Result<u8, Errno> {
    let mut byte = [0];
    loop {
        match rustix::io::read(descriptor, &mut byte) {
            Ok(0) => return Err(Errno::PIPE),
            Ok(_) => return Ok(byte[0]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
