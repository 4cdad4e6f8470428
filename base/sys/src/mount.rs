//! The mount API of Linux 5.2 and later: mounts are made detached and then moved to a descriptor,
//! so that no path is looked up twice.

use crate::{Errno, Result, arch::syscall};
use alloc::ffi::CString;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};

/// Attributes of a mount: `MOUNT_ATTR_…`.
pub mod attribute {
    /// Read-only.
    pub const READ_ONLY: u64 = 0x1;
    /// Set-user-id bits and file capabilities are ignored.
    pub const NO_SUID: u64 = 0x2;
    /// Device nodes cannot be opened.
    pub const NO_DEVICES: u64 = 0x4;
    /// Programs cannot be run.
    pub const NO_EXEC: u64 = 0x8;
    /// The bits that choose how access times are kept.
    pub const ACCESS_TIME: u64 = 0x70;
    /// Access times are kept when older than modification times.
    pub const RELATIVE_ACCESS_TIME: u64 = 0x0;
    /// Access times are not kept.
    pub const NO_ACCESS_TIME: u64 = 0x10;
    /// Access times are always kept.
    pub const STRICT_ACCESS_TIME: u64 = 0x20;
    /// Access times of directories are not kept.
    pub const NO_DIRECTORY_ACCESS_TIME: u64 = 0x80;
    /// User ids are mapped.
    pub const ID_MAPPED: u64 = 0x10_0000;
    /// Symbolic links are not followed.
    pub const NO_SYMLINKS: u64 = 0x20_0000;
}

/// How mounts below a mount appear elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// In both directions.
    Shared,
    /// From the other side only.
    Slave,
    /// Not at all.
    Private,
    /// Not at all, and cannot be bound elsewhere.
    Unbindable,
}

impl Propagation {
    fn bits(self) -> u64 {
        match self {
            Propagation::Shared => libc::MS_SHARED,
            Propagation::Slave => libc::MS_SLAVE,
            Propagation::Private => libc::MS_PRIVATE,
            Propagation::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// A new file system instance that is being configured.
#[derive(Debug)]
pub struct FileSystem {
    context: OwnedFd,
}

impl FileSystem {
    /// Begins an instance of the type `kind`.
    pub fn open(kind: &str) -> Result<Self> {
        Ok(FileSystem {
            context: fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?,
        })
    }

    /// Sets `key=value`.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        fsconfig_set_string(&self.context, key, value)
    }

    /// Sets the flag `key`.
    pub fn flag(&self, key: &str) -> Result<()> {
        fsconfig_set_flag(&self.context, key)
    }

    /// Makes the instance and a detached mount of it with these attributes.
    pub fn mount(&self, attributes: u64) -> Result<OwnedFd> {
        fsconfig_create(&self.context)?;
        let flags = MountAttrFlags::from_bits_retain(attributes as u32);
        fsmount(&self.context, FsMountFlags::FSMOUNT_CLOEXEC, flags)
    }
}

/// A detached copy of the mount at `path`, relative to `directory`; `recursive` with those below it.
pub fn clone_tree(directory: impl AsFd, path: &str, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if path.is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(directory, path, flags)
}

/// Puts a detached mount onto the file or directory behind `target`.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags)
}

/// Changes attributes of a mount: those in `clear` are taken away, then those in `set` added.
pub fn set_attributes(mount: impl AsFd, set: u64, clear: u64, recursive: bool) -> Result<()> {
    change(
        mount.as_fd(),
        c"",
        MountAttributes {
            set,
            clear,
            propagation: 0,
            user_namespace: 0,
        },
        recursive,
    )
}

/// Changes the propagation of a mount.
pub fn set_propagation(mount: impl AsFd, propagation: Propagation, recursive: bool) -> Result<()> {
    let attributes = MountAttributes {
        set: 0,
        clear: 0,
        propagation: propagation.bits(),
        user_namespace: 0,
    };
    change(mount.as_fd(), c"", attributes, recursive)
}

/// Changes the propagation of the mount at `path`.
pub fn set_propagation_at(path: &str, propagation: Propagation, recursive: bool) -> Result<()> {
    let path = CString::new(path).map_err(|_| Errno::INVAL)?;
    let attributes = MountAttributes {
        set: 0,
        clear: 0,
        propagation: propagation.bits(),
        user_namespace: 0,
    };
    change(CWD, &path, attributes, recursive)
}

/// Maps the ids of a detached mount as the user namespace does.
pub fn map_ids(mount: impl AsFd, user_namespace: impl AsFd, recursive: bool) -> Result<()> {
    let attributes = MountAttributes {
        set: attribute::ID_MAPPED,
        clear: 0,
        propagation: 0,
        user_namespace: user_namespace.as_fd().as_raw_fd() as u64,
    };
    change(mount.as_fd(), c"", attributes, recursive)
}

fn change(mount: BorrowedFd<'_>, path: &core::ffi::CStr, attributes: MountAttributes, recursive: bool) -> Result<()> {
    let mut flags = if path.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: mount_setattr(2) reads `path` and `attributes`, which outlive the call.
    unsafe {
        syscall(
            libc::SYS_mount_setattr,
            [
                mount.as_raw_fd() as usize,
                path.as_ptr() as usize,
                flags as usize,
                &raw const attributes as usize,
                size_of::<MountAttributes>(),
                0,
            ],
        )?;
    }
    Ok(())
}

/// Makes `root`, a mount point, the root directory and drops the old one.
pub fn pivot(root: impl AsFd) -> Result<()> {
    // pivot_root(2): the old root is stacked on top of the new one and then unmounted, so no
    // directory for it is needed inside.
    let old = crate::file::open_directory("/")?;
    rustix::process::fchdir(&root)?;
    rustix::process::pivot_root(".", ".")?;
    rustix::process::fchdir(&old)?;
    // What is unmounted here must not vanish outside.
    set_propagation_at(".", Propagation::Slave, true)?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")
}

/// Moves `root`, a mount point, over the root directory and makes it the root directory. The old one stays below
/// it: for where it cannot be pivoted away from, as an initramfs.
pub fn move_over_root(root: impl AsFd) -> Result<()> {
    rustix::process::fchdir(&root)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&root, "", CWD, "/", flags)?;
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")
}

/// Makes `root` the root directory, and the mounts stay as they are.
pub fn change_root(root: impl AsFd) -> Result<()> {
    rustix::process::fchdir(&root)?;
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")
}
