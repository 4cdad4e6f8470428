//! Images as volumes: their layers mounted read-only, where a container's mounts find them.
//!
//! `CONTAINER/volumes/N` is the N-th; it stays until the container goes, as does the lease on its image.

use crate::engine::Inner;
use crate::record::{make, remove};
use crate::spec::text;
use crate::steps::done;
use crate::{ContainerId, Error, ImageVolume};
use rustix::fs::OFlags;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use strata_sys::file::{open_directory, open_in_root};
use strata_sys::mount::{FileSystem, attach, attribute, clone_tree, map_ids, set_attributes};

/// As upstream: nothing in an image that is data is run.
const ATTRIBUTES: u64 = attribute::READ_ONLY | attribute::NO_EXEC | attribute::NO_SUID | attribute::NO_DEVICES;

impl Inner {
    /// Mounts a container's image volumes; what to bind where. `users` maps their owners. Blocking.
    pub(crate) fn mount_volumes(
        &self,
        id: &ContainerId,
        volumes: &[ImageVolume],
        users: Option<BorrowedFd<'_>>,
    ) -> Result<Vec<crate::Mount>, Error> {
        let mut mounts = Vec::new();
        for (index, volume) in volumes.iter().enumerate() {
            let place = self.volumes(id).join(index.to_string());
            // The folder first: without it nobody would know of the lease.
            make(&place)?;
            done("make a volume's folder");
            self.images.lease(&lease(id, index), &volume.image)?;
            done("lease a volume's image");
            mount(volume, &place, users)?;
            mounts.push(crate::Mount {
                host_path: place,
                container_path: volume.container_path.clone(),
                read_only: true,
                ..crate::Mount::default()
            });
        }
        Ok(mounts)
    }

    /// Takes them away again, with their leases; no error if there are none. Blocking.
    pub(crate) fn unmount_volumes(&self, id: &ContainerId) -> Result<(), Error> {
        let folder = self.volumes(id);
        let items = match fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(Error::io("read directory", &folder))?,
        };
        strata_mount::unmount_below(&folder).map_err(Error::io("unmount below", &folder))?;
        for index in 0..items.count() {
            self.images.release(&lease(id, index))?;
        }
        remove(&folder)
    }

    fn volumes(&self, id: &ContainerId) -> PathBuf {
        self.folders.container(id).join("volumes")
    }
}

fn lease(id: &ContainerId, index: usize) -> String {
    format!("{id}-volume-{index}")
}

fn failed(what: &'static str) -> impl Fn(rustix::io::Errno) -> Error {
    move |errno| Error::Runtime {
        what,
        why: std::io::Error::from(errno).to_string(),
    }
}

fn mount(volume: &ImageVolume, place: &Path, users: Option<BorrowedFd<'_>>) -> Result<(), Error> {
    let what = "mount an image volume";
    let tree = match volume.image.layers.as_slice() {
        [] => {
            return Err(Error::InvalidConfig(
                "an image volume needs an image with layers".into(),
            ));
        }
        // An overlay of one is refused, and the same as the layer itself.
        [layer] => layer_tree(layer, users)?,
        layers => {
            let steps = place.with_extension("lower");
            let overlay = overlay(layers, &steps, users);
            strata_mount::unmount_below(&steps).map_err(Error::io("unmount below", &steps))?;
            let overlay = overlay?;
            remove(&steps)?;
            overlay
        }
    };
    set_attributes(&tree, ATTRIBUTES, 0, false).map_err(failed(what))?;
    let target = open_directory(&*text(place)?).map_err(failed(what))?;
    attach(&tree, &target).map_err(failed(what))?;
    if volume.sub_path.is_empty() {
        return Ok(());
    }
    // Resolved by the kernel inside the volume, whatever links the image brings.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let found = open_in_root(tree.as_fd(), &volume.sub_path, flags).map_err(|errno| {
        let why = std::io::Error::from(errno);
        Error::InvalidConfig(format!("image volume: path {:?} in the image: {why}", volume.sub_path))
    })?;
    let part = clone_tree(&found, "", false).map_err(failed(what))?;
    let target = open_directory(&*text(place)?).map_err(failed(what))?;
    attach(&part, &target).map_err(failed(what))
}

fn layer_tree(layer: &Path, users: Option<BorrowedFd<'_>>) -> Result<OwnedFd, Error> {
    let tree = clone_tree(rustix::fs::CWD, &text(layer)?, false).map_err(failed("open a layer"))?;
    if let Some(users) = users {
        map_ids(&tree, users, false).map_err(failed("map the ids of a layer"))?;
    }
    Ok(tree)
}

fn overlay(layers: &[PathBuf], steps: &Path, users: Option<BorrowedFd<'_>>) -> Result<OwnedFd, Error> {
    let what = "make an image volume";
    make(steps)?;
    let overlay = FileSystem::open("overlay").map_err(failed(what))?;
    overlay.set("source", "overlay").map_err(failed(what))?;
    for (index, layer) in layers.iter().enumerate().rev() {
        let step = steps.join(index.to_string());
        make(&step)?;
        let target = open_directory(&*text(&step)?).map_err(failed(what))?;
        attach(layer_tree(layer, users)?, &target).map_err(failed(what))?;
        overlay.set("lowerdir+", &text(&step)?).map_err(failed(what))?;
    }
    overlay.mount(0).map_err(failed(what))
}
