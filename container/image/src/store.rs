//! The store of images on this machine.

use crate::disk::{Draft, make_folder, sync_file};
use crate::layer::{Blob, Expected, Plan, apply};
use crate::records::{Folder, ImageRecord, LayerRecord, Lease};
use crate::seen::Seen;
use crate::transport::Transport;
use crate::unpack::UnpackLimits;
use crate::{Digest, Image, ImageError, ImageOptions};
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::Semaphore;

/// Entries that one layer may have.
const MAX_ENTRIES: u64 = 4_000_000;

/// The images of this machine. Cheap to clone; several processes may open the same folder.
#[derive(Clone)]
pub struct ImageStore {
    pub(crate) inner: Arc<Inner>,
}

/// A layer that was added.
pub(crate) struct Added {
    pub diff: Digest,
    /// The form in which it arrived, or is kept.
    pub blob: Blob,
}

pub(crate) struct Inner {
    pub options: ImageOptions,
    pub folder: Folder,
    pub transport: Arc<Transport>,
    /// Layers fetched at the same time, over all pulls of this process.
    pub layer_slots: Semaphore,
    boot: String,
    seen: Seen,
    /// Layers being made by this process, so that two pulls do not fetch one twice.
    making: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl ImageStore {
    /// Opens the store, making it if it does not exist. Blocking.
    ///
    /// Layers that a crash of the machine may have torn are dropped, with the images that need them.
    pub fn open(options: ImageOptions) -> Result<Self, ImageError> {
        let folder = Folder::open(options.root.clone())?;
        let path = "/proc/sys/kernel/random/boot_id";
        let boot = std::fs::read_to_string(path)
            .map_err(ImageError::io("read", path))?
            .trim()
            .to_owned();
        let inner = Inner {
            transport: Arc::new(Transport::new(options.proxy.clone())),
            layer_slots: Semaphore::new(options.parallel_layers.max(1)),
            options,
            folder,
            boot,
            seen: Seen::default(),
            making: Mutex::new(HashMap::new()),
        };
        let store = Self { inner: Arc::new(inner) };
        store.drop_torn_layers()?;
        Ok(store)
    }

    /// The image with that name, digest or (abbreviated) id, if it is here.
    pub fn resolve(&self, reference: &str) -> Result<Option<Image>, ImageError> {
        let index = self.inner.seen.index(&self.inner.folder)?;
        Ok(index
            .find(reference)
            .map(|(id, record)| self.inner.folder.image(id, record)))
    }

    /// All images.
    pub fn list(&self) -> Result<Vec<Image>, ImageError> {
        let index = self.inner.seen.index(&self.inner.folder)?;
        Ok(index
            .images
            .iter()
            .map(|(id, record)| self.inner.folder.image(*id, record))
            .collect())
    }

    /// Gives an image one more name.
    pub fn tag(&self, source: &str, target: &str) -> Result<(), ImageError> {
        let target: crate::Reference = target.parse()?;
        let tag = target.tagged().ok_or_else(|| ImageError::InvalidReference {
            name: target.to_string(),
            why: "a new name needs a tag, not a digest",
        })?;
        self.inner.folder.update_index(|index| {
            let (id, record) = index
                .find(source)
                .ok_or_else(|| ImageError::Absent(source.to_owned()))?;
            let target = target_of(record, source);
            let mut record = record.clone();
            record.targets = target.map(|target| (tag.clone(), target)).into_iter().collect();
            record.tags = [tag].into();
            index.name(id, record);
            Ok(())
        })
    }

    /// Marks an image as used by `owner` until [`ImageStore::release`]; survives restarts.
    pub fn lease(&self, owner: &str, image: &Image) -> Result<(), ImageError> {
        let folder = &self.inner.folder;
        let _adding = folder.lock_adding()?;
        let index = folder.read_index()?;
        let record = index
            .images
            .get(&image.id)
            .ok_or_else(|| ImageError::Absent(image.id.to_string()))?;
        folder.write_lease(
            owner,
            &Lease {
                image: image.id,
                layers: record.layers.clone(),
            },
        )
    }

    /// Ends a use; no error if there was none.
    pub fn release(&self, owner: &str) -> Result<(), ImageError> {
        self.inner.folder.remove_lease(owner)
    }

    /// The owners of all leases.
    pub fn lease_owners(&self) -> Result<Vec<String>, ImageError> {
        Ok(self
            .inner
            .folder
            .leases()?
            .into_iter()
            .map(|(owner, _)| owner)
            .collect())
    }
}

impl Inner {
    /// Whether a layer is here, whole.
    pub fn has_layer(&self, key: &str) -> Result<bool, ImageError> {
        Ok(self.folder.layer_record(key)?.is_some())
    }

    /// Waits for other makers of that layer in this process; hold the guard while making it.
    pub async fn making(&self, key: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
            making.retain(|_, lock| lock.strong_count() > 0);
            match making.get(key).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::new(tokio::sync::Mutex::new(()));
                    making.insert(key.to_owned(), Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }

    /// Unpacks a layer from its bytes into its place; with `keep`, its bytes stay too. Blocking.
    ///
    /// A layer whose files are here already is only checked, and kept.
    pub fn add_layer(&self, source: impl Read + Send, expected: Expected, keep: bool) -> Result<Added, ImageError> {
        let present = match expected.diff {
            Some(diff) => self.has_layer(&diff.hex())?,
            None => false,
        };
        let draft = Draft::new(&self.folder.drafts())?;
        let (files, blob) = (draft.path().join("fs"), draft.path().join("blob"));
        if !present {
            make_folder(&files, 0o755)?;
        }
        let plan = Plan {
            files: (!present).then_some(files.as_path()),
            limits: self.limits(),
            keep: keep.then_some(blob.as_path()),
        };
        let applied = apply(source, expected, &plan)?;
        let key = applied.diff.hex();
        let added = Added {
            diff: applied.diff,
            blob: applied.blob,
        };
        if present {
            if keep {
                // Nothing else says whether these bytes are on disk.
                sync_file(&blob)?;
                self.remember_blob(&key, applied.blob)?;
                self.folder.take_blob(&blob, applied.blob.digest)?;
            }
            return Ok(added);
        }
        let unpacked = applied.unpacked;
        let record = LayerRecord {
            bytes: unpacked.bytes,
            unsynced_since: Some(self.boot.clone()),
            implied: unpacked.implied.into_iter().map(OsString::from_vec).collect(),
            foreign_links: unpacked
                .foreign_links
                .into_iter()
                .map(|(name, target)| (OsString::from_vec(name), OsString::from_vec(target)))
                .collect(),
            blobs: keep.then_some(applied.blob).into_iter().collect(),
        };
        // Out of the folder that becomes the layer's; it goes with the draft if that fails.
        let aside = match keep {
            true => Some(Draft::new(&self.folder.drafts())?),
            false => None,
        };
        let kept = aside.as_ref().map(|aside| aside.path().join("blob"));
        if let Some(kept) = &kept {
            std::fs::rename(&blob, kept).map_err(ImageError::io("rename", kept))?;
        }
        self.folder.write_layer_record(draft.path(), &record)?;
        let is_ours = draft.keep_as(&self.folder.layers().join(&key))?;
        // Only now: bytes without a layer's mark would be believed after a crash of the machine.
        if let Some(kept) = &kept {
            if !is_ours {
                sync_file(kept)?;
                self.remember_blob(&key, applied.blob)?;
            }
            self.folder.take_blob(kept, applied.blob.digest)?;
        }
        Ok(added)
    }

    fn limits(&self) -> UnpackLimits {
        UnpackLimits {
            bytes: self.options.max_layer_size,
            entries: MAX_ENTRIES,
            allow_absolute: self.options.allow_absolute_names,
            allow_devices: self.options.allow_devices,
        }
    }

    /// Writes down that a layer is distributed in this form.
    pub fn remember_blob(&self, key: &str, blob: Blob) -> Result<(), ImageError> {
        let Some(mut record) = self.folder.layer_record(key)? else {
            return Ok(());
        };
        if !record.blobs.contains(&blob) {
            record.blobs.push(blob);
            self.folder
                .write_layer_record(&self.folder.layers().join(key), &record)?;
        }
        Ok(())
    }

    /// Whether a layer's bytes with this digest are kept.
    pub fn is_kept(&self, key: &str, digest: Digest) -> Result<bool, ImageError> {
        let record = self.folder.layer_record(key)?;
        let known = record.is_some_and(|record| record.blobs.iter().any(|blob| blob.digest == digest));
        Ok(known && self.folder.blob(digest).exists())
    }

    /// A kept form of a layer whose bytes are here.
    pub fn kept_layer(&self, key: &str) -> Result<Option<Blob>, ImageError> {
        let record = self.folder.layer_record(key)?;
        let blobs = record.map(|record| record.blobs);
        Ok(blobs
            .into_iter()
            .flatten()
            .find(|blob| self.folder.blob(blob.digest).exists()))
    }

    /// A record that is marked as not known to be on disk yet.
    pub fn fresh_record(&self) -> LayerRecord {
        LayerRecord {
            unsynced_since: Some(self.boot.clone()),
            ..LayerRecord::default()
        }
    }

    /// Enters an image into the index. Blocking.
    pub fn enter(&self, id: Digest, mut record: ImageRecord) -> Result<Image, ImageError> {
        record.entered = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |time| time.as_secs());
        self.folder.update_index(|index| {
            index.name(id, record);
            let (_, record) = index
                .find(&id.to_string())
                .ok_or_else(|| ImageError::Absent(id.to_string()))?;
            Ok(self.folder.image(id, record))
        })
    }

    pub fn boot(&self) -> &str {
        &self.boot
    }
}

/// The manifest or index that a text naming this image means.
pub(crate) fn target_of(record: &ImageRecord, text: &str) -> Option<Digest> {
    let reference: Option<crate::Reference> = text.parse().ok();
    let by_digest = reference.as_ref().and_then(|reference| reference.digest);
    let by_tag = reference
        .and_then(|reference| reference.tagged())
        .and_then(|tag| record.targets.get(&tag).copied());
    by_digest
        .filter(|digest| record.digests.iter().any(|name| name.ends_with(&digest.to_string())))
        .or(by_tag)
        .or(record.manifest)
        .or_else(|| record.targets.values().next().copied())
}
