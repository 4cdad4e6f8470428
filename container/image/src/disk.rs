//! Files of the store: written whole or not at all.

use crate::ImageError;
use crate::faults::{self, Step};
use rustix::fs::{FlockOperation, flock};
use serde::{Serialize, de::DeserializeOwned};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes a folder that only this user can enter, with its parents.
pub(crate) fn make_folder(path: &Path, mode: u32) -> Result<(), ImageError> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(ImageError::io("create directory", path))
}

/// Replaces a file atomically and durably: after a crash it is the old or the new one, whole.
pub(crate) fn replace_file(path: &Path, content: &[u8]) -> Result<(), ImageError> {
    replace(path, content, true)
}

fn replace(path: &Path, content: &[u8], durable: bool) -> Result<(), ImageError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let draft = folder.join(format!(".{}", unique_name()));
    let written = (|| {
        faults::step(Step::Written {
            path: path.to_owned(),
            durable,
        })?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(content)?;
        if !durable {
            return fs::rename(&draft, path);
        }
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(folder)?.sync_all()
    })();
    written.map_err(|error| {
        // The draft is gone already if the rename happened.
        let _ = fs::remove_file(&draft);
        ImageError::io("write", path)(error)
    })
}

/// [`replace_file`] with a document.
pub(crate) fn replace_document(path: &Path, document: &impl Serialize) -> Result<(), ImageError> {
    replace_file(path, &encode(path, document)?)
}

/// Replaces a document atomically; a crash of the machine may lose or tear it.
pub(crate) fn replace_volatile(path: &Path, document: &impl Serialize) -> Result<(), ImageError> {
    replace(path, &encode(path, document)?, false)
}

fn encode(path: &Path, document: &impl Serialize) -> Result<Vec<u8>, ImageError> {
    serde_json::to_vec(document).map_err(|error| ImageError::io("encode", path)(error.into()))
}

/// Reads a document; `None` if there is no such file.
pub(crate) fn read_document<T: DeserializeOwned>(path: &Path, limit: u64) -> Result<Option<T>, ImageError> {
    match read_bounded(path, limit)? {
        None => Ok(None),
        Some(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| ImageError::io("read", path)(io::Error::new(io::ErrorKind::InvalidData, error))),
    }
}

/// Reads a whole file that must not be larger than `limit`; `None` if there is no such file.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, ImageError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ImageError::io("open", path)(error)),
    };
    let mut content = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut content)
        .map_err(ImageError::io("read", path))?;
    if content.len() as u64 > limit {
        return Err(ImageError::io("read", path)(io::Error::new(
            io::ErrorKind::InvalidData,
            "larger than allowed",
        )));
    }
    Ok(Some(content))
}

/// A name no other process or call of this machine's uptime uses.
pub(crate) fn unique_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |time| time.as_nanos());
    format!("{}-{nanos}-{count}", std::process::id())
}

/// A lock on a file of the store, held while this lives; other processes see it too.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock. Blocking.
    pub fn wait(path: PathBuf, exclusive: bool) -> Result<Self, ImageError> {
        let operation = if exclusive {
            FlockOperation::LockExclusive
        } else {
            FlockOperation::LockShared
        };
        Self::take(path, operation)?.ok_or(ImageError::Interrupted)
    }

    /// The exclusive lock, or `None` if anybody holds it.
    pub fn attempt(path: PathBuf) -> Result<Option<Self>, ImageError> {
        Self::take(path, FlockOperation::NonBlockingLockExclusive)
    }

    fn take(path: PathBuf, operation: FlockOperation) -> Result<Option<Self>, ImageError> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(ImageError::io("open", &path))?;
        loop {
            match flock(&file, operation) {
                Ok(()) => return Ok(Some(Self { _file: file })),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(errno) => return Err(ImageError::io("lock", path)(errno.into())),
            }
        }
    }
}

/// Announces that something gets its final name.
pub(crate) fn rename_step(from: &Path, to: &Path) -> Result<(), ImageError> {
    let step = Step::Renamed {
        from: from.to_owned(),
        to: to.to_owned(),
    };
    faults::step(step).map_err(ImageError::io("rename", to))
}

/// Brings a file's content to disk.
pub(crate) fn sync_file(path: &Path) -> Result<(), ImageError> {
    faults::step(Step::Synced { path: path.to_owned() })
        .and_then(|()| File::open(path)?.sync_all())
        .map_err(ImageError::io("sync", path))
}

/// A folder that disappears with its content unless it is kept.
#[derive(Debug)]
pub(crate) struct Draft {
    path: PathBuf,
    kept: bool,
}

impl Draft {
    /// Makes a fresh folder below `parent`.
    pub fn new(parent: &Path) -> Result<Self, ImageError> {
        let path = parent.join(unique_name());
        make_folder(&path, 0o700)?;
        Ok(Self { path, kept: false })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the folder to its final place; false if there is one already, which wins.
    pub fn keep_as(mut self, target: &Path) -> Result<bool, ImageError> {
        rename_step(&self.path, target)?;
        match fs::rename(&self.path, target) {
            Ok(()) => {
                self.kept = true;
                Ok(true)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(ImageError::io("rename", target)(error)),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept
            && !faults::ended(&self.path)
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "left a half-made folder behind");
        }
    }
}
