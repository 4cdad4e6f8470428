//! What the store remembers on disk.
//!
//! ```text
//! format            version of this layout
//! lock              shared while content is being added, exclusive while it is removed
//! index.lock        exclusive while index.json is replaced
//! index.json        images by id
//! blobs/sha256/HEX  manifests and configurations; layers as distributed if that is wanted
//! layers/HEX/fs     an unpacked layer in overlayfs' form; HEX is its diff id
//! layers/HEX/layer.json
//! leases/OWNER.json which layers a container uses
//! drafts/           what is being made; worthless while nobody holds `lock` shared
//! ```

use crate::disk::{Lock, make_folder, read_document, rename_step, replace_document, replace_file, replace_volatile};
use crate::layer::Blob;
use crate::{Digest, Image, ImageConfig, ImageError};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Version of the layout above.
const FORMAT: u32 = 1;
const MAX_INDEX: u64 = 64 << 20;
const MAX_LAYER_RECORD: u64 = 256 << 20;
const MAX_LEASE: u64 = 1 << 20;

/// The store's folder.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    pub root: PathBuf,
}

/// All images by id.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Index {
    #[serde(default)]
    pub images: BTreeMap<Digest, ImageRecord>,
}

/// One image.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    #[serde(default)]
    pub tags: BTreeSet<String>,
    #[serde(default)]
    pub digests: BTreeSet<String>,
    /// Documents kept for it.
    #[serde(default)]
    pub blobs: BTreeSet<Digest>,
    #[serde(default)]
    pub config: ImageConfig,
    /// Folders in `layers/`, bottom first.
    pub layers: Vec<String>,
    #[serde(default)]
    pub size: u64,
    #[serde(default)]
    pub created: Option<String>,
    /// The manifest or index that a name stood for when it was given.
    #[serde(default)]
    pub targets: BTreeMap<String, Digest>,
    /// The manifest of this image; absent if none came with it.
    #[serde(default)]
    pub manifest: Option<Digest>,
    /// `registry/repository@digest` names of images that it has layers of.
    #[serde(default)]
    pub sources: BTreeSet<String>,
    /// Seconds since 1970 when it was entered here.
    #[serde(default)]
    pub entered: u64,
}

/// What is known of an unpacked layer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    /// Bytes of its files.
    #[serde(default)]
    pub bytes: u64,
    /// The boot in which it was written, until it is known to be on disk; another boot's layer may be torn.
    #[serde(default)]
    pub unsynced_since: Option<String>,
    /// Folders without an entry of their own in the layer.
    #[serde(default)]
    pub implied: Vec<OsString>,
    /// Hard links to files of lower layers: name, target.
    #[serde(default)]
    pub foreign_links: Vec<(OsString, OsString)>,
    /// Its distributed forms that may be kept in `blobs/`.
    #[serde(default)]
    pub blobs: Vec<Blob>,
}

/// What a container uses.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub image: Digest,
    pub layers: Vec<String>,
}

impl Folder {
    /// Opens or makes the layout.
    pub fn open(root: PathBuf) -> Result<Self, ImageError> {
        for part in ["blobs/sha256", "layers", "leases", "drafts"] {
            make_folder(&root.join(part), 0o700)?;
        }
        let folder = Self { root };
        let format = folder.root.join("format");
        match read_document::<u32>(&format, 64)? {
            None => replace_file(&format, FORMAT.to_string().as_bytes())?,
            Some(found) if found > FORMAT => {
                return Err(ImageError::NewerFormat {
                    path: folder.root,
                    found,
                    known: FORMAT,
                });
            }
            Some(_) => {}
        }
        Ok(folder)
    }

    /// Held while content is added, so that nobody removes it before the index names it. Blocking.
    pub fn lock_adding(&self) -> Result<Lock, ImageError> {
        Lock::wait(self.root.join("lock"), false)
    }

    /// Held while unused content is removed; `None` while somebody adds.
    pub fn try_lock_removing(&self) -> Result<Option<Lock>, ImageError> {
        Lock::attempt(self.root.join("lock"))
    }

    pub fn index_path(&self) -> PathBuf {
        self.root.join("index.json")
    }

    pub fn read_index(&self) -> Result<Index, ImageError> {
        Ok(read_document(&self.index_path(), MAX_INDEX)?.unwrap_or_default())
    }

    /// Changes the index under its lock; nothing is written if the change fails or changes nothing.
    pub fn update_index<T>(&self, change: impl FnOnce(&mut Index) -> Result<T, ImageError>) -> Result<T, ImageError> {
        let _lock = Lock::wait(self.root.join("index.lock"), true)?;
        let mut index = self.read_index()?;
        let result = change(&mut index)?;
        replace_document(&self.index_path(), &index)?;
        Ok(result)
    }

    pub fn drafts(&self) -> PathBuf {
        self.root.join("drafts")
    }

    pub fn blob(&self, digest: Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    /// Keeps a document.
    pub fn put_blob(&self, digest: Digest, content: &[u8]) -> Result<(), ImageError> {
        let path = self.blob(digest);
        if path.exists() {
            Ok(())
        } else {
            replace_file(&path, content)
        }
    }

    /// Moves a file with this digest to its place among the blobs.
    pub fn take_blob(&self, file: &Path, digest: Digest) -> Result<(), ImageError> {
        let path = self.blob(digest);
        rename_step(file, &path)?;
        std::fs::rename(file, &path).map_err(ImageError::io("rename", path))
    }

    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// The layer's files.
    pub fn layer_files(&self, key: &str) -> PathBuf {
        self.layers().join(key).join("fs")
    }

    pub fn layer_record(&self, key: &str) -> Result<Option<LayerRecord>, ImageError> {
        read_document(&self.layers().join(key).join("layer.json"), MAX_LAYER_RECORD)
    }

    pub fn write_layer_record(&self, folder: &Path, record: &LayerRecord) -> Result<(), ImageError> {
        replace_document(&folder.join("layer.json"), record)
    }

    fn lease_path(&self, owner: &str) -> Result<PathBuf, ImageError> {
        // The owner becomes a file name.
        let safe = !owner.is_empty()
            && owner.len() <= 128
            && owner
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !safe {
            let why = "a lease's owner must be letters, digits, - and _";
            return Err(ImageError::InvalidReference {
                name: owner.to_owned(),
                why,
            });
        }
        Ok(self.root.join("leases").join(format!("{owner}.json")))
    }

    pub fn write_lease(&self, owner: &str, lease: &Lease) -> Result<(), ImageError> {
        // Containers do not outlive the machine's crash, so their leases need not either.
        replace_volatile(&self.lease_path(owner)?, lease)
    }

    /// Writes down that an image is in use at this moment: the time of its configuration's file.
    pub fn mark_use(&self, id: Digest) -> Result<(), ImageError> {
        let path = self.blob(id);
        match std::fs::File::open(&path).and_then(|file| file.set_modified(std::time::SystemTime::now())) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ImageError::io("touch", path)(error)),
            _ => Ok(()),
        }
    }

    /// When an image was used last, or came.
    pub fn last_use(&self, id: Digest) -> Result<std::time::SystemTime, ImageError> {
        let path = self.blob(id);
        match std::fs::metadata(&path).and_then(|metadata| metadata.modified()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(std::time::SystemTime::UNIX_EPOCH),
            other => other.map_err(ImageError::io("read", path)),
        }
    }

    pub fn remove_lease(&self, owner: &str) -> Result<(), ImageError> {
        let path = self.lease_path(owner)?;
        if let Ok(Some(lease)) = read_document::<Lease>(&path, MAX_LEASE) {
            self.mark_use(lease.image)?;
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ImageError::io("remove", path)(error)),
            _ => Ok(()),
        }
    }

    /// All leases by owner.
    pub fn leases(&self) -> Result<Vec<(String, Lease)>, ImageError> {
        let folder = self.root.join("leases");
        let mut found = Vec::new();
        for item in std::fs::read_dir(&folder).map_err(ImageError::io("read directory", &folder))? {
            let path = item.map_err(ImageError::io("read directory", &folder))?.path();
            let Some(owner) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")) else {
                continue;
            };
            // It may have ended since the folder was read.
            if owner.starts_with('.') {
                continue;
            }
            match read_document(&path, MAX_LEASE) {
                Ok(Some(lease)) => found.push((owner.to_owned(), lease)),
                Ok(None) => {}
                // Torn by a crash of the machine, which ended its owner too.
                Err(error) => {
                    tracing::warn!(%error, "removing an unreadable lease");
                    self.remove_lease(owner)?;
                }
            }
        }
        Ok(found)
    }

    /// The image of a record as callers see it.
    pub fn image(&self, id: Digest, record: &ImageRecord) -> Image {
        Image {
            id,
            repo_tags: record.tags.iter().cloned().collect(),
            repo_digests: record.digests.iter().cloned().collect(),
            config: record.config.clone(),
            layers: record.layers.iter().map(|key| self.layer_files(key)).collect(),
            size: record.size,
            created: record.created.clone(),
        }
    }
}

impl Index {
    /// The image that a name, digest or id means.
    pub fn find(&self, text: &str) -> Option<(Digest, &ImageRecord)> {
        self.by_id(text)
            .or_else(|| self.by_name(text))
            .or_else(|| self.by_prefix(text))
    }

    fn by_id(&self, text: &str) -> Option<(Digest, &ImageRecord)> {
        let id: Digest = if text.len() == 64 {
            format!("sha256:{text}").parse()
        } else {
            text.parse()
        }
        .ok()?;
        self.images.get(&id).map(|record| (id, record))
    }

    fn by_name(&self, text: &str) -> Option<(Digest, &ImageRecord)> {
        let reference: crate::Reference = text.parse().ok()?;
        let by_digest = reference.digest.map(|digest| format!("{}@{digest}", reference.name()));
        let (wanted, digests) = match by_digest {
            Some(name) => (name, true),
            None => (reference.tagged()?, false),
        };
        self.images
            .iter()
            .find(|(_, record)| {
                if digests {
                    record.digests.contains(&wanted)
                } else {
                    record.tags.contains(&wanted)
                }
            })
            .map(|(id, record)| (*id, record))
    }

    /// At least twelve digits, as lists show them; fewer are more likely a name.
    fn by_prefix(&self, text: &str) -> Option<(Digest, &ImageRecord)> {
        let text = text.strip_prefix("sha256:").unwrap_or(text);
        if text.len() < 12 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut matches = self.images.iter().filter(|(id, _)| id.hex().starts_with(text));
        match (matches.next(), matches.next()) {
            (Some((id, record)), None) => Some((*id, record)),
            _ => None,
        }
    }

    /// Gives names to an image; a tag leaves the image that had it.
    pub fn name(&mut self, id: Digest, record: ImageRecord) {
        for (other, existing) in &mut self.images {
            if *other != id {
                existing.tags.retain(|tag| !record.tags.contains(tag));
                existing.targets.retain(|tag, _| !record.tags.contains(tag));
            }
        }
        match self.images.get_mut(&id) {
            None => {
                self.images.insert(id, record);
            }
            Some(existing) => {
                existing.tags.extend(record.tags);
                existing.digests.extend(record.digests);
                existing.blobs.extend(record.blobs);
                existing.targets.extend(record.targets);
                existing.manifest = record.manifest.or(existing.manifest);
                existing.layers = record.layers;
            }
        }
    }
}
