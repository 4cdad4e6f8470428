//! The root file system of a container, and what of it is made before the shim has its turn.
//!
//! Usually the shim mounts the overlay in the container's own mount namespace. In a user namespace it could not:
//! the image's files belong to users of the machine. So their mounts are mapped here, and the overlay is mounted on the
//! container's folder, where it stays until the container goes.

use crate::record::{Folders, make};
use crate::spec::text;
use crate::{ContainerId, Error, UserRange};
use std::fs::{self, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use strata_runtime::spec::{Overlay, Rootfs};
use strata_sys::file::open_directory;
use strata_sys::mount::{FileSystem, attach, clone_tree, map_ids};

/// To be passed through by whoever knows the names below, and listed by nobody else.
const PASSAGE: u32 = 0o711;
/// For the root of the container's users alone.
const ROOT_OF_CONTAINER: u32 = 0o710;

/// The parts of a root file system.
pub(crate) struct Layers {
    /// Bottom first.
    pub lower: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
    /// Where it is mounted.
    pub target: PathBuf,
    /// Need not survive a crash of the machine.
    pub volatile: bool,
}

/// What the shim is told to mount.
pub(crate) fn plain(layers: &Layers) -> Result<Rootfs, Error> {
    Ok(Rootfs::Overlay(Overlay {
        lower: layers.lower.iter().map(|layer| text(layer)).collect::<Result<_, _>>()?,
        upper: Some(text(&layers.upper)?),
        work: Some(text(&layers.work)?),
        target: text(&layers.target)?,
        volatile: layers.volatile,
    }))
}

/// Mounts the root file system for the users of a namespace. Blocking.
pub(crate) fn mapped(
    folders: &Folders,
    id: &ContainerId,
    users: UserRange,
    namespace: impl AsFd,
    layers: &Layers,
) -> Result<Rootfs, Error> {
    let folder = folders.container(id);
    for (path, mode) in [
        (folders.root.clone(), PASSAGE),
        (folders.containers(), PASSAGE),
        (folder.clone(), ROOT_OF_CONTAINER),
    ] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(Error::io("change", path))?;
    }
    let own = |path: &Path, uid| {
        std::os::unix::fs::chown(path, uid, Some(users.gid)).map_err(Error::io("change the owner of", path))
    };
    own(&folder, None)?;
    own(&layers.upper, Some(users.uid))?;
    let steps = folder.join("lower");
    let mounted = mount(&steps, namespace, layers);
    // The overlay has what it needs of them.
    let cleared = clear(&steps, layers.lower.len());
    mounted?;
    cleared?;
    Ok(Rootfs::Path(text(&layers.target)?))
}

fn mount(steps: &Path, namespace: impl AsFd, layers: &Layers) -> Result<(), Error> {
    let failed = |what: &'static str| {
        move |errno: rustix::io::Errno| Error::Runtime {
            what,
            why: std::io::Error::from(errno).to_string(),
        }
    };
    let overlay = FileSystem::open("overlay").map_err(failed("make the root file system"))?;
    let set = |key: &str, value: &str| overlay.set(key, value).map_err(failed("make the root file system"));
    set("source", "overlay")?;
    for (index, layer) in layers.lower.iter().enumerate().rev() {
        let step = steps.join(index.to_string());
        make(&step)?;
        let tree = clone_tree(rustix::fs::CWD, &text(layer)?, false).map_err(failed("open a layer"))?;
        map_ids(&tree, namespace.as_fd(), false).map_err(failed("map the ids of a layer"))?;
        let place = open_directory(&*text(&step)?).map_err(failed("open a folder"))?;
        attach(&tree, &place).map_err(failed("mount a layer"))?;
        set("lowerdir+", &text(&step)?)?;
    }
    set("upperdir", &text(&layers.upper)?)?;
    set("workdir", &text(&layers.work)?)?;
    if layers.volatile {
        overlay.flag("volatile").map_err(failed("make the root file system"))?;
    }
    let tree = overlay.mount(0).map_err(failed("mount the root file system"))?;
    let place = open_directory(&*text(&layers.target)?).map_err(failed("open a folder"))?;
    attach(&tree, &place).map_err(failed("mount the root file system"))
}

fn clear(steps: &Path, count: usize) -> Result<(), Error> {
    for index in 0..count {
        take_away(&steps.join(index.to_string()))?;
    }
    crate::record::remove(steps)
}

/// Unmounts what [`mapped`] has mounted; no error if nothing is there. Blocking.
pub(crate) fn unmount(folders: &Folders, id: &ContainerId) -> Result<(), Error> {
    let folder = folders.container(id);
    if let Ok(items) = fs::read_dir(folder.join("lower")) {
        // A making was interrupted.
        for item in items.flatten() {
            take_away(&item.path())?;
        }
    }
    take_away(&folder.join("rootfs"))
}

fn take_away(path: &Path) -> Result<(), Error> {
    match strata_mount::unmount(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("unmount", path)(error)),
        _ => Ok(()),
    }
}
