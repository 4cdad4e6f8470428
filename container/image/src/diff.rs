//! What a container changed: its upper directory compared with the layers below.

use crate::pack::join;
use crate::view::{View, opaque_mark};
use crate::{ImageError, ImageStore};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Folders inside each other, and changes in all.
const MAX_DEPTH: usize = 1000;
const MAX_CHANGES: usize = 10_000_000;

/// A path that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Absolute, as seen in the container; not always a text.
    pub path: Vec<u8>,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It is another one, or has other attributes.
    Modified,
    /// It was not there.
    Added,
    /// It is gone.
    Deleted,
}

impl ChangeKind {
    /// The letter that lists show.
    pub fn letter(self) -> char {
        match self {
            Self::Modified => 'C',
            Self::Added => 'A',
            Self::Deleted => 'D',
        }
    }
}

impl ImageStore {
    /// What `upper` changes on top of `layers` (bottom first), sorted by path. Blocking.
    pub fn diff(&self, layers: &[PathBuf], upper: &Path) -> Result<Vec<Change>, ImageError> {
        diff(layers, upper)
    }
}

/// What `upper` changes on top of `layers` (bottom first), sorted by path. Blocking.
pub fn diff(layers: &[PathBuf], upper: &Path) -> Result<Vec<Change>, ImageError> {
    let failed = |errno: Errno| ImageError::io("compare", upper)(errno.into());
    let walk = || {
        let mut walker = Walker {
            below: View::open(layers)?,
            changes: Vec::new(),
        };
        let root = crate::folder::open_root(upper)?;
        walker.folder(root, Vec::new(), 0)?;
        Ok(walker.changes)
    };
    let mut changes = walk().map_err(failed)?;
    changes.sort_unstable();
    Ok(changes)
}

struct Walker {
    below: View,
    changes: Vec<Change>,
}

impl Walker {
    /// Adds the changes below a folder of the upper directory; whether there were any.
    fn folder(&mut self, fd: OwnedFd, path: Vec<u8>, depth: usize) -> Result<bool, Errno> {
        if depth > MAX_DEPTH {
            return Err(Errno::NAMETOOLONG);
        }
        let before = self.changes.len();
        let mut names = Vec::new();
        for item in Dir::read_from(&fd)? {
            let name = item?.file_name().to_bytes().to_vec();
            if !matches!(name.as_slice(), b"." | b"..") {
                names.push(name);
            }
        }
        if !path.is_empty() && opaque_mark(&fd) {
            for name in self.below.names(&path)? {
                if !names.contains(&name) {
                    self.add(join(&path, &name), ChangeKind::Deleted)?;
                }
            }
        }
        for name in names {
            self.entry(&fd, &path, &name, depth)?;
        }
        Ok(self.changes.len() > before)
    }

    fn entry(&mut self, folder: &OwnedFd, above: &[u8], name: &[u8], depth: usize) -> Result<(), Errno> {
        let path = join(above, name);
        let stat = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            // A running container removed it.
            Err(Errno::NOENT) => return Ok(()),
            other => other?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            return self.add(path, ChangeKind::Deleted);
        }
        let old = self.below.lookup(&path)?;
        let change = match &old {
            None => Some(ChangeKind::Added),
            // A folder is copied up with its attributes when something in it changes.
            Some(old) if kind == FileType::Directory && same_folder(&old.stat, &stat) => None,
            Some(_) => Some(ChangeKind::Modified),
        };
        let mut inner = false;
        if kind == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = openat(folder, name, flags, Mode::empty())?;
            inner = self.folder(fd, path.clone(), depth + 1)?;
        }
        match change {
            Some(change) => self.add(path, change),
            None if inner => self.add(path, ChangeKind::Modified),
            None => Ok(()),
        }
    }

    fn add(&mut self, path: Vec<u8>, kind: ChangeKind) -> Result<(), Errno> {
        if self.changes.len() >= MAX_CHANGES {
            return Err(Errno::TOOBIG);
        }
        self.changes.push(Change {
            path: [b"/", path.as_slice()].concat(),
            kind,
        });
        Ok(())
    }
}

fn same_folder(old: &Stat, new: &Stat) -> bool {
    let key = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_mtime);
    key(old) == key(new)
}
