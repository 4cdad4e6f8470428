//! Layers are usable the moment they are unpacked and become crash-proof in the background.
//!
//! A layer's record carries the boot it was written in until the file system confirms that
//! all is on disk. After a crash of the machine (another boot), layers with such a mark
//! are dropped: a process crash needs none of this, the page cache survives it.

use crate::faults::{self, Step};
use crate::folder::open_root;
use crate::{ImageError, ImageStore};

impl ImageStore {
    /// Brings all layers to disk and takes their marks away. Blocking, possibly for seconds.
    pub(crate) fn sync_layers(&self) -> Result<(), ImageError> {
        let folder = &self.inner.folder;
        let pending = self.marked(|boot| boot == self.inner.boot())?;
        if pending.is_empty() {
            return Ok(());
        }
        let path = folder.layers();
        faults::step(Step::SyncedAll { root: path.clone() }).map_err(ImageError::io("sync", &path))?;
        let fd = open_root(&path).map_err(|errno| ImageError::io("open", &path)(errno.into()))?;
        rustix::fs::syncfs(&fd).map_err(|errno| ImageError::io("sync", &path)(errno.into()))?;
        for key in pending {
            if let Some(mut record) = folder.layer_record(&key)?
                && record.unsynced_since.as_deref() == Some(self.inner.boot())
            {
                record.unsynced_since = None;
                match folder.write_layer_record(&path.join(&key), &record) {
                    // Removed meanwhile.
                    Err(_) if !path.join(&key).exists() => {}
                    other => other?,
                }
            }
        }
        Ok(())
    }

    /// Removes layers that an earlier boot did not finish writing, and the images made of them.
    pub(crate) fn drop_torn_layers(&self) -> Result<(), ImageError> {
        let folder = &self.inner.folder;
        let mut torn = self.marked(|boot| boot != self.inner.boot())?;
        // A layer enters its place before an image that needs it enters the index, but a file
        // system may bring the second to disk and not the first.
        for record in folder.read_index()?.images.into_values() {
            for key in record.layers {
                if !torn.contains(&key) && !self.inner.has_layer(&key)? {
                    torn.push(key);
                }
            }
        }
        if torn.is_empty() {
            return Ok(());
        }
        tracing::warn!(
            count = torn.len(),
            "dropping layers that were not on disk when the machine went down"
        );
        folder.update_index(|index| {
            index
                .images
                .retain(|_, record| !record.layers.iter().any(|layer| torn.contains(layer)));
            Ok(())
        })?;
        for key in &torn {
            // Its distributed bytes were written at the same time and may be torn as well.
            for blob in folder.layer_record(key).ok().flatten().map_or(Vec::new(), |r| r.blobs) {
                let path = folder.blob(blob.digest);
                if path.exists() {
                    self.discard(&path)?;
                }
            }
            let place = folder.layers().join(key);
            if place.exists() {
                self.discard(&place)?;
            }
        }
        // Whatever else of them is here belongs to nobody now.
        self.sweep()?;
        Ok(())
    }

    fn marked(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, ImageError> {
        let folder = &self.inner.folder;
        let path = folder.layers();
        let mut found = Vec::new();
        for item in std::fs::read_dir(&path).map_err(ImageError::io("read directory", &path))? {
            let item = item.map_err(ImageError::io("read directory", &path))?;
            let Ok(key) = item.file_name().into_string() else {
                continue;
            };
            let record = match folder.layer_record(&key) {
                Ok(Some(record)) => record,
                // Renamed into place but torn, or removed meanwhile.
                Ok(None) => continue,
                Err(_) => {
                    found.push(key);
                    continue;
                }
            };
            if record.unsynced_since.as_deref().is_some_and(&wanted) {
                found.push(key);
            }
        }
        Ok(found)
    }
}
