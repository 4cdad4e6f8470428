//! What a caller without privileges does otherwise.

use crate::error::{Context, Error, Result};
use alloc::{ffi::CString, format, vec::Vec};
use strata_sys::process::{self, Fork, ForkOptions};
use strata_sys::{Errno, file};

/// Maps ids of the user namespace of `pid`: one id, the own one, by itself, and more with the program of shadow that
/// may use those of /etc/subuid or /etc/subgid.
pub(crate) fn map(pid: i32, program: &str, name: &str, map: &str) -> Result<()> {
    let what = || format!("write {name}");
    let fields: Vec<&str> = map.split_ascii_whitespace().collect();
    if let [_, _, "1"] = fields[..] {
        if name == "gid_map" {
            // user_namespaces(7): without privileges only who has given up setgroups(2) may map a group.
            file::write(&*format!("/proc/{pid}/setgroups"), b"deny").context(what)?;
        }
        return file::write(&*format!("/proc/{pid}/{name}"), map.as_bytes()).context(what);
    }
    let string = |text: &str| CString::new(text).map_err(|_| Error::Invalid(what()));
    let mut arguments = alloc::vec![string(program)?, string(&format!("{pid}"))?];
    for field in fields {
        arguments.push(string(field)?);
    }
    // SAFETY: runtime processes have one thread.
    let child = match unsafe { process::fork(ForkOptions::default()) }.context(what)? {
        Fork::Parent(child) => child,
        Fork::Child => {
            for directory in ["/usr/bin", "/bin"] {
                if let Ok(path) = CString::new(format!("{directory}/{program}")) {
                    process::execute(&path, &arguments, &[]);
                }
            }
            process::exit(127)
        }
    };
    match process::reap(child.pid).context(what)?.code() {
        0 => Ok(()),
        127 => Err(Error::Invalid(format!(
            "{program} is needed to map more than the own id without privileges"
        ))),
        code => Err(Error::State(format!("{program}: exit status {code}"))),
    }
}

/// Becomes a user with these groups; without any where a user namespace has none to give.
pub(crate) fn set_identity(uid: u32, gid: u32, groups: &[u32]) -> strata_sys::Result<()> {
    match process::set_identity(uid, gid, groups) {
        Err(Errno::PERM) if groups.is_empty() && denied() => process::set_user(uid, gid),
        other => other,
    }
}

fn denied() -> bool {
    file::read("/proc/self/setgroups", 64).is_ok_and(|text| text.trim_ascii() == b"deny")
}
