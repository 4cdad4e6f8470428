//! Looking into a stack of layers as overlayfs would merge them, without mounting it.

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, getxattr, openat2, statat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Symbolic links followed for one name, as in the kernel.
const MAX_LINKS: usize = 40;

/// What a name stands for in the merged view.
pub(crate) struct Found {
    /// Opened with O_PATH.
    pub fd: OwnedFd,
    pub stat: Stat,
}

impl Found {
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

/// What one layer says about a name.
enum Answer {
    Here(Found),
    /// Nothing; lower layers decide.
    Below,
    /// It hides lower layers.
    Hidden,
}

/// Folders of layers, bottom first.
pub(crate) struct View {
    layers: Vec<OwnedFd>,
}

impl View {
    pub fn open(layers: &[PathBuf]) -> Result<Self, Errno> {
        let open = |path: &PathBuf| crate::folder::open_root(path);
        Ok(Self {
            layers: layers.iter().map(open).collect::<Result<_, _>>()?,
        })
    }

    /// What a path without links on its way stands for; a link at its end is the answer itself.
    pub fn lookup(&self, path: &[u8]) -> Result<Option<Found>, Errno> {
        for layer in self.layers.iter().rev() {
            match answer(layer, path)? {
                Answer::Here(found) => return Ok(Some(found)),
                Answer::Hidden => return Ok(None),
                Answer::Below => {}
            }
        }
        Ok(None)
    }

    /// The names in a folder of the merged view; none if it is no folder.
    pub fn names(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
        let mut found = std::collections::BTreeSet::new();
        for layer in self.layers.iter().rev() {
            let folder = match answer(layer, path)? {
                Answer::Here(folder) if folder.kind() == FileType::Directory => folder,
                Answer::Here(_) | Answer::Hidden => break,
                Answer::Below => continue,
            };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(&folder.fd, ".", flags, Mode::empty())?;
            for item in rustix::fs::Dir::read_from(&fd)? {
                let name = item?.file_name().to_bytes().to_vec();
                if !matches!(name.as_slice(), b"." | b"..") {
                    found.insert(name);
                }
            }
            if opaque_mark(&folder.fd) {
                break;
            }
        }
        let mut names = Vec::new();
        for name in found {
            if self.lookup(&crate::pack::join(path, &name))?.is_some() {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// The path of a folder with all links on its way followed inside the view; `None` if there is no such folder.
    pub fn resolve_folder(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
        let mut rest: Vec<Vec<u8>> = components(path);
        rest.reverse();
        let mut resolved: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(component) = rest.pop() {
            if component == b".." {
                resolved.pop();
                continue;
            }
            resolved.push(component);
            let Some(found) = self.lookup(&resolved.join(&b'/'))? else {
                return Ok(None);
            };
            match found.kind() {
                FileType::Directory => {}
                FileType::Symlink => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Ok(None);
                    }
                    let target = rustix::fs::readlinkat(&found.fd, "", Vec::new())?.into_bytes();
                    resolved.pop();
                    if target.starts_with(b"/") {
                        resolved.clear();
                    }
                    rest.extend(components(&target).into_iter().rev());
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(resolved.join(&b'/')))
    }
}

fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|b| *b == b'/')
        .filter(|part| !matches!(*part, b"" | b"."))
        .map(<[u8]>::to_vec)
        .collect()
}

fn answer(layer: &OwnedFd, path: &[u8]) -> Result<Answer, Errno> {
    let parts: Vec<usize> = path
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'/')
        .map(|(at, _)| at)
        .chain((!path.is_empty()).then_some(path.len()))
        .collect();
    if parts.is_empty() {
        return open(layer, b".").map(Answer::Here);
    }
    for end in &parts {
        match open(layer, &path[..*end]) {
            Ok(found) if *end == path.len() => {
                return Ok(if is_whiteout(&found.stat) {
                    Answer::Hidden
                } else {
                    Answer::Here(found)
                });
            }
            Ok(found) if found.kind() != FileType::Directory => return Ok(Answer::Hidden),
            Ok(_) => {}
            Err(Errno::NOENT) => {
                let parent = &path[..path[..*end].iter().rposition(|b| *b == b'/').unwrap_or(0)];
                return Ok(if is_opaque(layer, parent) {
                    Answer::Hidden
                } else {
                    Answer::Below
                });
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(Answer::Below)
}

fn open(layer: &OwnedFd, path: &[u8]) -> Result<Found, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let fd = openat2(layer, path, flags, Mode::empty(), resolve)?;
    let stat = statat(&fd, "", AtFlags::EMPTY_PATH)?;
    Ok(Found { fd, stat })
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether a folder, or one above it, hides what lower layers have in it.
fn is_opaque(layer: &OwnedFd, path: &[u8]) -> bool {
    let mut end = path.len();
    while end > 0 {
        if let Ok(found) = open(layer, &path[..end])
            && opaque_mark(&found.fd)
        {
            return true;
        }
        end = path[..end].iter().rposition(|b| *b == b'/').unwrap_or(0);
    }
    false
}

/// Whether a folder carries overlayfs' mark.
pub(crate) fn opaque_mark(fd: &OwnedFd) -> bool {
    let mut value = [0u8; 8];
    let path = fd_path(fd);
    getxattr(&path, "trusted.overlay.opaque", &mut value).is_ok_and(|count| &value[..count] == b"y")
}

/// A path that leads to what an O_PATH descriptor stands for.
pub(crate) fn fd_path(fd: &OwnedFd) -> PathBuf {
    Path::new("/proc/self/fd").join(OsStr::from_bytes(fd.as_raw_fd().to_string().as_bytes()))
}
