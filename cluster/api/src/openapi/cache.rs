//! Documents that were asked for, compressed.

use super::answer::Encoding;
use crate::encode::gzip;
use bytes::Bytes;
use std::sync::Mutex;
use strata_meta::Status;

/// Together they are not longer, but for one that is longer alone.
const MOST_BYTES: usize = 4 << 20;

/// Which document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Which {
    /// `v2`, or the path below `/openapi/v3/`.
    pub(super) path: String,
    /// Its form.
    pub(super) encoding: Encoding,
}

/// Kept documents, the one asked for last at the end.
#[derive(Default)]
pub(crate) struct Cache(Mutex<Vec<Kept>>);

struct Kept {
    which: Which,
    hash: String,
    compressed: Bytes,
}

impl Cache {
    /// The document with a hash, compressed; made if it is not there or has changed. Errors: those of `make`, 500.
    pub(super) fn get(
        &self,
        which: Which,
        hash: &str,
        make: impl FnOnce() -> Result<Vec<u8>, Status>,
    ) -> Result<Bytes, Status> {
        if let Some(found) = self.find(&which, hash) {
            return Ok(found);
        }
        let compressed = Bytes::from(gzip::compress(&make()?).map_err(Status::internal)?);
        let mut kept = self.0.lock().expect("no panic under this lock");
        kept.retain(|other| other.which != which);
        kept.push(Kept {
            which,
            hash: hash.to_owned(),
            compressed: compressed.clone(),
        });
        let mut length: usize = kept.iter().map(|other| other.compressed.len()).sum();
        while length > MOST_BYTES && kept.len() > 1 {
            length -= kept.remove(0).compressed.len();
        }
        Ok(compressed)
    }

    fn find(&self, which: &Which, hash: &str) -> Option<Bytes> {
        let mut kept = self.0.lock().expect("no panic under this lock");
        let at = kept
            .iter()
            .position(|other| other.which == *which && other.hash == hash)?;
        let found = kept.remove(at);
        let compressed = found.compressed.clone();
        kept.push(found);
        Some(compressed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn which(path: &str) -> Which {
        Which {
            path: path.to_owned(),
            encoding: Encoding::Json,
        }
    }

    #[test]
    fn a_document_is_made_once_for_each_hash() {
        let cache = Cache::default();
        let get = |hash: &str, text: &str| {
            let found = cache.get(which("v2"), hash, || Ok(text.into())).expect("made");
            gzip::expand(&found).expect("gzip")
        };
        assert_eq!(get("a", "first"), b"first");
        assert_eq!(get("a", "not made"), b"first");
        assert_eq!(get("b", "second"), b"second");
        assert_eq!(cache.0.lock().expect("lock").len(), 1);
    }

    #[test]
    fn what_was_not_asked_for_goes_first() {
        let cache = Cache::default();
        let mut state = 1_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let long: Vec<u8> = (0..MOST_BYTES / 5 * 2).map(|_| noise()).collect();
        for path in ["a", "b", "a", "c"] {
            cache.get(which(path), "", || Ok(long.clone())).expect("made");
        }
        let kept = cache.0.lock().expect("lock");
        let paths: Vec<&str> = kept.iter().map(|kept| kept.which.path.as_str()).collect();
        assert_eq!(paths, ["a", "c"]);
    }
}
