//! Images made here: a container's changes on top of its image, or a tar of a whole root.

use crate::changes::apply;
use crate::layer::{Blob, Expected};
use crate::manifest::image_manifest;
use crate::pull::parse_manifest;
use crate::records::ImageRecord;
use crate::{Digest, Image, ImageConfig, ImageError, ImageStore, Platform, Reference};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

/// What is made of a container's changes.
#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    /// Name of the new image, if it gets one.
    pub reference: Option<String>,
    /// The upper directory of the container's overlay.
    pub upper: std::path::PathBuf,
    /// What the container ran with, in place of the image's `config`; the image's own if absent.
    pub config: Option<Value>,
    /// Dockerfile instructions applied to it.
    pub changes: Vec<String>,
    /// Who made it.
    pub author: String,
    /// A sentence about it.
    pub comment: String,
    /// The command that made the changes, as the history tells it.
    pub created_by: String,
}

/// How a tar of a root becomes an image.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Its name, if it gets one.
    pub reference: Option<String>,
    /// Dockerfile instructions that make its configuration.
    pub changes: Vec<String>,
    /// A sentence about it.
    pub message: String,
    /// What it is for; this machine if absent.
    pub platform: Option<Platform>,
}

/// The diff id of a layer without entries, which docker counts as no layer.
const EMPTY_TAR: [u8; 1024] = [0; 1024];

impl ImageStore {
    /// Makes an image of a container's image and what the container changed. Blocking.
    pub fn commit(&self, base: &Image, options: &CommitOptions) -> Result<Image, ImageError> {
        let reference = parsed(options.reference.as_deref())?;
        let _adding = self.inner.folder.lock_adding()?;
        let mut document = self.config_value(base.id)?;
        if let Some(config) = &options.config {
            document["config"] = config.clone();
        }
        let (blob, diff) = self.pack_layer(&options.upper)?;
        let empty = diff == Digest::of(&EMPTY_TAR);
        let created = now();
        document["created"] = created.clone().into();
        if !options.author.is_empty() {
            document["author"] = options.author.clone().into();
        }
        let mut step = json!({"created": created, "created_by": options.created_by});
        for (key, value) in [("author", &options.author), ("comment", &options.comment)] {
            if !value.is_empty() {
                step[key] = value.clone().into();
            }
        }
        let (mut layers, sources) = self.base_layers(base)?;
        if empty {
            step["empty_layer"] = true.into();
        } else {
            let Some(diffs) = document["rootfs"]["diff_ids"].as_array_mut() else {
                return Err(malformed(&base.id.to_string(), "no rootfs.diff_ids"));
            };
            diffs.push(diff.to_string().into());
            self.inner.adopt_layer(blob, diff)?;
            layers.push(blob);
        }
        if !document["history"].is_array() {
            document["history"] = json!([]);
        }
        if let Some(history) = document["history"].as_array_mut() {
            history.push(step);
        }
        self.enter_made(document, &options.changes, reference, layers, sources)
    }

    /// Makes an image of one layer from the tar of a root, compressed or not. Blocking.
    pub fn import(&self, source: impl Read + Send, options: &ImportOptions) -> Result<Image, ImageError> {
        let reference = parsed(options.reference.as_deref())?;
        let _adding = self.inner.folder.lock_adding()?;
        let expected = Expected { blob: None, diff: None };
        let added = self.inner.add_layer(source, expected, true)?;
        let platform = options.platform.as_ref().unwrap_or(&self.inner.options.platform);
        let created = now();
        let comment = match options.message.is_empty() {
            true => "Imported from -".to_owned(),
            false => options.message.clone(),
        };
        let mut document = json!({"architecture": platform.architecture, "os": platform.os, "created": created,
            "config": {}, "rootfs": {"type": "layers", "diff_ids": [added.diff]},
            "history": [{"created": created, "comment": comment}]});
        if !platform.variant.is_empty() {
            document["variant"] = platform.variant.clone().into();
        }
        let layers = vec![added.blob];
        self.enter_made(document, &options.changes, reference, layers, BTreeSet::new())
    }

    /// Enters an image whose layers are here.
    fn enter_made(
        &self,
        mut document: Value,
        changes: &[String],
        reference: Option<Reference>,
        layers: Vec<Blob>,
        sources: BTreeSet<String>,
    ) -> Result<Image, ImageError> {
        if !document["config"].is_object() {
            document["config"] = json!({});
        }
        apply(&mut document["config"], changes).map_err(|why| malformed("--change", &why))?;
        let config: ImageConfig = serde_json::from_value(document["config"].clone())
            .map_err(|error| malformed("configuration", &error.to_string()))?;
        let diffs: Vec<Digest> = serde_json::from_value(document["rootfs"]["diff_ids"].clone())
            .map_err(|error| malformed("configuration", &error.to_string()))?;
        let body = document.to_string().into_bytes();
        let id = Digest::of(&body);
        let manifest = image_manifest(id, body.len() as u64, &layers);
        let digest = Digest::of(&manifest);
        let size = layers.iter().map(|layer| layer.size).sum::<u64>() + (body.len() + manifest.len()) as u64;
        self.inner.folder.put_blob(id, &body)?;
        // Layers of a base whose bytes are not kept cannot be in a manifest; a push packs or fetches them.
        let whole = layers.len() == diffs.len();
        if whole {
            self.inner.folder.put_blob(digest, &manifest)?;
        }
        let tag = reference.as_ref().and_then(Reference::tagged);
        let record = ImageRecord {
            targets: tag.iter().filter(|_| whole).map(|tag| (tag.clone(), digest)).collect(),
            tags: tag.into_iter().collect(),
            blobs: layers
                .iter()
                .map(|layer| layer.digest)
                .chain([id])
                .chain(whole.then_some(digest))
                .collect(),
            config,
            layers: self.compose(diffs.iter().map(Digest::hex).collect())?,
            size,
            created: document["created"].as_str().map(str::to_owned),
            manifest: whole.then_some(digest),
            sources,
            ..ImageRecord::default()
        };
        // Nobody else has what was made here, so it is on disk before anybody is told of it.
        self.sync_layers()?;
        self.inner.enter(id, record)
    }

    /// The distributed forms of an image's layers, and where they can be had; fewer than it has if
    /// nobody knows some.
    fn base_layers(&self, base: &Image) -> Result<(Vec<Blob>, BTreeSet<String>), ImageError> {
        let index = self.inner.folder.read_index()?;
        let record = index
            .images
            .get(&base.id)
            .ok_or_else(|| ImageError::Absent(base.id.to_string()))?;
        let sources = record.digests.union(&record.sources).cloned().collect();
        let manifest = record.manifest.map(|manifest| self.kept_blob(manifest)).transpose()?;
        if let Some(body) = manifest.flatten() {
            let manifest = parse_manifest(&base.id.to_string(), &body)?;
            return Ok((manifest.layers.iter().map(Blob::described).collect(), sources));
        }
        let document = self.config_value(base.id)?;
        let diffs: Vec<Digest> = serde_json::from_value(document["rootfs"]["diff_ids"].clone())
            .map_err(|error| malformed(&base.id.to_string(), &error.to_string()))?;
        let mut found = Vec::new();
        for diff in diffs {
            match self.inner.kept_layer(&diff.hex())? {
                Some(blob) => found.push(blob),
                None => found.extend(self.pack_known(diff)?),
            }
        }
        Ok((found, sources))
    }

    /// The bytes of an unpacked layer made anew, if that gives the tar that it came from.
    fn pack_known(&self, diff: Digest) -> Result<Option<Blob>, ImageError> {
        let (blob, found) = self.pack_layer(&self.inner.folder.layer_files(&diff.hex()))?;
        if found != diff {
            return Ok(None);
        }
        self.inner.remember_blob(&diff.hex(), blob)?;
        Ok(Some(blob))
    }
}

impl crate::store::Inner {
    /// Makes the layer of a blob that was just packed present, as any other is: from its bytes.
    fn adopt_layer(&self, blob: Blob, diff: Digest) -> Result<(), ImageError> {
        if self.has_layer(&diff.hex())? {
            return self.remember_blob(&diff.hex(), blob);
        }
        let path = self.folder.blob(blob.digest);
        let file = std::fs::File::open(&path).map_err(ImageError::io("open", &path))?;
        let expected = Expected {
            blob: Some(blob.digest),
            diff: Some(diff),
        };
        self.add_layer(file, expected, false)?;
        self.remember_blob(&diff.hex(), blob)
    }
}

/// The upper directory of a container as a tar that can be loaded elsewhere; nothing is kept. Blocking.
pub fn pack_directory<W: std::io::Write>(root: &Path, out: W) -> Result<W, ImageError> {
    crate::pack::pack(root, out).map_err(ImageError::io("pack", root))
}

fn parsed(reference: Option<&str>) -> Result<Option<Reference>, ImageError> {
    let reference: Option<Reference> = reference.map(str::parse).transpose()?;
    match reference {
        Some(reference) if reference.digest.is_some() => Err(ImageError::InvalidReference {
            name: reference.to_string(),
            why: "a new name needs a tag, not a digest",
        }),
        other => Ok(other),
    }
}

fn malformed(image: &str, why: &str) -> ImageError {
    ImageError::Malformed {
        image: image.to_owned(),
        what: "configuration",
        why: why.to_owned(),
    }
}

/// This moment as images write it.
fn now() -> String {
    jiff::Timestamp::now().to_string()
}
