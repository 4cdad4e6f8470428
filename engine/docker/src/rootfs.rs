//! A container's files seen from outside: those of a running one through its own mounts, those of a
//! stopped one through a view that is mounted nowhere. Paths are resolved by the kernel inside the root.

use crate::daemon::Inner;
use crate::error::{Answer, ApiError};
use crate::record::{Container, Record, make_folder};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat2};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use strata_sys::mount::FileSystem;

/// Folders inside each other that are followed when a tree is copied.
const MAX_DEPTH: usize = 256;

/// The root folder of a container, whether it runs or not. The caller holds the container's turn, so
/// that a stopped one is not started over the view.
pub(crate) fn open(inner: &Inner, container: &Container) -> Answer<OwnedFd> {
    let record = container.record();
    if record.state.status.is_alive() && record.state.pid > 0 {
        let path = PathBuf::from(format!("/proc/{}/root", record.state.pid));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        return rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|errno| ApiError::io("open", &path)(errno.into()));
    }
    view(inner, &record)
}

/// The layers of a container's image with its own on top, mounted nowhere.
fn view(inner: &Inner, record: &Record) -> Answer<OwnedFd> {
    let image = inner
        .images
        .resolve(&record.image_id)?
        .ok_or_else(|| ApiError::not_found(format!("No such image: {}", record.image_id)))?;
    let folder = inner.container_folder(&record.id);
    let (upper, work, empty) = (folder.join("upper"), folder.join("work"), folder.join("empty"));
    for path in [&upper, &empty] {
        if !path.exists() {
            make_folder(path)?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(path, mode).map_err(ApiError::io("chmod", path))?;
        }
    }
    crate::record::remove_folder(&work)?;
    make_folder(&work)?;
    let system = || {
        let system = FileSystem::open("overlay")?;
        system.set("source", "overlay")?;
        for layer in image
            .layers
            .iter()
            .rev()
            .chain(image.layers.is_empty().then_some(&empty))
        {
            system.set("lowerdir+", &layer.to_string_lossy())?;
        }
        system.set("upperdir", &upper.to_string_lossy())?;
        system.set("workdir", &work.to_string_lossy())?;
        system.mount(0)
    };
    system().map_err(|errno| ApiError::internal(format!("look into container {}: {errno}", record.id)))
}

/// Opens a path inside a root; a link leads where it would lead inside.
pub(crate) fn open_inside(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = if relative.as_os_str().is_empty() {
        Path::new(".")
    } else {
        relative
    };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(
        root,
        relative,
        flags | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    )?)
}

/// Copies what an image has at a volume's place into the empty volume.
pub(crate) fn fill_volume(inner: &Inner, record: &Record, inside: &str, volume: &Path) -> Answer<()> {
    let root = view(inner, record)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let source = match open_inside(root.as_fd(), Path::new(inside), flags) {
        Ok(source) => source,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        Err(error) => return Err(ApiError::io("open", Path::new(inside))(error)),
    };
    let target = rustix::fs::open(
        volume,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| ApiError::io("open", volume)(errno.into()))?;
    copy_folder(source.as_fd(), target.as_fd(), 0).map_err(ApiError::io("copy into", volume))
}

fn copy_folder(source: BorrowedFd<'_>, target: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other("folders are nested too deeply"));
    }
    for item in rustix::fs::Dir::read_from(source)? {
        let item = item?;
        let name = item.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = rustix::fs::statat(source, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(target, name, Mode::RWXU)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let from = rustix::fs::openat(source, name, flags, Mode::empty())?;
                let to = rustix::fs::openat(target, name, flags, Mode::empty())?;
                copy_folder(from.as_fd(), to.as_fd(), depth + 1)?;
            }
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(source, name, Vec::new())?;
                rustix::fs::symlinkat(&link, target, name)?;
            }
            FileType::RegularFile => {
                let from = rustix::fs::openat(
                    source,
                    name,
                    OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                    Mode::empty(),
                )?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let to = rustix::fs::openat(target, name, flags, Mode::RUSR | Mode::WUSR)?;
                io::copy(&mut std::fs::File::from(from), &mut std::fs::File::from(to))?;
            }
            kind => rustix::fs::mknodat(target, name, kind, mode, stat.st_rdev)?,
        }
        own(target, name, &stat, mode)?;
    }
    let stat = rustix::fs::fstat(source)?;
    let (uid, gid) = owners(&stat);
    rustix::fs::fchown(target, uid, gid)?;
    Ok(rustix::fs::fchmod(target, Mode::from_raw_mode(stat.st_mode & 0o7777))?)
}

fn own(folder: BorrowedFd<'_>, name: &std::ffi::CStr, stat: &rustix::fs::Stat, mode: Mode) -> io::Result<()> {
    let (uid, gid) = owners(stat);
    rustix::fs::chownat(folder, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        rustix::fs::chmodat(folder, name, mode, AtFlags::empty())?;
    }
    let moment = |seconds: i64, nanos: u64| rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: nanos as i64,
    };
    let times = rustix::fs::Timestamps {
        last_access: moment(stat.st_atime, stat.st_atime_nsec),
        last_modification: moment(stat.st_mtime, stat.st_mtime_nsec),
    };
    Ok(rustix::fs::utimensat(folder, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn owners(stat: &rustix::fs::Stat) -> (Option<rustix::fs::Uid>, Option<rustix::fs::Gid>) {
    (
        Some(rustix::fs::Uid::from_raw(stat.st_uid)),
        Some(rustix::fs::Gid::from_raw(stat.st_gid)),
    )
}
