//! The store of images on this machine.

use crate::disk::{Draft, make_folder};
use crate::layer::{Expected, apply};
use crate::records::{Folder, ImageRecord, LayerRecord, Lease};
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

pub(crate) struct Inner {
    pub options: ImageOptions,
    pub folder: Folder,
    pub transport: Arc<Transport>,
    /// Layers fetched at the same time, over all pulls of this process.
    pub layer_slots: Semaphore,
    boot: String,
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
            making: Mutex::new(HashMap::new()),
        };
        let store = Self { inner: Arc::new(inner) };
        store.drop_torn_layers()?;
        Ok(store)
    }

    /// The image with that name, digest or (abbreviated) id, if it is here.
    pub fn resolve(&self, reference: &str) -> Result<Option<Image>, ImageError> {
        let index = self.inner.folder.read_index()?;
        Ok(index
            .find(reference)
            .map(|(id, record)| self.inner.folder.image(id, record)))
    }

    /// All images.
    pub fn list(&self) -> Result<Vec<Image>, ImageError> {
        let index = self.inner.folder.read_index()?;
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
            let mut record = record.clone();
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

    /// Unpacks a layer from its bytes into its place. Blocking.
    pub fn add_layer(&self, source: impl Read, expected: Expected) -> Result<(), ImageError> {
        let draft = Draft::new(&self.folder.drafts())?;
        let files = draft.path().join("fs");
        make_folder(&files, 0o755)?;
        let limits = UnpackLimits {
            bytes: self.options.max_layer_size,
            entries: MAX_ENTRIES,
            allow_absolute: self.options.allow_absolute_names,
        };
        let unpacked = apply(source, expected, &files, limits)?;
        let record = LayerRecord {
            bytes: unpacked.bytes,
            unsynced_since: Some(self.boot.clone()),
            implied: unpacked.implied.into_iter().map(OsString::from_vec).collect(),
            foreign_links: unpacked
                .foreign_links
                .into_iter()
                .map(|(name, target)| (OsString::from_vec(name), OsString::from_vec(target)))
                .collect(),
        };
        self.folder.write_layer_record(draft.path(), &record)?;
        draft.keep_as(&self.folder.layers().join(expected.diff.hex()))?;
        Ok(())
    }

    /// A record that is marked as not known to be on disk yet.
    pub fn fresh_record(&self) -> LayerRecord {
        LayerRecord {
            unsynced_since: Some(self.boot.clone()),
            ..LayerRecord::default()
        }
    }

    /// Enters an image into the index. Blocking.
    pub fn enter(&self, id: Digest, record: ImageRecord) -> Result<Image, ImageError> {
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
