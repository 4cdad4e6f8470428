//! Putting layers on top of each other.
//!
//! A layer's files are kept by diff id, apart from what lies below, so that layers unpack in
//! parallel and are shared. Builders that write less than whole overlay layers need more:
//! a folder without an entry of its own keeps the owner and mode it has below (and stays a
//! link if it is one there), and a hard link may lead to a file of a lower layer. What is
//! missing goes into one more small layer on top of such a layer, made of folders and
//! hard links, that only this chain of layers uses.

use crate::disk::{Draft, make_folder};
use crate::folder::open_root;
use crate::view::{Found, View, fd_path, opaque_mark};
use crate::{Digest, ImageError, ImageStore};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, linkat,
    mkdirat, mknodat, openat, setxattr, statat, symlinkat, utimensat,
};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Mode of a folder nobody said anything about.
const USUAL: (u32, u32, u32) = (0o755, 0, 0);
/// Depth of folders that are moved to the place a link leads to.
const MAX_DEPTH: usize = 256;

impl ImageStore {
    /// The folders that make up a root of these layers, bottom first. Blocking.
    pub(crate) fn compose(&self, keys: Vec<String>) -> Result<Vec<String>, ImageError> {
        let folder = &self.inner.folder;
        let mut stack: Vec<String> = Vec::with_capacity(keys.len());
        let mut chain = String::from("strata composition 1\n");
        for key in keys {
            chain.push_str(&key);
            chain.push('\n');
            let record = folder
                .layer_record(&key)?
                .ok_or_else(|| ImageError::Absent(format!("layer {key}")))?;
            let below: Vec<PathBuf> = stack.iter().map(|key| folder.layer_files(key)).collect();
            let implied: BTreeSet<Vec<u8>> = record.implied.iter().map(|name| name.as_bytes().to_vec()).collect();
            let links: Vec<(&[u8], &[u8])> = record
                .foreign_links
                .iter()
                .map(|(name, target)| (name.as_bytes(), target.as_bytes()))
                .collect();
            let own = folder.layer_files(&key);
            stack.push(key.clone());
            if below.is_empty() && links.is_empty() {
                continue;
            }
            let broken = |why: String| ImageError::BrokenLayer {
                layer: key.clone(),
                why,
            };
            let system = |errno: Errno| broken(format!("putting it on the layers below: {errno}"));
            let plan = plan(&View::open(&below).map_err(system)?, &implied, &links).map_err(|error| match error {
                PlanError::Missing(name) => broken(format!(
                    "hard link to \"{name}\", which is in neither this nor a lower layer"
                )),
                PlanError::System(errno) => system(errno),
            })?;
            if plan.is_empty() {
                continue;
            }
            let patch = Digest::of(chain.as_bytes()).hex();
            if !self.inner.has_layer(&patch)? {
                self.add_patch(&patch, &plan, &below, &own).map_err(system)??;
            }
            stack.push(patch);
        }
        Ok(stack)
    }

    fn add_patch(
        &self,
        key: &str,
        plan: &Plan,
        below: &[PathBuf],
        own: &Path,
    ) -> Result<Result<(), ImageError>, Errno> {
        let folder = &self.inner.folder;
        let draft = match Draft::new(&folder.drafts()) {
            Ok(draft) => draft,
            Err(error) => return Ok(Err(error)),
        };
        let files = draft.path().join("fs");
        if let Err(error) = make_folder(&files, 0o755) {
            return Ok(Err(error));
        }
        let mut all = below.to_vec();
        all.push(own.to_owned());
        let patch = Patch {
            root: open_root(&files)?,
            below: View::open(below)?,
            merged: View::open(&all)?,
        };
        patch.fill(plan, &open_root(own)?)?;
        let record = self.inner.fresh_record();
        Ok(folder
            .write_layer_record(draft.path(), &record)
            .and_then(|()| draft.keep_as(&folder.layers().join(key)))
            .map(drop))
    }
}

/// What a layer lacks on top of those below.
#[derive(Default)]
struct Plan {
    /// Folders that take their attributes from below.
    folders: Vec<Vec<u8>>,
    /// Files of lower layers under another name.
    links: Vec<(Vec<u8>, Vec<u8>)>,
    /// Folders of the layer that are links below: (name, where it leads).
    redirects: Vec<(Vec<u8>, Vec<u8>)>,
}

enum PlanError {
    Missing(String),
    System(Errno),
}

impl From<Errno> for PlanError {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl Plan {
    fn is_empty(&self) -> bool {
        self.folders.is_empty() && self.links.is_empty() && self.redirects.is_empty()
    }
}

fn plan(below: &View, implied: &BTreeSet<Vec<u8>>, links: &[(&[u8], &[u8])]) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    for path in implied {
        // Inside a folder that is moved as a whole.
        if plan
            .redirects
            .iter()
            .any(|(moved, _)| path.starts_with(moved) && path.get(moved.len()) == Some(&b'/'))
        {
            continue;
        }
        match below.lookup(path)? {
            Some(found) if found.kind() == FileType::Directory && attributes(&found.stat) != USUAL => {
                plan.folders.push(path.clone());
            }
            Some(found) if found.kind() == FileType::Symlink => {
                if let Some(target) = below.resolve_folder(path)? {
                    plan.redirects.push((path.clone(), target));
                }
            }
            _ => {}
        }
    }
    for (name, target) in links {
        let found = below.lookup(target)?;
        if found.as_ref().map(Found::kind) != Some(FileType::RegularFile) {
            return Err(PlanError::Missing(String::from_utf8_lossy(target).into_owned()));
        }
        plan.links.push((name.to_vec(), target.to_vec()));
    }
    Ok(plan)
}

fn attributes(stat: &Stat) -> (u32, u32, u32) {
    (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid)
}

/// The small layer while it is made.
struct Patch {
    root: OwnedFd,
    below: View,
    /// The layers below and the one this is for.
    merged: View,
}

impl Patch {
    fn fill(&self, plan: &Plan, own: &OwnedFd) -> Result<(), Errno> {
        for path in &plan.folders {
            self.folder(path)?;
            if let Some(found) = self.below.lookup(path)? {
                self.adopt(path, &found.stat)?;
            }
        }
        for (name, target) in &plan.links {
            if let Some(found) = self.below.lookup(target)? {
                self.folder(parent(name))?;
                link(&found.fd, &self.root, name)?;
            }
        }
        for (name, target) in &plan.redirects {
            self.folder(parent(name))?;
            if let Some(found) = self.below.lookup(name)? {
                let text = rustix::fs::readlinkat(&found.fd, "", Vec::new())?;
                symlinkat(text, &self.root, name.as_slice())?;
                owner(&self.root, name, &found.stat)?;
            }
            self.folder(target)?;
            self.copy_folder(own, name, target, 0)?;
        }
        Ok(())
    }

    /// Makes a folder of the patch, with those above it, as they are in the merged view.
    fn folder(&self, path: &[u8]) -> Result<(), Errno> {
        if path.is_empty() {
            if let Some(found) = self.merged.lookup(path)? {
                self.adopt(path, &found.stat)?;
            }
            return Ok(());
        }
        self.folder(parent(path))?;
        match mkdirat(&self.root, path, Mode::from_raw_mode(0o755)) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(()),
            Err(errno) => return Err(errno),
        }
        match self.merged.lookup(path)? {
            Some(found) if found.kind() == FileType::Directory => self.adopt(path, &found.stat),
            _ => Ok(()),
        }
    }

    fn adopt(&self, path: &[u8], stat: &Stat) -> Result<(), Errno> {
        let path: &[u8] = if path.is_empty() { b"." } else { path };
        owner(&self.root, path, stat)?;
        chmodat(
            &self.root,
            path,
            Mode::from_raw_mode(stat.st_mode & 0o7777),
            AtFlags::empty(),
        )
    }

    /// Puts a folder's content at another place: folders anew, everything else linked.
    fn copy_folder(&self, own: &OwnedFd, from: &[u8], to: &[u8], depth: usize) -> Result<(), Errno> {
        if depth > MAX_DEPTH {
            return Err(Errno::NAMETOOLONG);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = openat(own, from, flags, Mode::empty())?;
        if opaque_mark(&source) {
            self.mark_opaque(to)?;
        }
        for item in rustix::fs::Dir::read_from(&source)? {
            let item = item?;
            let name = item.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let (inner_from, inner_to) = (join(from, name), join(to, name));
            let stat = statat(&source, name, AtFlags::SYMLINK_NOFOLLOW)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    match mkdirat(&self.root, inner_to.as_slice(), Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(errno) => return Err(errno),
                    }
                    self.adopt(&inner_to, &stat)?;
                    self.copy_folder(own, &inner_from, &inner_to, depth + 1)?;
                }
                FileType::CharacterDevice => {
                    mknodat(
                        &self.root,
                        inner_to.as_slice(),
                        FileType::CharacterDevice,
                        Mode::empty(),
                        Default::default(),
                    )?;
                }
                _ => linkat(&source, name, &self.root, inner_to.as_slice(), AtFlags::empty())?,
            }
        }
        Ok(())
    }

    fn mark_opaque(&self, path: &[u8]) -> Result<(), Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&self.root, path, flags, Mode::empty())?;
        setxattr(fd_path(&fd), "trusted.overlay.opaque", b"y", XattrFlags::empty())
    }
}

fn parent(path: &[u8]) -> &[u8] {
    &path[..path.iter().rposition(|b| *b == b'/').unwrap_or(0)]
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() {
        name.to_vec()
    } else {
        [folder, name].join(&b'/')
    }
}

/// A hard link to what a descriptor stands for.
fn link(file: &OwnedFd, root: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    linkat(CWD, fd_path(file), root, name, AtFlags::SYMLINK_FOLLOW)
}

fn owner(root: &OwnedFd, name: &[u8], stat: &Stat) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(root, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    let moment = Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: moment,
        last_modification: moment,
    };
    utimensat(root, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}
