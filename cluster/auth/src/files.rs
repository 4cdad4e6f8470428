//! Files that only their owner may read, replaced as a whole or not at all.

use crate::Error;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown},
    path::Path,
};

/// Writes a file with mode 0600 so that readers see the old content or the new, even after a crash. A file that is
/// there keeps its owner: root may edit the kubeconfig of a user.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), Error> {
    let wrap = |error| Error::File {
        path: path.to_owned(),
        error,
    };
    let directory = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let name = path
        .file_name()
        .ok_or_else(|| wrap(io::ErrorKind::InvalidInput.into()))?;
    let temporary = directory.join(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id()));
    let result = write_then_rename(&temporary, path, directory, content);
    if result.is_err() {
        // The error that matters is the one above; a leftover is overwritten by the next attempt.
        let _ = fs::remove_file(&temporary);
    }
    result.map_err(wrap)
}

fn write_then_rename(temporary: &Path, path: &Path, directory: &Path, content: &[u8]) -> io::Result<()> {
    match fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)?;
    if let Ok(old) = fs::symlink_metadata(path) {
        let new = file.metadata()?;
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
    }
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    File::open(directory)?.sync_all()
}

/// Makes a directory, and those above it, for its owner alone.
pub fn create_private_dir(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::File {
            path: path.to_owned(),
            error,
        })
}

/// Reads a file as text; `None` if there is none.
pub fn read_text(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::File {
            path: path.to_owned(),
            error,
        }),
    }
}
