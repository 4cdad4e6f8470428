//! From files in overlayfs' form to a layer: whiteouts, opaque folders, links, attributes.
//!
//! The folder may be the upper directory of a container that runs: nothing is followed, each
//! name is opened in its open parent, and whatever is not what it was a moment ago is an
//! error or left out, never something outside.

use crate::folder::open_root;
use crate::tar_write::{Attributes, Kind, TarWriter};
use crate::view::{fd_path, opaque_mark};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, getxattr, listxattr, major, minor, openat, readlinkat, statat,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Folders inside each other.
const MAX_DEPTH: usize = 1000;
/// Names of all attributes of a file, and one value.
const MAX_XATTRS: usize = 64 << 10;

/// A folder that is being read.
struct Level {
    fd: OwnedFd,
    path: Vec<u8>,
    /// Names still to come, last first.
    names: Vec<Vec<u8>>,
    /// What they are called in the archive, if not by their own names.
    called: Option<Vec<u8>>,
}

/// Writes the files below `root` as a layer, sorted by name.
pub(crate) fn pack<W: Write>(root: &Path, out: W) -> io::Result<W> {
    let mut packer = Packer::new(out, None);
    let first = packer.enter(open_root(root)?, Vec::new())?;
    packer.run(first)
}

/// Writes the file or folder of that name in an open folder, under another name.
pub(crate) fn pack_named<W: Write>(folder: OwnedFd, name: &[u8], called: &[u8], out: W) -> io::Result<W> {
    let first = Level {
        fd: folder,
        path: Vec::new(),
        names: vec![name.to_vec()],
        called: Some(called.to_vec()),
    };
    Packer::new(out, None).run(first)
}

/// Writes what is in an open folder, within one mount if that is named by its device.
pub(crate) fn pack_open<W: Write>(folder: OwnedFd, device: Option<u64>, out: W) -> io::Result<W> {
    let mut packer = Packer::new(out, device);
    let first = packer.enter(folder, Vec::new())?;
    packer.run(first)
}

struct Packer<W> {
    tar: TarWriter<W>,
    /// Names of files that have several, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Folders of other devices are not gone into.
    device: Option<u64>,
}

impl<W: Write> Packer<W> {
    fn new(out: W, device: Option<u64>) -> Self {
        Self {
            tar: TarWriter::new(out),
            links: HashMap::new(),
            device,
        }
    }

    fn run(mut self, first: Level) -> io::Result<W> {
        let packer = &mut self;
        let mut levels = vec![first];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.pop() else {
                levels.pop();
                continue;
            };
            if let Some(folder) = packer.add(level, &name)? {
                levels.push(folder);
                if levels.len() > MAX_DEPTH {
                    return Err(io::Error::other(format!(
                        "more than {MAX_DEPTH} folders inside each other"
                    )));
                }
            }
        }
        self.tar.finish()
    }

    /// Begins a folder: its opaque mark and the names in it.
    fn enter(&mut self, fd: OwnedFd, path: Vec<u8>) -> io::Result<Level> {
        if !path.is_empty() && opaque_mark(&fd) {
            self.marker(&join(&path, b".wh..wh..opq"))?;
        }
        let mut names = Vec::new();
        for item in Dir::read_from(&fd)? {
            let item = item?;
            let name = item.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Level {
            fd,
            path,
            names,
            called: None,
        })
    }

    fn marker(&mut self, name: &[u8]) -> io::Result<()> {
        self.tar
            .entry(name, &Kind::File(0), &Attributes::default(), &mut io::empty())
    }

    /// Writes what that name is; a folder is to be gone into.
    fn add(&mut self, level: &Level, name: &[u8]) -> io::Result<Option<Level>> {
        let path = join(&level.path, level.called.as_deref().unwrap_or(name));
        let stat = match statat(&level.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // A running container removed it.
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            self.marker(&join(&level.path, &[b".wh.", name].concat()))?;
            return Ok(None);
        }
        if kind != FileType::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                let attributes = Attributes::of(&stat);
                self.tar
                    .entry(&path, &Kind::HardLink(first), &attributes, &mut io::empty())?;
                return Ok(None);
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.clone());
        }
        match kind {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = openat(&level.fd, name, flags, Mode::empty())?;
                let attributes = described(&fd, &fstat(&fd)?, &path)?;
                self.tar.entry(&path, &Kind::Directory, &attributes, &mut io::empty())?;
                if self.device.is_some_and(|device| device != stat.st_dev) {
                    return Ok(None);
                }
                return self.enter(fd, path).map(Some);
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let fd = openat(&level.fd, name, flags, Mode::empty())?;
                let stat = fstat(&fd)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Err(io::Error::other(format!("{} changed while it was read", shown(&path))));
                }
                let attributes = described(&fd, &stat, &path)?;
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                self.tar
                    .entry(&path, &Kind::File(size), &attributes, &mut File::from(fd))?;
            }
            FileType::Symlink => {
                let target = readlinkat(&level.fd, name, Vec::new())?.into_bytes();
                let attributes = Attributes::of(&stat);
                self.tar
                    .entry(&path, &Kind::Symlink(&target), &attributes, &mut io::empty())?;
            }
            FileType::Fifo => {
                self.tar
                    .entry(&path, &Kind::Fifo, &Attributes::of(&stat), &mut io::empty())?;
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let kind = Kind::Device {
                    block: kind == FileType::BlockDevice,
                    major: major(stat.st_rdev),
                    minor: minor(stat.st_rdev),
                };
                self.tar.entry(&path, &kind, &Attributes::of(&stat), &mut io::empty())?;
            }
            // Sockets belong to processes, not to images.
            _ => {}
        }
        Ok(None)
    }
}

/// Attributes with the extended ones that belong into a layer.
fn described(fd: &OwnedFd, stat: &Stat, path: &[u8]) -> io::Result<Attributes> {
    let mut attributes = Attributes::of(stat);
    let place = fd_path(fd);
    let mut names = vec![0; MAX_XATTRS];
    let count = match listxattr(&place, &mut names) {
        Ok(count) => count,
        Err(Errno::OPNOTSUPP) => 0,
        Err(errno) => return Err(errno.into()),
    };
    for name in names[..count].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if matches!(name, b"trusted.overlay.redirect" | b"trusted.overlay.metacopy") {
            return Err(io::Error::other(format!(
                "{} is known by its place in another layer only",
                shown(path)
            )));
        }
        let wanted =
            name == b"security.capability" || name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
        if !wanted {
            continue;
        }
        let mut value = vec![0; MAX_XATTRS];
        let length = getxattr(&place, OsStr::from_bytes(name), &mut value)?;
        value.truncate(length);
        attributes.xattrs.push((name.to_vec(), value));
    }
    attributes.xattrs.sort_unstable();
    Ok(attributes)
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(&path[..path.len().min(200)]).into_owned()
}

pub(crate) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() {
        name.to_vec()
    } else {
        [folder, b"/", name].concat()
    }
}
