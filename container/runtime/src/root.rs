//! The container's root file system: made, mounted into, and entered.
//!
//! Every path of the configuration is resolved inside the new root by the kernel (openat2), and mounts
//! are moved onto the descriptors found so: a link in an image or a volume cannot lead a mount out.

use crate::cgroup::Cgroup;
use crate::copy_up;
use crate::error::{Context, Error, Result};
use crate::options::{self, Options};
use crate::sources::Source;
use crate::spec::{Linux, Mount, Overlay, Rootfs, Spec};

use alloc::{ffi::CString, format, string::String, vec::Vec};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use strata_sys::mount::{self, FileSystem, Propagation, attribute};
use strata_sys::{Errno, file, file::Missing};

/// A root that is mounted and not yet entered.
pub(crate) struct NewRoot {
    mount: OwnedFd,
    /// Mounts to make read-only once everything stands in them.
    late: Vec<OwnedFd>,
    /// Whether /dev is a file system of the container's own.
    own_devices: bool,
    propagation: Option<(Propagation, bool)>,
}

/// How a new root becomes the root directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entering {
    /// pivot_root(2), which leaves nothing of the old one.
    Pivot,
    /// A move over the old one, where that is a file system that cannot be pivoted away from.
    Move,
    /// chroot(2) alone: the mount namespace is the caller's own.
    Chroot,
}

impl NewRoot {
    /// Mounts the root and everything in it, in a mount namespace of our own unless it is to be entered by chroot(2).
    pub(crate) fn assemble(
        spec: &Spec,
        rootfs: &Rootfs,
        sources: Vec<Source>,
        cgroup: &Cgroup,
        entering: Entering,
    ) -> Result<Self> {
        let linux = spec.linux.as_ref();
        if entering != Entering::Chroot {
            // Nothing that happens from here on shows outside; what happens outside still arrives.
            mount::set_propagation_at("/", Propagation::Slave, true).context(|| "cannot make the mounts slaves")?;
        }
        let new = open_rootfs(rootfs)?;
        mount::set_propagation(&new, Propagation::Private, true).context(|| "cannot make the root private")?;
        let target = rootfs.target();
        let place = file::open_directory(target).context(|| format!("open {target}"))?;
        mount::attach(&new, &place).context(|| format!("mount the root file system at {target}"))?;
        let mut root = NewRoot {
            mount: new,
            late: Vec::new(),
            own_devices: false,
            propagation: linux.and_then(|linux| options::propagation(&linux.rootfs_propagation)),
        };
        for (mount, source) in spec.mounts.iter().zip(sources) {
            root.add(mount, source, cgroup)?;
        }
        Ok(root)
    }

    /// The root directory.
    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }

    /// Whether device nodes are ours to make.
    pub(crate) fn owns_devices(&self) -> bool {
        self.own_devices
    }

    /// Makes it the root directory; `readonly` for the root mount itself.
    pub(crate) fn enter(self, readonly: bool, entering: Entering) -> Result<()> {
        for late in &self.late {
            mount::set_attributes(late, attribute::READ_ONLY, 0, false).context(|| "make a mount read-only")?;
        }
        match entering {
            Entering::Pivot => mount::pivot(&self.mount).context(|| "pivot_root")?,
            Entering::Move => mount::move_over_root(&self.mount).context(|| "move the root")?,
            Entering::Chroot => mount::change_root(&self.mount).context(|| "chroot")?,
        }
        if readonly {
            mount::set_attributes(&self.mount, attribute::READ_ONLY, 0, false).context(|| "make the root read-only")?;
        }
        if let Some((propagation, recursive)) = self.propagation {
            mount::set_propagation_at("/", propagation, recursive).context(|| "set the root's propagation")?;
        }
        Ok(())
    }

    fn add(&mut self, entry: &Mount, source: Source, cgroup: &Cgroup) -> Result<()> {
        let destination = &*entry.destination;
        let failed = |error: Error| match error {
            Error::System { what, errno } => Error::System {
                what: format!("error mounting {:?} to rootfs at {destination:?}: {what}", entry.source),
                errno,
            },
            other => other,
        };
        if !destination.starts_with('/') {
            return Err(Error::Invalid(format!(
                "mount destination {destination:?} is not absolute"
            )));
        }
        let trimmed = destination.trim_end_matches('/');
        match source {
            Source::Bind { path, early, options } => {
                let (tree, directory) = open_bind(&path, early, options.recursive).map_err(failed)?;
                let missing = if directory { Missing::Directory } else { Missing::File };
                self.place(&tree, destination, missing).map_err(failed)?;
                finish_bind(&tree, &options).map_err(failed)?;
            }
            Source::FileSystem(options) if entry.kind == "cgroup" || entry.kind == "cgroup2" => {
                self.add_cgroup(destination, &options, cgroup).map_err(failed)?;
            }
            Source::FileSystem(options) => {
                let mut now = options.set;
                if entry.kind == "tmpfs" {
                    now &= !attribute::READ_ONLY;
                }
                let mounted = open_file_system(entry, &options, now).map_err(failed)?;
                if options.copy_up {
                    if entry.kind != "tmpfs" {
                        return Err(Error::Invalid(format!("{destination:?}: tmpcopyup is for tmpfs")));
                    }
                    copy_up::fill(&mounted, self.directory(), destination).map_err(failed)?;
                }
                if matches!(&*entry.kind, "proc" | "sysfs") {
                    // A link here would put the kernel's files where nobody masks them.
                    let target = file::make_in_root(self.directory(), destination, Missing::Directory)
                        .context(|| "make the mount point")
                        .map_err(failed)?;
                    drop(target);
                    let target = file::open_in_root_without_links(self.directory(), destination, OFlags::PATH)
                        .context(|| "the mount point must be a directory without links")
                        .map_err(failed)?;
                    mount::attach(&mounted, &target)
                        .context(|| "move_mount")
                        .map_err(failed)?;
                } else {
                    self.place(&mounted, destination, Missing::Directory).map_err(failed)?;
                }
                propagate(&mounted, &options).map_err(failed)?;
                if now != options.set {
                    self.late.push(mounted);
                }
                if trimmed == "/dev" {
                    self.own_devices = true;
                }
            }
        }
        Ok(())
    }

    fn place(&self, mounted: &OwnedFd, destination: &str, missing: Missing) -> Result<()> {
        let target = file::make_in_root(self.directory(), destination, missing).context(|| "make the mount point")?;
        check_target(&target, mounted, destination)?;
        mount::attach(mounted, &target).context(|| "move_mount")
    }

    /// v1: a small tmpfs with the container's own directory of each hierarchy; v2: its directory.
    fn add_cgroup(&mut self, destination: &str, options: &Options, cgroup: &Cgroup) -> Result<()> {
        let set = options.set;
        let bind = |path: &str| -> Result<OwnedFd> {
            let tree = mount::clone_tree(CWD, path, false).context(|| format!("open_tree {path}"))?;
            mount::set_attributes(&tree, set, options.clear, false).context(|| "mount_setattr")?;
            mount::set_propagation(&tree, Propagation::Private, false).context(|| "mount_setattr")?;
            Ok(tree)
        };
        if cgroup.layout().is_unified() {
            let hierarchy = &cgroup.layout().hierarchies()[0];
            return self.place(
                &bind(&hierarchy.directory(cgroup.path()))?,
                destination,
                Missing::Directory,
            );
        }
        let tmpfs = FileSystem::open("tmpfs").context(|| "fsopen")?;
        tmpfs.set("source", "cgroup").context(|| "fsconfig")?;
        tmpfs.set("mode", "755").context(|| "fsconfig")?;
        let base = tmpfs.mount(set & !attribute::READ_ONLY).context(|| "fsmount")?;
        self.place(&base, destination, Missing::Directory)?;
        for hierarchy in cgroup.layout().hierarchies() {
            let label = hierarchy.label();
            let tree = bind(&hierarchy.directory(cgroup.path()))?;
            let target = file::make_in_root(base.as_fd(), label, Missing::Directory).context(|| "mkdir")?;
            mount::attach(&tree, &target).context(|| "move_mount")?;
            // Hierarchies with several controllers are also known by each one's name.
            for controller in hierarchy.controllers.iter().filter(|controller| *controller != label) {
                rustix::fs::symlinkat(label, &base, &**controller).context(|| "symlink")?;
            }
        }
        if set & attribute::READ_ONLY != 0 {
            self.late.push(base);
        }
        Ok(())
    }
}

/// What may be covered below /proc: figures that lxcfs and others put their own in place of.
const COVERED_IN_PROC: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Whoever mounts over the kernel's files decides what later writes to them reach. The target tells what it is,
/// whatever links led there.
fn check_target(target: &OwnedFd, mounted: &OwnedFd, destination: &str) -> Result<()> {
    let in_proc = |file: &OwnedFd| -> Result<bool> {
        Ok(rustix::fs::fstatfs(file).context(|| "fstatfs")?.f_type == rustix::fs::PROC_SUPER_MAGIC)
    };
    if !in_proc(target)? || in_proc(mounted)? || COVERED_IN_PROC.contains(&destination.trim_end_matches('/')) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "{destination:?} cannot be mounted because it is inside /proc"
    )))
}

/// A detached mount to bind, and whether it is a directory.
fn open_bind(path: &str, early: Option<OwnedFd>, recursive: bool) -> Result<(OwnedFd, bool)> {
    // Mounts are listed in the order they were made: a copy of the early one takes its place in the order.
    let tree = match early {
        // Before Linux 6.15 what is detached cannot be copied; then the order is all that is lost.
        Some(early) => mount::clone_tree(&early, "", recursive).or(Ok(early)),
        None => mount::clone_tree(CWD, path, recursive),
    };
    let tree = tree.context(|| "open_tree")?;
    let stat = rustix::fs::fstat(&tree).context(|| "fstat")?;
    Ok((tree, FileType::from_raw_mode(stat.st_mode) == FileType::Directory))
}

fn finish_bind(tree: &OwnedFd, options: &Options) -> Result<()> {
    if options.set | options.clear != 0 {
        mount::set_attributes(tree, options.set, options.clear, false).context(|| "mount_setattr")?;
    }
    if options.set_recursive | options.clear_recursive != 0 {
        mount::set_attributes(tree, options.set_recursive, options.clear_recursive, true)
            .context(|| "mount_setattr (recursive)")?;
    }
    if options.propagation.is_none() {
        return mount::set_propagation(tree, Propagation::Private, true).context(|| "set propagation");
    }
    propagate(tree, options)
}

fn propagate(tree: &OwnedFd, options: &Options) -> Result<()> {
    match options.propagation {
        Some((propagation, recursive)) => {
            mount::set_propagation(tree, propagation, recursive).context(|| "set propagation")
        }
        None => Ok(()),
    }
}

fn open_file_system(entry: &Mount, options: &Options, attributes: u64) -> Result<OwnedFd> {
    let system = FileSystem::open(&entry.kind).context(|| format!("fsopen {}", entry.kind))?;
    let source = if entry.source.is_empty() {
        &entry.kind
    } else {
        &entry.source
    };
    system.set("source", source).context(|| "fsconfig source")?;
    for data in &options.data {
        let set = match data.split_once('=') {
            Some((key, value)) => system.set(key, value),
            None => system.flag(data),
        };
        set.context(|| format!("mount option {data}"))?;
    }
    system.mount(attributes).context(|| "fsmount")
}

/// A detached mount of the root file system.
fn open_rootfs(rootfs: &Rootfs) -> Result<OwnedFd> {
    match rootfs {
        Rootfs::Path(path) => {
            mount::clone_tree(CWD, path, true).context(|| format!("open the root file system {path}"))
        }
        Rootfs::Overlay(overlay) => open_overlay(overlay),
    }
}

fn open_overlay(overlay: &Overlay) -> Result<OwnedFd> {
    if overlay.lower.is_empty() {
        return Err(Error::Invalid("an overlay needs a lower layer".into()));
    }
    if overlay.lower.len() == 1 && overlay.upper.is_none() {
        // The kernel refuses an overlay of one layer; a read-only bind is the same.
        let path = &overlay.lower[0];
        let tree = mount::clone_tree(CWD, path, false).context(|| format!("open the layer {path}"))?;
        mount::set_attributes(&tree, attribute::READ_ONLY, 0, false).context(|| "mount_setattr")?;
        return Ok(tree);
    }
    match layer_by_layer(overlay) {
        Err(Error::System {
            errno: Errno::INVAL, ..
        }) => in_one_string(overlay),
        other => other,
    }
}

/// Adds the layers singly (Linux 6.5), which has no limit but the kernel's 500 layers.
fn layer_by_layer(overlay: &Overlay) -> Result<OwnedFd> {
    let system = FileSystem::open("overlay").context(|| "overlay: fsopen")?;
    let set = |key: &str, value: &str| system.set(key, value).context(|| format!("overlay: {key} {value}"));
    set("source", "overlay")?;
    for layer in overlay.lower.iter().rev() {
        set("lowerdir+", layer)?;
    }
    if let Some(upper) = &overlay.upper {
        set("upperdir", upper)?;
        let work = overlay
            .work
            .as_ref()
            .ok_or_else(|| Error::Invalid("an overlay's upper needs a work".into()))?;
        set("workdir", work)?;
        if overlay.volatile {
            system.flag("volatile").context(|| "overlay: volatile")?;
        }
    }
    system.mount(0).context(|| "mount the overlay")
}

/// The old way: all options in one page, so layers are named by descriptors, which are short. About 200 fit.
fn in_one_string(overlay: &Overlay) -> Result<OwnedFd> {
    let mut open = Vec::new();
    let mut name = |path: &String| -> Result<String> {
        let directory = file::open_directory(&**path).context(|| format!("open the layer {path}"))?;
        let name = format!("/proc/self/fd/{}", directory.as_raw_fd());
        open.push(directory);
        Ok(name)
    };
    let lower = overlay.lower.iter().rev().map(&mut name).collect::<Result<Vec<_>>>()?;
    let mut data = format!("lowerdir={}", lower.join(":"));
    if let (Some(upper), Some(work)) = (&overlay.upper, &overlay.work) {
        let volatile = if overlay.volatile { ",volatile" } else { "" };
        data += &format!(",upperdir={},workdir={}{volatile}", name(upper)?, name(work)?);
    }
    let data = CString::new(data).map_err(|_| Error::Invalid("a layer's path holds a NUL byte".into()))?;
    let (target, what) = (&*overlay.target, || "mount the overlay");
    rustix::mount::mount("overlay", target, "overlay", MountFlags::empty(), &*data).context(what)?;
    // Like the others it is moved to its place later, so it has to be detached.
    let tree = mount::clone_tree(CWD, target, false).context(what);
    rustix::mount::unmount(target, UnmountFlags::DETACH).context(what)?;
    tree
}

/// Covers files with /dev/null and directories with an empty read-only one, and makes others read-only. To be
/// called inside the new root; `null` is the host's /dev/null as a detached mount, since the container's own may
/// be anything.
pub(crate) fn protect(linux: &Linux, null: Option<OwnedFd>) -> Result<()> {
    for path in &linux.readonly_paths {
        let Some(target) = open_existing(path)? else { continue };
        let tree = mount::clone_tree(&target, "", true).context(|| format!("make {path} read-only"))?;
        mount::set_attributes(&tree, attribute::READ_ONLY, 0, false).context(|| format!("make {path} read-only"))?;
        mount::attach(&tree, &target).context(|| format!("make {path} read-only"))?;
    }
    let (mut directories, mut files) = (
        Cover::default(),
        Cover {
            first: null,
            used: false,
        },
    );
    for path in &linux.masked_paths {
        let Some(target) = open_existing(path)? else { continue };
        let what = || format!("mask {path}");
        let stat = rustix::fs::fstat(&target).context(what)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            files.put(&target).context(what)?;
            continue;
        }
        if directories.first.is_none() {
            directories.first = Some(empty_directory()?);
        }
        directories.put(&target).context(what)?;
    }
    Ok(())
}

/// A mount that is put over one path, and copies of it over others. Before Linux 6.15 only what is attached can be
/// copied, so the first goes first.
#[derive(Default)]
struct Cover {
    first: Option<OwnedFd>,
    used: bool,
}

impl Cover {
    fn put(&mut self, target: &OwnedFd) -> strata_sys::Result<()> {
        match &self.first {
            Some(first) if self.used => mount::attach(mount::clone_tree(first, "", false)?, target),
            Some(first) => {
                self.used = true;
                mount::attach(first, target)
            }
            None => Ok(()),
        }
    }
}

fn empty_directory() -> Result<OwnedFd> {
    let tmpfs = FileSystem::open("tmpfs").context(|| "fsopen")?;
    tmpfs.set("source", "tmpfs").context(|| "fsconfig")?;
    tmpfs.set("nr_blocks", "1").context(|| "fsconfig")?;
    tmpfs.set("nr_inodes", "1").context(|| "fsconfig")?;
    tmpfs.mount(attribute::READ_ONLY).context(|| "fsmount")
}

fn open_existing(path: &str) -> Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, rustix::fs::Mode::empty()) {
        Ok(target) => {
            let stat = rustix::fs::fstat(&target).context(|| format!("fstat {path}"))?;
            // What would be covered is the link, and what it leads to would stay open.
            if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                return Err(Error::Invalid(format!(
                    "{path} is to be masked or read-only and is a link"
                )));
            }
            Ok(Some(target))
        }
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(None),
        Err(errno) => Err(Error::System {
            what: format!("open {path}"),
            errno,
        }),
    }
}
