//! The few file operations the log is made of, so that a crash can be simulated.

use crate::Error;
use rustix::fs::{FallocateFlags, FlockOperation, Mode, OFlags};
use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// A flat directory. Names become durable by [`Disk::sync`], contents by [`DiskFile::sync`].
pub(crate) trait Disk: Send + Sync {
    /// Names and sizes of all files.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// Makes a file of `size` allocated bytes, in place of any of that name.
    fn create(&self, name: &str, size: u64) -> io::Result<Arc<dyn DiskFile>>;
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
}

pub(crate) trait DiskFile: Send + Sync {
    fn size(&self) -> io::Result<u64>;
    /// Reads until `bytes` is full or the file ends.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
}

/// A directory of the machine, held by this process.
pub(crate) struct Directory {
    path: PathBuf,
    directory: File,
    _lock: File,
}

const LOCK: &str = "lock";

impl Directory {
    /// Takes a directory for this process alone, making it if `create`.
    pub fn take(path: &Path, create: bool) -> Result<Self, Error> {
        let named = |action: &str| format!("{action} {}", path.display());
        if create && !path.exists() {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|error| Error::io(named("making directory"), error))?;
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                let synced = File::open(parent).and_then(|parent| parent.sync_all());
                synced.map_err(|error| Error::io(named("syncing the parent of"), error))?;
            }
        }
        let directory = File::open(path).map_err(|error| Error::io(named("opening directory"), error))?;
        let lock = lock(path).map_err(|error| match error {
            LockError::Held(pid) => Error::Held {
                directory: path.to_owned(),
                pid,
            },
            LockError::Io(error) => Error::io(named("locking"), error),
        })?;
        Ok(Self {
            path: path.to_owned(),
            directory,
            _lock: lock,
        })
    }
}

enum LockError {
    Held(Option<u32>),
    Io(io::Error),
}

fn lock(path: &Path) -> Result<File, LockError> {
    let mut options = File::options();
    let opened = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path.join(LOCK));
    let mut file = opened.map_err(LockError::Io)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let read = (&mut file).take(16).read_to_string(&mut pid);
            return Err(LockError::Held(read.ok().and_then(|_| pid.trim().parse().ok())));
        }
        Err(error) => return Err(LockError::Io(error.into())),
    }
    let pid = std::process::id();
    let written = file.set_len(0).and_then(|()| writeln!(file, "{pid}"));
    written.map_err(LockError::Io)?;
    Ok(file)
}

impl Disk for Directory {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() && entry.file_name() != LOCK {
                files.push((entry.file_name().to_string_lossy().into_owned(), metadata.len()));
            }
        }
        files.sort();
        Ok(files)
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Arc<dyn DiskFile>> {
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = File::from(rustix::fs::openat(
            &self.directory,
            name,
            flags,
            Mode::RUSR | Mode::WUSR,
        )?);
        if size > 0
            && let Err(error) = allocate(&file, size)
        {
            std::fs::remove_file(self.path.join(name))?;
            return Err(error);
        }
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(Arc::new(File::from(rustix::fs::openat(
            &self.directory,
            name,
            flags,
            Mode::empty(),
        )?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.directory, from, &self.directory, to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        self.directory.sync_all()
    }
}

fn allocate(file: &File, size: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size) {
        Ok(()) => Ok(()),
        // File systems that cannot promise space: the zeros written later take it.
        Err(rustix::io::Errno::OPNOTSUPP) => zero(file, 0, size),
        Err(error) => Err(error.into()),
    }
}

/// Writes zeros, so that later writes change no metadata and their sync is cheap.
pub(crate) fn zero(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; (to.saturating_sub(from)).min(256 << 10) as usize];
    let mut at = from;
    while at < to {
        let count = (to - at).min(zeros.len() as u64);
        file.write_at(&zeros[..count as usize], at)?;
        at += count;
    }
    Ok(())
}

impl DiskFile for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < bytes.len() {
            match FileExt::read_at(self, &mut bytes[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Reads a file from its beginning.
pub(crate) struct FileReader<'a> {
    pub file: &'a dyn DiskFile,
    pub offset: u64,
}

impl Read for FileReader<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(bytes, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// Writes a file from its beginning.
pub(crate) struct FileWriter<'a> {
    pub file: &'a dyn DiskFile,
    pub offset: u64,
}

impl Write for FileWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
