//! Files that change all at once.
//!
//! The layout is the one upstream's volumes have, because workloads rely on it (they watch
//! `..data`): files live in a directory named by a counter, `..data` is a link to it that is
//! replaced by rename, and each top-level name is a link through `..data`.

use crate::VolumeError;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink},
    path::{Component, Path},
};

/// One file: its content and permission bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The content.
    pub data: Vec<u8>,
    /// Permission bits, such as 0o644.
    pub mode: u32,
}

/// Relative paths and what they hold.
pub type Payload = BTreeMap<String, File>;

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Makes `dir` show exactly `payload`; returns whether anything changed.
///
/// `group` is given read access to every file (fsGroup).
pub fn write(dir: &Path, payload: &Payload, group: Option<u32>) -> Result<bool, VolumeError> {
    for path in payload.keys() {
        check_path(path)?;
    }
    let current = fs::read_link(dir.join(DATA)).ok();
    if let Some(current) = &current
        && holds(&dir.join(current), payload)
    {
        return Ok(false);
    }
    let generation = fresh_directory(dir)?;
    fill(&generation, payload, group)?;
    let name = generation.file_name().expect("a fresh directory has a name");
    replace_link(&dir.join(DATA), &dir.join(DATA_NEW), Path::new(name))?;
    link_top_level(dir, payload)?;
    if let Some(old) = current {
        let old = dir.join(old);
        fs::remove_dir_all(&old).map_err(VolumeError::io("removing", &old))?;
    }
    Ok(true)
}

/// Refuses paths that are absolute, climb, or collide with the layout's own names.
pub fn check_path(path: &str) -> Result<(), VolumeError> {
    let relative = Path::new(path).components().all(|c| matches!(c, Component::Normal(_)));
    if path.is_empty() || !relative || path.starts_with("..") {
        return Err(VolumeError::Path(path.to_owned()));
    }
    Ok(())
}

fn holds(dir: &Path, payload: &Payload) -> bool {
    let Ok(present) = list(dir, dir) else { return false };
    present.len() == payload.len()
        && payload.iter().all(|(path, file)| {
            let whole = dir.join(path);
            let same_mode = fs::metadata(&whole).is_ok_and(|m| m.permissions().mode() & 0o777 == file.mode & 0o777);
            present.contains(path) && same_mode && fs::read(&whole).is_ok_and(|data| data == file.data)
        })
}

fn list(root: &Path, dir: &Path) -> io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(list(root, &path)?);
        } else if let Ok(relative) = path.strip_prefix(root) {
            found.insert(relative.to_string_lossy().into_owned());
        }
    }
    Ok(found)
}

fn fresh_directory(dir: &Path) -> Result<std::path::PathBuf, VolumeError> {
    let stamp = strata_meta::Time::now().to_string().replace([':', '-', 'T', 'Z'], "_");
    for attempt in 0..1000 {
        let path = dir.join(format!("..{stamp}.{attempt}"));
        match fs::create_dir(&path) {
            Ok(()) => {
                set_mode(&path, 0o755)?;
                return Ok(path);
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(VolumeError::io("creating", &path)(e)),
        }
    }
    Err(VolumeError::io("creating", dir)(io::ErrorKind::AlreadyExists.into()))
}

fn set_mode(path: &Path, mode: u32) -> Result<(), VolumeError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(VolumeError::io("setting mode of", path))
}

fn fill(dir: &Path, payload: &Payload, group: Option<u32>) -> Result<(), VolumeError> {
    for (path, file) in payload {
        let whole = dir.join(path);
        if let Some(parent) = whole.parent() {
            fs::create_dir_all(parent).map_err(VolumeError::io("creating", parent))?;
        }
        let mut out = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&whole)
            .map_err(VolumeError::io("creating", &whole))?;
        io::Write::write_all(&mut out, &file.data).map_err(VolumeError::io("writing", &whole))?;
        let mut mode = file.mode & 0o777;
        if let Some(group) = group {
            std::os::unix::fs::fchown(&out, None, Some(group)).map_err(VolumeError::io("changing group of", &whole))?;
            mode |= 0o040;
        }
        set_mode(&whole, mode)?;
    }
    Ok(())
}

fn replace_link(link: &Path, temporary: &Path, target: &Path) -> Result<(), VolumeError> {
    match fs::remove_file(temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(VolumeError::io("removing", temporary)(e)),
        _ => {}
    }
    symlink(target, temporary).map_err(VolumeError::io("linking", temporary))?;
    fs::rename(temporary, link).map_err(VolumeError::io("renaming", link))
}

fn link_top_level(dir: &Path, payload: &Payload) -> Result<(), VolumeError> {
    let wanted: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &wanted {
        let link = dir.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link).map_err(VolumeError::io("linking", &link))?;
        }
    }
    for entry in fs::read_dir(dir).map_err(VolumeError::io("reading", dir))? {
        let entry = entry.map_err(VolumeError::io("reading", dir))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !wanted.contains(name.as_str()) {
            fs::remove_file(entry.path()).map_err(VolumeError::io("removing", &entry.path()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        files
            .iter()
            .map(|(path, text)| {
                let file = File {
                    data: text.as_bytes().to_vec(),
                    mode: 0o640,
                };
                ((*path).to_owned(), file)
            })
            .collect()
    }

    #[test]
    fn an_update_replaces_every_file_at_once_and_leaves_nothing_old() {
        let dir = tempfile::tempdir().unwrap();
        assert!(write(dir.path(), &payload(&[("a", "1"), ("d/b", "2")]), None).unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("d/b")).unwrap(), "2");
        assert!(!write(dir.path(), &payload(&[("a", "1"), ("d/b", "2")]), None).unwrap());
        assert!(write(dir.path(), &payload(&[("a", "3")]), None).unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "3");
        assert!(fs::symlink_metadata(dir.path().join("d")).is_err());
        // a, ..data and one generation
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        let mode = fs::metadata(dir.path().join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }

    #[test]
    fn paths_that_leave_the_volume_are_refused() {
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "..data", "./a"] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
        assert!(check_path("a/b.c").is_ok());
    }
}
