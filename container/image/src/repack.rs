//! Making an image's distributed form anew from its files.
//!
//! Content that is not kept is fetched again from where the image came, because only then
//! are its digests, and whatever was signed, the same. Where it came from nowhere (built in,
//! or loaded by a store that keeps nothing) its layers are packed from their files; these
//! have digests of their own.

use crate::config::Descriptor;
use crate::disk::{Draft, sync_file};
use crate::layer::{Blob, Packer};
use crate::manifest::{OCI_MANIFEST, image_manifest};
use crate::pack::pack;
use crate::push::{Document, Outgoing};
use crate::{Digest, ImageError, ImageStore};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Write};

impl ImageStore {
    /// Packs every layer of an image that has no distributed form. Blocking.
    pub(crate) fn repacked(&self, mut outgoing: Outgoing) -> Result<Outgoing, ImageError> {
        let _adding = self.inner.folder.lock_adding()?;
        let mut blobs = Vec::new();
        let mut diffs = Vec::new();
        for key in &outgoing.record.layers {
            let (blob, diff) = self.pack_layer(&self.inner.folder.layer_files(key))?;
            blobs.push(blob);
            diffs.push(diff);
        }
        let mut config = self.config_value(outgoing.id)?;
        config["rootfs"] = json!({"type": "layers", "diff_ids": diffs});
        // It told of other layers.
        if let Some(map) = config.as_object_mut() {
            map.remove("history");
        }
        let config = config.to_string().into_bytes();
        let config_digest = Digest::of(&config);
        self.inner.folder.put_blob(config_digest, &config)?;
        let body = image_manifest(config_digest, config.len() as u64, &blobs);
        let digest = Digest::of(&body);
        self.inner.folder.put_blob(digest, &body)?;
        let manifest = crate::pull::parse_manifest("packed image", &body)?;
        let held: Vec<Digest> = blobs.iter().map(|b| b.digest).chain([config_digest, digest]).collect();
        let id = outgoing.id;
        self.inner.folder.update_index(|index| {
            if let Some(record) = index.images.get_mut(&id) {
                record.blobs.extend(held);
            }
            Ok(())
        })?;
        outgoing.blobs = manifest
            .config
            .into_iter()
            .chain(manifest.layers)
            .collect::<Vec<Descriptor>>();
        outgoing.documents = vec![Document {
            digest,
            media_type: OCI_MANIFEST.to_owned(),
            body,
        }];
        outgoing.note = Some("the layers were packed anew from their files; their digests are new ones".into());
        Ok(outgoing)
    }

    /// Packs a folder in overlayfs' form into a blob of the store; also its diff id. Blocking.
    pub(crate) fn pack_layer(&self, files: &std::path::Path) -> Result<(Blob, Digest), ImageError> {
        let draft = Draft::new(&self.inner.folder.drafts())?;
        let path = draft.path().join("blob");
        let file = File::create_new(&path).map_err(ImageError::io("create", &path))?;
        let both = Both {
            packer: Packer::new(file),
            hash: Sha256::new(),
        };
        let packed = pack(files, both).and_then(|both| {
            let blob = both.packer.finish()?;
            Ok((blob, Digest::from_bytes(both.hash.finalize().into())))
        });
        let (blob, diff) = packed.map_err(ImageError::io("pack", files))?;
        sync_file(&path)?;
        self.inner.folder.take_blob(&path, blob.digest)?;
        Ok((blob, diff))
    }

    /// An image's configuration document as it is. Blocking.
    pub fn config_value(&self, id: Digest) -> Result<Value, ImageError> {
        let body = self
            .kept_blob(id)?
            .ok_or_else(|| ImageError::Absent(format!("configuration {id}")))?;
        serde_json::from_slice(&body).map_err(|error| ImageError::Malformed {
            image: id.to_string(),
            what: "configuration",
            why: error.to_string(),
        })
    }
}

/// Compresses and computes the digest of what is written.
struct Both {
    packer: Packer,
    hash: Sha256,
}

impl Write for Both {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.packer.write_all(buffer)?;
        self.hash.update(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
