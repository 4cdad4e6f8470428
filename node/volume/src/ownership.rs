//! Gives a volume to a pod's group (fsGroup), without ever following a link.

use rustix::{
    fd::{AsFd, AsRawFd, OwnedFd},
    fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, chmod, chownat, openat, statat},
    io::Errno,
};
use std::{io, path::Path};

/// What the group may do with files.
const READ_WRITE: u32 = 0o660;
/// What it needs of folders besides, whose new entries belong to it too.
const FOLDER: u32 = 0o2110;
/// Folders in folders beyond this are refused.
const DEEPEST: usize = 512;

/// Makes everything in a folder the group's to read and write. With `if_root_differs` nothing is done where the folder
/// itself is the group's already (`fsGroupChangePolicy: OnRootMismatch`).
///
/// Errors: the kernel's; `InvalidInput` for folders nested too deep.
pub fn give_to_group(folder: &Path, group: u32, if_root_differs: bool) -> io::Result<()> {
    let root = rustix::fs::open(
        folder,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let is = rustix::fs::fstat(&root)?;
    let wanted = READ_WRITE | FOLDER;
    if if_root_differs && is.st_gid == group && is.st_mode & wanted == wanted {
        return Ok(());
    }
    let gid = Gid::from_raw(group);
    give_entries(root.as_fd().try_clone_to_owned()?, gid, DEEPEST)?;
    // Last, so that an interrupted pass is seen as one.
    rustix::fs::fchown(&root, None, Some(gid))?;
    rustix::fs::fchmod(&root, Mode::from_raw_mode(is.st_mode & 0o7777 | wanted))?;
    Ok(())
}

fn give_entries(folder: OwnedFd, gid: Gid, deeper: usize) -> io::Result<()> {
    if deeper == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "folders are nested too deep",
        ));
    }
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match give_entry(&folder, name, gid, deeper) {
            // Somebody else removed it.
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {}
            given => given?,
        }
    }
    Ok(())
}

fn give_entry(folder: &OwnedFd, name: &std::ffi::CStr, gid: Gid, deeper: usize) -> io::Result<()> {
    let is = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(is.st_mode);
    if kind == FileType::Symlink {
        chownat(folder, name, None, Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        return Ok(());
    }
    // What is changed is what was opened, whatever has the name by now.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let entry = openat(folder, name, flags, Mode::empty())?;
    let is = rustix::fs::fstat(&entry)?;
    let kind = FileType::from_raw_mode(is.st_mode);
    if kind == FileType::Symlink {
        return Ok(());
    }
    if kind == FileType::Directory {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        give_entries(openat(&entry, c".", flags, Mode::empty())?, gid, deeper - 1)?;
    }
    chownat(&entry, c"", None, Some(gid), AtFlags::EMPTY_PATH)?;
    let more = match kind {
        FileType::Directory => READ_WRITE | FOLDER,
        _ => READ_WRITE,
    };
    let mode = Mode::from_raw_mode(is.st_mode & 0o7777 | more);
    chmod(format!("/proc/self/fd/{}", entry.as_raw_fd()), mode)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn everything_becomes_the_groups_and_links_lead_nowhere() {
        let outside = tempfile::tempdir().unwrap();
        let secret = outside.path().join("secret");
        std::fs::write(&secret, b"s").unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("file"), b"x").unwrap();
        std::fs::set_permissions(inner.join("file"), std::fs::Permissions::from_mode(0o700)).unwrap();
        symlink(&secret, inner.join("link")).unwrap();
        symlink(outside.path(), dir.path().join("folder")).unwrap();

        give_to_group(dir.path(), 4321, false).unwrap();
        let of = |path: &Path| {
            let is = std::fs::symlink_metadata(path).unwrap();
            (is.gid(), is.mode() & 0o7777)
        };
        assert_eq!(of(&inner.join("file")), (4321, 0o760));
        assert_eq!(of(&inner).0, 4321);
        assert_eq!(of(&inner).1 & 0o2770, 0o2770);
        assert_eq!(of(&inner.join("link")).0, 4321);
        assert_eq!(of(&secret), (of(&secret).0, 0o600));
        assert_ne!(of(&secret).0, 4321);

        std::fs::write(dir.path().join("later"), b"x").unwrap();
        std::os::unix::fs::chown(dir.path().join("later"), None, Some(0)).unwrap();
        give_to_group(dir.path(), 4321, true).unwrap();
        assert_eq!(of(&dir.path().join("later")).0, 0, "the root says that it was done");
    }
}
