//! Which ids of the machine the users of a pod with a user namespace of its own are (KEP-127).
//!
//! Each such pod has 65,536 of them, which no other has while the pod's folder is there: a file in it says which.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};
use strata_engine::UserRange;
use strata_meta::Uid;

/// Ids of a pod.
const LENGTH: u32 = 65_536;
/// Ranges in all; the first one is the machine's own.
const RANGES: u32 = u32::MAX / LENGTH;
/// The file in a pod's folder that says which range is its.
const FILE: &str = "userns";

/// The ranges of a node's pods.
pub struct UserRanges {
    pods: PathBuf,
    /// Held while a range is looked for.
    looking: Mutex<()>,
}

impl UserRanges {
    /// Of pods that have their folders there.
    pub fn new(pods: PathBuf) -> Self {
        Self {
            pods,
            looking: Mutex::new(()),
        }
    }

    /// The range of a pod, the same as long as its folder is there. Blocking.
    ///
    /// Errors: all are taken, or the file system refuses.
    pub fn of(&self, pod: &Uid) -> io::Result<UserRange> {
        let _looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let own = self.pods.join(pod.as_str());
        let number = match read(&own)? {
            Some(number) => number,
            None => {
                let taken = self.taken()?;
                let free = (1..RANGES).find(|number| !taken.contains(number));
                let number = free.ok_or_else(|| io::Error::other("no ids are left for another user namespace"))?;
                fs::create_dir_all(&own)?;
                let draft = own.join(format!("{FILE}.draft"));
                fs::write(&draft, number.to_string())?;
                fs::rename(&draft, own.join(FILE))?;
                number
            }
        };
        let first = number * LENGTH;
        Ok(UserRange {
            uid: first,
            uids: LENGTH,
            gid: first,
            gids: LENGTH,
        })
    }

    fn taken(&self) -> io::Result<HashSet<u32>> {
        let mut taken = HashSet::new();
        for entry in fs::read_dir(&self.pods)? {
            taken.extend(read(&entry?.path())?);
        }
        Ok(taken)
    }
}

/// The number of the range that belongs to a pod's folder.
fn read(folder: &Path) -> io::Result<Option<u32>> {
    let text = match fs::read_to_string(folder.join(FILE)) {
        Ok(text) => text,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(e),
    };
    let number = text.trim().parse().ok().filter(|number| (1..RANGES).contains(number));
    let number = number.ok_or_else(|| io::Error::other(format!("{} holds no range", folder.display())))?;
    Ok(Some(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_keeps_its_range_and_shares_it_with_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let ranges = UserRanges::new(folder.path().to_owned());
        let of = |uid: &str| ranges.of(&Uid::from(uid)).expect("a range").uid;
        let (one, two) = (of("one"), of("two"));
        assert_eq!((one, two), (65_536, 131_072));
        assert_eq!(of("one"), one);
        fs::remove_dir_all(folder.path().join("one")).expect("removed");
        assert_eq!(of("three"), one);
        fs::write(folder.path().join("two").join(FILE), "x").expect("written");
        assert!(ranges.of(&Uid::from("two")).is_err());
    }
}
