//! Writing a layer's files: the only code that acts on names a stranger chose.
//!
//! Nothing here uses a path as the kernel would by itself. Folders are opened with
//! openat2(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS) from the layer's root, and the last
//! component is created in the open folder, exclusively and without following links.
//! OCI image-spec layer.md; whiteouts become overlayfs' own form (kernel overlayfs.rst).

use crate::ImageError;
use crate::content::Filling;
use crate::folder::{make_directory, replacing, set_opaque, set_opaque_at};
use crate::tar_stream::{Entry, TarError, TarStream};
use rustix::fs::{
    AtFlags, Dev, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod,
    fchown, fsetxattr, futimens, linkat, mknodat, openat, openat2, statat, symlinkat, utimensat,
};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bounds of one layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnpackLimits {
    /// Content of all files together.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
    /// Whether `/name` means `name`; refused otherwise.
    pub allow_absolute: bool,
    /// Whether device nodes are made; refused otherwise.
    pub allow_devices: bool,
}

/// What a layer turned out to need from the layers below it.
#[derive(Debug, Default)]
pub(crate) struct Unpacked {
    /// Content of all files together.
    pub bytes: u64,
    /// Folders that entries lie in but that have no entry of their own.
    pub implied: BTreeSet<Vec<u8>>,
    /// Hard links (name, target) whose target is in a lower layer.
    pub foreign_links: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Why unpacking stopped.
#[derive(Debug)]
pub(crate) enum UnpackError {
    Hostile { entry: Vec<u8>, why: String },
    Broken(String),
    Read(std::io::Error),
    Write { entry: Vec<u8>, source: std::io::Error },
}

impl UnpackError {
    pub fn of_layer(self, layer: &str) -> ImageError {
        let layer = layer.to_owned();
        match self {
            Self::Hostile { entry, why } => ImageError::HostileLayer {
                layer,
                entry: shown(&entry),
                why,
            },
            Self::Broken(why) => ImageError::BrokenLayer { layer, why },
            Self::Read(error) => ImageError::BrokenLayer {
                layer,
                why: error.to_string(),
            },
            Self::Write { entry, source } => ImageError::BrokenLayer {
                layer,
                why: format!("writing \"{}\": {source}", shown(&entry)),
            },
        }
    }
}

fn shown(name: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(&name[..name.len().min(200)]).into_owned();
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl From<TarError> for UnpackError {
    fn from(error: TarError) -> Self {
        match error {
            TarError::Broken(why) => Self::Broken(why),
            TarError::TooLarge(why) => Self::Hostile { entry: Vec::new(), why },
            TarError::Read(error) => Self::Read(error),
        }
    }
}

/// Unpacks a layer into the empty folder `root`, which only this process touches.
pub(crate) fn unpack<R: Read>(
    root: BorrowedFd<'_>,
    stream: &mut TarStream<R>,
    limits: UnpackLimits,
) -> Result<Unpacked, UnpackError> {
    let mut unpacker = Unpacker {
        root,
        limits,
        entries: 0,
        folder: None,
        folder_times: Vec::new(),
        root_seen: false,
        remembered: 0,
        result: Unpacked::default(),
    };
    while let Some(entry) = stream.next_entry()? {
        unpacker.add(&entry, stream)?;
    }
    unpacker.finish()
}

struct Unpacker<'a> {
    root: BorrowedFd<'a>,
    limits: UnpackLimits,
    entries: u64,
    /// The folder used last: most entries follow their siblings.
    folder: Option<(Vec<u8>, OwnedFd)>,
    folder_times: Vec<(Vec<u8>, u64)>,
    root_seen: bool,
    remembered: usize,
    result: Unpacked,
}

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Further names with this start are aufs' own and mean nothing here.
const AUFS: &[u8] = b".wh..wh.";
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);
/// Bytes of names of one layer that may be in memory at once.
const MAX_REMEMBERED: usize = 64 << 20;
/// What keeping a name costs besides its bytes.
const PER_NAME: usize = 64;
/// openat2 answers EAGAIN when a rename anywhere on the system raced with it.
const RESOLVE_ATTEMPTS: u32 = 32;

impl Unpacker<'_> {
    fn add<R: Read>(&mut self, entry: &Entry, stream: &mut TarStream<R>) -> Result<(), UnpackError> {
        self.entries += 1;
        // A hole counts as what it stands for: whoever copies the file fills it.
        let size = entry.sparse.as_ref().map_or(entry.size, |sparse| sparse.size);
        self.result.bytes = self.result.bytes.saturating_add(size);
        if self.entries > self.limits.entries {
            return Err(hostile(entry, format!("more than {} entries", self.limits.entries)));
        }
        if self.result.bytes > self.limits.bytes {
            return Err(hostile(
                entry,
                format!("more than {} bytes of content", self.limits.bytes),
            ));
        }
        let path = self.checked(&entry.path).map_err(|why| hostile(entry, why))?;
        let Some((folder, name)) = split(&path) else {
            return self.root_entry(entry);
        };
        let folder = self.folder(folder, entry)?;
        if name == OPAQUE {
            return set_opaque(folder.as_fd()).map_err(|errno| failed(entry, errno));
        }
        if name.starts_with(AUFS) {
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return whiteout(folder.as_fd(), hidden, entry);
        }
        let done = if entry.kind.is_file() || entry.kind.is_contiguous() {
            self.file(folder.as_fd(), name, entry, stream)
        } else if entry.kind.is_dir() {
            self.directory(folder.as_fd(), name, &path, entry)
        } else if entry.kind.is_symlink() {
            symlink(folder.as_fd(), name, entry)
        } else if entry.kind.is_hard_link() {
            self.hard_link(folder.as_fd(), name, &path, entry)
        } else if entry.kind.is_fifo() {
            fifo(folder.as_fd(), name, entry)
        } else if entry.kind.is_character_special() || entry.kind.is_block_special() {
            self.device(folder.as_fd(), name, entry)
        } else {
            Err(hostile(
                entry,
                format!("unknown entry type {:?}", char::from(entry.kind.to_byte())),
            ))
        };
        self.keep(folder_path(&path), folder);
        done
    }

    /// The name without `.` components; an error for names that mean something else on the host.
    fn checked(&self, name: &[u8]) -> Result<Vec<u8>, &'static str> {
        // The root itself may be written "/" (umoci does): there is nothing else it could mean.
        let is_root = name.iter().all(|byte| *byte == b'/');
        if name.starts_with(b"/") && !is_root && !self.limits.allow_absolute {
            return Err("absolute names are not allowed in layers");
        }
        if name.contains(&0) {
            return Err("the name holds a zero byte");
        }
        let mut clean = Vec::with_capacity(name.len());
        for component in name.split(|b| *b == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return Err("`..` is not allowed in names of layers"),
                _ => {
                    if !clean.is_empty() {
                        clean.push(b'/');
                    }
                    clean.extend_from_slice(component);
                }
            }
        }
        Ok(clean)
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        if !entry.kind.is_dir() {
            return Err(hostile(entry, "the root must be a directory"));
        }
        self.root_seen = true;
        attributes(self.root, entry)?;
        self.folder_times.push((Vec::new(), entry.mtime));
        Ok(())
    }

    /// The open folder of that path, which is made if it is missing.
    fn folder(&mut self, path: &[u8], entry: &Entry) -> Result<OwnedFd, UnpackError> {
        match self.folder.take() {
            Some((known, fd)) if known == path => Ok(fd),
            _ => match self.open_folder(path) {
                Ok(fd) => Ok(fd),
                Err(Errno::NOENT | Errno::NOTDIR) => self.make_folders(path, entry),
                Err(errno) => Err(unresolved(entry, errno)),
            },
        }
    }

    fn keep(&mut self, path: &[u8], fd: OwnedFd) {
        self.folder = Some((path.to_vec(), fd));
    }

    fn open_folder(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path: &[u8] = if path.is_empty() { b"." } else { path };
        for _ in 0..RESOLVE_ATTEMPTS {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            match openat2(self.root, path, flags, Mode::empty(), BENEATH) {
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    fn make_folders(&mut self, path: &[u8], entry: &Entry) -> Result<OwnedFd, UnpackError> {
        let mut made = Vec::with_capacity(path.len());
        let mut folder = self.open_folder(b"").map_err(|errno| failed(entry, errno))?;
        for component in path.split(|b| *b == b'/') {
            if !made.is_empty() {
                made.push(b'/');
            }
            made.extend_from_slice(component);
            folder = match self.open_folder(&made) {
                Ok(fd) => fd,
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    make_directory(folder.as_fd(), component).map_err(|errno| failed(entry, errno))?;
                    self.remember(&made, entry)?;
                    self.result.implied.insert(made.clone());
                    self.open_folder(&made).map_err(|errno| unresolved(entry, errno))?
                }
                Err(errno) => return Err(unresolved(entry, errno)),
            };
        }
        Ok(folder)
    }

    fn file<R: Read>(
        &self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
        stream: &mut TarStream<R>,
    ) -> Result<(), UnpackError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = replacing(folder, name, || openat(folder, name, flags, Mode::from_raw_mode(0o600)))
            .map_err(|errno| failed(entry, errno))?;
        let file = std::fs::File::from(fd);
        let mut filling = Filling::new(&file, entry.size, entry.sparse.as_ref());
        let mut write_error = None;
        stream
            .copy_content(|piece| {
                if write_error.is_none() {
                    write_error = filling.add(piece).err();
                }
                match &write_error {
                    // Ends the copy; the cause is told below.
                    Some(_) => Err(std::io::ErrorKind::Other.into()),
                    None => Ok(()),
                }
            })
            .map_err(|error| match write_error.take() {
                Some(source) => UnpackError::Write {
                    entry: entry.path.clone(),
                    source,
                },
                None => error.into(),
            })?;
        filling.finish().map_err(|source| UnpackError::Write {
            entry: entry.path.clone(),
            source,
        })?;
        attributes(file.as_fd(), entry)?;
        futimens(&file, &times(entry.mtime)).map_err(|errno| failed(entry, errno))
    }

    fn directory(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        entry: &Entry,
    ) -> Result<(), UnpackError> {
        make_directory(folder, name).map_err(|errno| failed(entry, errno))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(folder, name, flags, Mode::empty()).map_err(|errno| failed(entry, errno))?;
        attributes(fd.as_fd(), entry)?;
        self.result.implied.remove(path);
        self.remember(path, entry)?;
        self.folder_times.push((path.to_vec(), entry.mtime));
        Ok(())
    }

    fn device(&self, folder: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        if !self.limits.allow_devices {
            return Err(hostile(entry, "device nodes are not allowed in layers"));
        }
        let (major, minor) = entry.device;
        let kind = match entry.kind.is_block_special() {
            true => FileType::BlockDevice,
            false => FileType::CharacterDevice,
        };
        // That one is overlayfs' whiteout.
        if (major, minor) == (0, 0) {
            return Err(hostile(entry, "there is no device 0:0"));
        }
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        replacing(folder, name, || {
            mknodat(folder, name, kind, mode, rustix::fs::makedev(major, minor))
        })
        .map_err(|errno| failed(entry, errno))?;
        owner_and_times(folder, name, entry)
    }

    fn hard_link(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        entry: &Entry,
    ) -> Result<(), UnpackError> {
        let refused = |why: &str| hostile(entry, format!("hard link to \"{}\": {why}", shown(&entry.link)));
        let target = self.checked(&entry.link).map_err(refused)?;
        let Some((target_folder, target_name)) = split(&target) else {
            return Err(refused("a link to the root is not allowed"));
        };
        if target == path {
            return Ok(());
        }
        let from = match self.open_folder(target_folder) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return self.foreign_link(path, &target, entry),
            Err(errno) => return Err(unresolved(entry, errno)),
        };
        match statat(&from, target_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile | FileType::Symlink | FileType::Fifo => {}
                FileType::CharacterDevice | FileType::BlockDevice if stat.st_rdev != 0 => {}
                _ => return Err(refused("only a file can be linked to")),
            },
            Err(Errno::NOENT) => return self.foreign_link(path, &target, entry),
            Err(errno) => return Err(failed(entry, errno)),
        }
        replacing(folder, name, || {
            linkat(&from, target_name, folder, name, AtFlags::empty())
        })
        .map_err(|errno| failed(entry, errno))
    }

    fn foreign_link(&mut self, path: &[u8], target: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        self.remember(path, entry)?;
        self.remember(target, entry)?;
        self.result.foreign_links.push((path.to_vec(), target.to_vec()));
        Ok(())
    }

    /// Counts a name that is kept in memory until the layer's end.
    fn remember(&mut self, name: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        self.remembered += name.len() + PER_NAME;
        if self.remembered > MAX_REMEMBERED {
            return Err(hostile(entry, "too many and too long names of directories"));
        }
        Ok(())
    }

    /// Folders get their times last, because filling them changes them.
    fn finish(mut self) -> Result<Unpacked, UnpackError> {
        for (path, mtime) in self.folder_times.iter().rev() {
            let open: &[u8] = if path.is_empty() { b"." } else { path };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            match openat2(self.root, open, flags, Mode::empty(), BENEATH) {
                Ok(fd) => futimens(&fd, &times(*mtime)).map_err(|errno| UnpackError::Write {
                    entry: path.clone(),
                    source: errno.into(),
                })?,
                // A later entry replaced it by something else; its times are of no matter then.
                Err(_) => continue,
            }
        }
        if !self.root_seen {
            self.result.implied.insert(Vec::new());
        }
        Ok(self.result)
    }
}

fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    })
}

fn folder_path(path: &[u8]) -> &[u8] {
    split(path).map_or(b"", |(folder, _)| folder)
}

fn hostile(entry: &Entry, why: impl Into<String>) -> UnpackError {
    UnpackError::Hostile {
        entry: entry.path.clone(),
        why: why.into(),
    }
}

fn failed(entry: &Entry, errno: Errno) -> UnpackError {
    UnpackError::Write {
        entry: entry.path.clone(),
        source: errno.into(),
    }
}

fn unresolved(entry: &Entry, errno: Errno) -> UnpackError {
    match errno {
        Errno::XDEV => hostile(entry, "the name leads out of the layer through a symbolic link"),
        Errno::LOOP => hostile(entry, "the name leads through a loop of symbolic links"),
        other => failed(entry, other),
    }
}

fn whiteout(folder: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), UnpackError> {
    if matches!(name, b"" | b"." | b"..") {
        return Err(hostile(entry, "the whiteout names no file"));
    }
    match mknodat(folder, name, FileType::CharacterDevice, Mode::empty(), Dev::default()) {
        Ok(()) => Ok(()),
        // A whiteout speaks of lower layers; what this layer itself brought stays (layer.md#whiteouts).
        Err(Errno::EXIST) => {
            let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| failed(entry, errno))?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => set_opaque_at(folder, name).map_err(|errno| failed(entry, errno)),
                _ => Ok(()),
            }
        }
        Err(errno) => Err(failed(entry, errno)),
    }
}

fn symlink(folder: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), UnpackError> {
    if entry.link.is_empty() || entry.link.contains(&0) {
        return Err(hostile(entry, "the symbolic link has no usable target"));
    }
    replacing(folder, name, || symlinkat(entry.link.as_slice(), folder, name)).map_err(|errno| failed(entry, errno))?;
    owner_and_times(folder, name, entry)
}

fn fifo(folder: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), UnpackError> {
    let mode = Mode::from_raw_mode(entry.mode & 0o777);
    replacing(folder, name, || {
        mknodat(folder, name, FileType::Fifo, mode, Dev::default())
    })
    .map_err(|errno| failed(entry, errno))?;
    owner_and_times(folder, name, entry)
}

fn owner_and_times(folder: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), UnpackError> {
    let (uid, gid) = owner(entry)?;
    chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .and_then(|()| utimensat(folder, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW))
        .map_err(|errno| failed(entry, errno))
}

/// Owner, permissions and extended attributes; in this order, since chown clears the set-id bits and capabilities.
fn attributes(fd: BorrowedFd<'_>, entry: &Entry) -> Result<(), UnpackError> {
    let (uid, gid) = owner(entry)?;
    fchown(fd, Some(uid), Some(gid))
        .and_then(|()| fchmod(fd, Mode::from_raw_mode(entry.mode & 0o7777)))
        .map_err(|errno| failed(entry, errno))?;
    for (name, value) in &entry.xattrs {
        // trusted.* and *.overlay.* would steer overlayfs itself; labels of other systems mean nothing here.
        let wanted =
            name == b"security.capability" || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."));
        if !wanted || name.contains(&0) {
            continue;
        }
        match fsetxattr(fd, Path::new(OsStr::from_bytes(name)), value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(failed(entry, errno)),
        }
    }
    Ok(())
}

fn owner(entry: &Entry) -> Result<(Uid, Gid), UnpackError> {
    // The highest id means "leave it" to chown.
    let id = |value: u64| u32::try_from(value).ok().filter(|id| *id != u32::MAX);
    match (id(entry.uid), id(entry.gid)) {
        (Some(uid), Some(gid)) => Ok((Uid::from_raw(uid), Gid::from_raw(gid))),
        _ => Err(hostile(
            entry,
            format!("owner {}:{} is out of range", entry.uid, entry.gid),
        )),
    }
}

fn times(mtime: u64) -> Timestamps {
    let moment = Timespec {
        tv_sec: i64::try_from(mtime).unwrap_or(i64::MAX),
        tv_nsec: 0,
    };
    Timestamps {
        last_access: moment,
        last_modification: moment,
    }
}
