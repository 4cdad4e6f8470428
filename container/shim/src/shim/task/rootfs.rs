//! The mounts that containerd hands over for a root file system.
//!
//! An overlay alone is mounted in the container's own mount namespace: whatever happens to the shim, nothing of it is
//! left on the machine. Anything else, and what others have to see (hooks, id maps), is mounted in the bundle.

use alloc::{format, string::String, vec::Vec};
use rustix::fd::AsFd;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::UnmountFlags;
use strata_runtime::spec::{NamespaceKind, Overlay, Rootfs, Spec};
use strata_runtime::{Context, Error, Result};
use strata_sys::mount::{self, FileSystem, attribute};
use strata_sys::{Errno, file};
use strata_ttrpc::task::Mount;

/// Mounts stacked on one another that are taken away.
const STACK_LIMIT: usize = 64;

fn target(bundle: &str) -> String {
    format!("{bundle}/rootfs")
}

/// Makes the root file system ready; `None` when the configuration names one that is there.
pub(super) fn prepare(mounts: &[Mount], bundle: &str, spec: &Spec) -> Result<Option<Rootfs>> {
    if mounts.is_empty() {
        return Ok(None);
    }
    let target = target(bundle);
    match rustix::fs::mkdir(&*target, Mode::from_raw_mode(0o711)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => {
            let what = format!("make {target}");
            return Err(Error::System { what, errno });
        }
    }
    if let [only] = mounts
        && stays_inside(spec)
        && let Some(overlay) = overlay(only, &target)
    {
        return Ok(Some(Rootfs::Overlay(overlay)));
    }
    let mounted = mounts.iter().try_for_each(|mount| attach(mount, &target));
    if let Err(error) = mounted {
        let _ = unmount(bundle);
        return Err(error);
    }
    Ok(Some(Rootfs::Path(target)))
}

/// Whether nobody outside the container's mount namespace needs to see the root.
fn stays_inside(spec: &Spec) -> bool {
    let lists = |kind| {
        let linux = spec.linux.as_ref();
        linux.is_some_and(|linux| linux.namespaces.iter().any(|entry| entry.kind == kind))
    };
    let hooked = spec.hooks.as_ref().is_some_and(|hooks| {
        let lists = [&hooks.prestart, &hooks.create_runtime, &hooks.create_container];
        lists.iter().any(|list| !list.is_empty())
    });
    lists(NamespaceKind::Mount) && !lists(NamespaceKind::User) && !hooked
}

/// An overlay of which everything is understood.
fn overlay(mount: &Mount, target: &str) -> Option<Overlay> {
    if mount.r#type != "overlay" || !mount.target.is_empty() {
        return None;
    }
    let mut overlay = Overlay {
        target: target.into(),
        ..Overlay::default()
    };
    for option in &mount.options {
        match option.split_once('=') {
            // The top first; escaped ones are left to the kernel.
            Some(("lowerdir", list)) if !list.contains('\\') => {
                overlay.lower = list.split(':').rev().map(String::from).collect();
            }
            Some(("upperdir", path)) => overlay.upper = Some(path.into()),
            Some(("workdir", path)) => overlay.work = Some(path.into()),
            // What it is without an upper layer shared between machines.
            Some(("index", "off")) => {}
            None if option == "volatile" => overlay.volatile = true,
            None if option == "rw" || option == "ro" && overlay.upper.is_none() => {}
            _ => return None,
        }
    }
    let relative = |path: &String| !path.starts_with('/');
    let whole = !overlay.lower.is_empty() && overlay.upper.is_some() == overlay.work.is_some();
    (whole && !overlay.lower.iter().any(relative)).then_some(overlay)
}

/// What options mean for a mount itself.
const ATTRIBUTES: [(&str, u64); 18] = [
    ("ro", attribute::READ_ONLY),
    ("nosuid", attribute::NO_SUID),
    ("nodev", attribute::NO_DEVICES),
    ("noexec", attribute::NO_EXEC),
    ("noatime", attribute::NO_ACCESS_TIME),
    ("nodiratime", attribute::NO_DIRECTORY_ACCESS_TIME),
    ("rw", 0),
    ("suid", 0),
    ("dev", 0),
    ("exec", 0),
    ("atime", 0),
    ("relatime", 0),
    ("diratime", 0),
    ("async", 0),
    ("defaults", 0),
    ("bind", 0),
    ("rbind", 0),
    ("", 0),
];

/// Mounts one on the machine.
fn attach(entry: &Mount, root: &str) -> Result<()> {
    let what = || format!("mount {} {:?} at {root}", entry.r#type, entry.source);
    let mut attributes = 0;
    let mut data = Vec::new();
    for option in &entry.options {
        match ATTRIBUTES.iter().find(|row| row.0 == option) {
            Some(row) => attributes |= row.1,
            None => data.push(&**option),
        }
    }
    let has = |name: &str| entry.options.iter().any(|option| option == name);
    let tree = if entry.r#type == "bind" || has("bind") || has("rbind") {
        let tree = mount::clone_tree(CWD, &entry.source, has("rbind")).context(what)?;
        if attributes != 0 {
            mount::set_attributes(&tree, attributes, 0, false).context(what)?;
        }
        tree
    } else {
        let system = FileSystem::open(&entry.r#type).context(what)?;
        if !entry.source.is_empty() {
            system.set("source", &entry.source).context(what)?;
        }
        for option in data {
            set(&system, option).context(|| format!("{}: {option}", what()))?;
        }
        system.mount(attributes).context(what)?
    };
    let root = file::open_directory(root).context(what)?;
    // A later mount may go below an earlier one; its files decide nothing about where.
    let place = file::open_in_root(root.as_fd(), &entry.target, OFlags::PATH | OFlags::DIRECTORY).context(what)?;
    mount::attach(&tree, &place).context(what)
}

/// An option that is not about the mount. Layers go one by one: a value is not longer than 255 bytes.
fn set(system: &FileSystem, option: &str) -> strata_sys::Result<()> {
    match option.split_once('=') {
        None => system.flag(option),
        Some(("lowerdir", list)) if !list.contains('\\') => {
            for layer in list.split(':') {
                match system.set("lowerdir+", layer) {
                    // Before Linux 6.7.
                    Err(Errno::INVAL) => return system.set("lowerdir", list),
                    other => other?,
                }
            }
            Ok(())
        }
        Some((key, value)) => system.set(key, value),
    }
}

/// Takes away what is mounted in the bundle; no error if nothing is.
pub(super) fn unmount(bundle: &str) -> Result<()> {
    let target = target(bundle);
    for _ in 0..STACK_LIMIT {
        match rustix::mount::unmount(&*target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(errno) => {
                let what = format!("unmount {target}");
                return Err(Error::System { what, errno });
            }
        }
    }
    Err(Error::State(format!("{target}: too many mounts")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use std::string::ToString;

    fn mount(options: &[&str]) -> Mount {
        Mount {
            r#type: "overlay".into(),
            source: "overlay".into(),
            options: options.iter().map(|option| option.to_string()).collect(),
            ..Mount::default()
        }
    }

    #[test]
    fn only_an_overlay_that_is_understood_whole_is_the_containers_own() {
        let options = ["index=off", "workdir=/w", "upperdir=/u", "lowerdir=/top:/bottom"];
        let found = overlay(&mount(&options), "/t").unwrap();
        assert_eq!(found.lower, vec!["/bottom", "/top"]);
        assert_eq!(
            (found.upper.as_deref(), found.work.as_deref()),
            (Some("/u"), Some("/w"))
        );
        for strange in ["userxattr", "lowerdir=a", "lowerdir=/a\\:b", "index=on"] {
            let options = ["workdir=/w", "upperdir=/u", "lowerdir=/l", strange];
            assert!(overlay(&mount(&options), "/t").is_none(), "{strange}");
        }
        assert!(overlay(&mount(&["lowerdir=/l", "upperdir=/u"]), "/t").is_none());
    }
}
