//! Removing the cgroups that a killed node has left.

use std::{fs, io, path::Path};

/// Removes the cgroup of that name, and all below it, from every hierarchy.
pub fn remove(name: &str) {
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else {
        return;
    };
    for line in mounts.lines() {
        let Some((fields, filesystem)) = line.split_once(" - ") else {
            continue;
        };
        let Some(point) = fields.split(' ').nth(4) else {
            continue;
        };
        if filesystem.starts_with("cgroup") {
            let path = Path::new(point).join(name);
            match remove_tree(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "a cgroup could not be removed");
                }
                _ => {}
            }
        }
    }
}

fn remove_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}
