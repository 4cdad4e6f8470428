//! Space that folders take on disk, looked at no more than now and then.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a count is good; a kubelet asks every ten seconds.
const GOOD_FOR: Duration = Duration::from_secs(30);
/// Files that are looked at; a larger folder is counted in part.
const MAX_FILES: u64 = 4_000_000;

/// Bytes and inodes by folder.
#[derive(Clone, Default)]
pub(crate) struct Space(Arc<Mutex<HashMap<PathBuf, Count>>>);

/// When, bytes, inodes.
type Count = (Instant, u64, u64);

impl Space {
    /// Bytes and inodes below a folder. Blocking; a second caller waits for the first.
    pub fn of(&self, folder: &Path) -> (u64, u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(folder) {
            Some((at, bytes, inodes)) if at.elapsed() < GOOD_FOR => (*bytes, *inodes),
            _ => {
                let (bytes, inodes) = count(folder);
                known.insert(folder.to_owned(), (Instant::now(), bytes, inodes));
                (bytes, inodes)
            }
        }
    }
}

/// What vanishes while it is looked at counts nothing; what is mounted below is another file system's.
fn count(folder: &Path) -> (u64, u64) {
    let (mut bytes, mut inodes) = (0, 0);
    let Ok(device) = fs::metadata(folder).map(|metadata| metadata.dev()) else {
        return (0, 0);
    };
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(items) = fs::read_dir(&folder) else { continue };
        for item in items.flatten() {
            let Ok(metadata) = item.metadata() else { continue };
            if metadata.dev() != device {
                continue;
            }
            inodes += 1;
            bytes += metadata.blocks() * 512;
            if inodes >= MAX_FILES {
                return (bytes, inodes);
            }
            if metadata.is_dir() {
                folders.push(item.path());
            }
        }
    }
    (bytes, inodes)
}
