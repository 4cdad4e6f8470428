//! The index as it was read last. Who asks for an image, which is often, reads the file only when it is another one.

use crate::ImageError;
use crate::records::{Folder, Index};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// A file that is replaced as a whole differs in one of these: inode, size, seconds and nanoseconds of its change.
type Stamp = (u64, u64, i64, i64);

/// Seconds within which the clock of a file system may not tell two files apart.
const YOUNG: i64 = 1;

/// The last index, and which file it was read from.
#[derive(Default)]
pub(crate) struct Seen(Mutex<Option<(Stamp, Arc<Index>)>>);

impl Seen {
    /// The index as it is now.
    pub fn index(&self, folder: &Folder) -> Result<Arc<Index>, ImageError> {
        let before = stamp(folder)?;
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(before), Some((stamp, index))) = (before, &*seen)
            && before == *stamp
        {
            return Ok(Arc::clone(index));
        }
        let index = Arc::new(folder.read_index()?);
        // One that was replaced meanwhile is not known by its stamp, nor is one so young that the next may have its.
        *seen = before
            .filter(|before| is_old(before) && stamp(folder).is_ok_and(|after| after == Some(*before)))
            .map(|stamp| (stamp, Arc::clone(&index)));
        Ok(index)
    }
}

fn is_old(stamp: &Stamp) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).is_ok_and(|now| now.saturating_sub(stamp.2) > YOUNG)
}

fn stamp(folder: &Folder) -> Result<Option<Stamp>, ImageError> {
    let path = folder.index_path();
    match std::fs::metadata(&path) {
        Ok(found) => Ok(Some((found.ino(), found.size(), found.ctime(), found.ctime_nsec()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ImageError::io("read", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_read_again_when_it_is_another() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path().to_owned()).unwrap();
        let seen = Seen::default();
        assert!(seen.index(&folder).unwrap().images.is_empty());
        let enter = |byte: u8| {
            folder.update_index(|index| {
                index.images.insert(crate::Digest::of(&[byte]), Default::default());
                Ok(())
            })
        };
        for count in 1..50 {
            enter(count).unwrap();
            assert_eq!(seen.index(&folder).unwrap().images.len(), usize::from(count));
            assert!(seen.0.lock().unwrap().is_none(), "it is too young to be known again");
        }
        let old = std::time::Instant::now();
        while seen.0.lock().unwrap().is_none() {
            assert!(old.elapsed().as_secs() < 30, "it is never remembered");
            assert_eq!(seen.index(&folder).unwrap().images.len(), 49);
        }
        let known = seen.index(&folder).unwrap();
        assert!(Arc::ptr_eq(&known, &seen.index(&folder).unwrap()));
        enter(200).unwrap();
        assert_eq!(seen.index(&folder).unwrap().images.len(), 50);
    }
}
