//! How much lies in a folder, whatever its owner does to it meanwhile.

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, open, openat, statat},
};
use std::{collections::HashSet, io, path::Path};

/// Entries that are looked at; a folder with more is counted in part.
const MAX_ENTRIES: u64 = 200_000;
/// Folders inside one another that are looked into; each holds a descriptor.
const MAX_DEPTH: usize = 100;

/// What lies in a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FolderUsage {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Files and folders, the folder itself included.
    pub inodes: u64,
}

impl FolderUsage {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            inodes: self.inodes.saturating_add(other.inodes),
        }
    }
}

/// What lies in a folder on its own file system. Follows no link and leaves out what is mounted below; a file
/// with several names counts once. What vanishes while it is looked at counts nothing. Blocking.
///
/// Errors: the folder itself cannot be opened.
pub fn folder_usage(folder: &Path) -> io::Result<FolderUsage> {
    let root = open(folder, FOLDER, Mode::empty())?;
    let own = rustix::fs::fstat(&root)?;
    let mut walk = Walk {
        device: own.st_dev,
        seen: HashSet::new(),
        found: FolderUsage::default(),
    };
    walk.count(&own);
    walk.folders(root);
    Ok(walk.found)
}

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

struct Walk {
    device: u64,
    /// Files with several names.
    seen: HashSet<u64>,
    found: FolderUsage,
}

impl Walk {
    fn folders(&mut self, root: OwnedFd) {
        // Each open folder with the names of folders in it that are still to be looked into.
        let names = self.entries(&root);
        let mut open = vec![(root, names)];
        while let Some((folder, names)) = open.last_mut() {
            let Some(name) = names.pop() else {
                open.pop();
                continue;
            };
            let below = openat(folder.as_fd(), &name, FOLDER, Mode::empty());
            // It may have been removed or replaced since it was read.
            if let Ok(below) = below
                && open.len() < MAX_DEPTH
            {
                let names = self.entries(&below);
                open.push((below, names));
            }
        }
    }

    /// Counts what is directly in a folder; the names of the folders among it.
    fn entries(&mut self, folder: &OwnedFd) -> Vec<std::ffi::CString> {
        let Ok(listing) = Dir::read_from(folder) else {
            return Vec::new();
        };
        let mut folders = Vec::new();
        for entry in listing.flatten() {
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            if self.found.inodes >= MAX_ENTRIES {
                break;
            }
            let Ok(stat) = statat(folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if stat.st_dev == self.device && self.count(&stat) && is_folder {
                folders.push(entry.file_name().to_owned());
            }
        }
        folders
    }

    /// Whether it was not counted before.
    fn count(&mut self, stat: &Stat) -> bool {
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if stat.st_nlink > 1 && !is_folder && !self.seen.insert(stat.st_ino) {
            return false;
        }
        self.found.inodes += 1;
        self.found.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn a_folder_is_counted_without_what_its_links_lead_to() {
        let dir = tempfile::tempdir().expect("a folder");
        let outside = tempfile::tempdir().expect("a folder");
        fs::write(outside.path().join("large"), vec![1; 1 << 20]).expect("a file");
        fs::create_dir_all(dir.path().join("a/b")).expect("folders");
        fs::write(dir.path().join("a/b/file"), vec![1; 64 << 10]).expect("a file");
        fs::hard_link(dir.path().join("a/b/file"), dir.path().join("again")).expect("a link");
        symlink(outside.path(), dir.path().join("a/link")).expect("a link");
        symlink(outside.path().join("large"), dir.path().join("file-link")).expect("a link");
        let found = folder_usage(dir.path()).expect("counted");
        assert_eq!(found.inodes, 6, "the folder, a, b, the file once, two links");
        assert!((64 << 10..256 << 10).contains(&found.bytes), "{found:?}");
        assert!(folder_usage(&dir.path().join("file-link")).is_err());
    }

    #[test]
    fn folders_without_end_are_left_at_some_depth() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut deep = dir.path().to_owned();
        for _ in 0..150 {
            deep.push("d");
            fs::create_dir(&deep).expect("a folder");
        }
        let found = folder_usage(dir.path()).expect("counted");
        assert!((100..=102).contains(&found.inodes), "{found:?}");
    }
}
