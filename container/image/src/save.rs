//! Writing images to an archive: an OCI layout, with docker's manifest.json beside it.

use crate::disk::Lock;
use crate::manifest::OCI_INDEX;
use crate::origins::Origins;
use crate::pull::{copy_hashed, parse_manifest};
use crate::push::Outgoing;
use crate::tar_write::{Attributes, Kind, TarWriter};
use crate::transfer::blocking;
use crate::{CredentialStore, Digest, ImageError, ImageStore, Reference};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};

/// Which readers an archive is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// Docker's `load` of any age, and whatever reads OCI layouts.
    #[default]
    Docker,
    /// An OCI layout alone.
    Oci,
}

impl ImageStore {
    /// Writes images to a stream, with everything that a push would send; what should be known about it.
    ///
    /// Content that is not kept here is fetched again, with logins of `credentials`.
    pub async fn save<W: Write + Send + 'static>(
        &self,
        names: &[String],
        format: ArchiveFormat,
        credentials: Option<&CredentialStore>,
        out: W,
    ) -> Result<Vec<String>, ImageError> {
        let inner = std::sync::Arc::clone(&self.inner);
        let adding = blocking(move || inner.folder.lock_adding()).await?;
        let mut images = Vec::new();
        let mut notes = Vec::new();
        for name in names {
            let (store, text) = (self.clone(), name.clone());
            let outgoing = blocking(move || store.outgoing(&text)).await?;
            let missing = |digest| !self.inner.folder.blob(digest).exists();
            let login = match (credentials, outgoing.record.digests.first()) {
                (Some(known), Some(source)) if outgoing.blobs.iter().any(|blob| missing(blob.digest)) => {
                    let source: Reference = source.parse()?;
                    known.get(&source.name()).await?.map(|login| (source.registry, login))
                }
                _ => None,
            };
            let login = login.as_ref().map(|(registry, login)| (registry.as_str(), login));
            let origins = Origins::of(self, &outgoing.record);
            for blob in &outgoing.blobs {
                origins.obtain(blob, login).await?;
            }
            drop(origins);
            notes.extend(outgoing.note.iter().map(|note| format!("{name}: {note}")));
            images.push((name.clone(), outgoing));
        }
        let store = self.clone();
        blocking(move || store.write_archive(&images, format, out, adding)).await?;
        Ok(notes)
    }

    fn write_archive(
        &self,
        images: &[(String, Outgoing)],
        format: ArchiveFormat,
        out: impl Write,
        _adding: Lock,
    ) -> Result<(), ImageError> {
        let mut members: BTreeMap<Digest, Option<&[u8]>> = BTreeMap::new();
        for (_, image) in images {
            members.extend(image.blobs.iter().map(|blob| (blob.digest, None)));
            let documents = image.documents.iter();
            members.extend(documents.map(|document| (document.digest, Some(document.body.as_slice()))));
        }
        let failed = || ImageError::io("write", "the archive");
        let mut tar = TarWriter::new(out);
        let folder = Attributes {
            mode: 0o755,
            ..Attributes::default()
        };
        for name in ["blobs", "blobs/sha256"] {
            let written = tar.entry(name.as_bytes(), &Kind::Directory, &folder, &mut io::empty());
            written.map_err(failed())?;
        }
        for (digest, body) in members {
            let name = format!("blobs/sha256/{}", digest.hex());
            match body {
                Some(body) => tar.bytes(&name, 0o644, body).map_err(failed())?,
                None => self.write_blob(&mut tar, &name, digest)?,
            }
        }
        let mut write = |name: &str, document: Value| {
            tar.bytes(name, 0o644, document.to_string().as_bytes())
                .map_err(failed())
        };
        write("index.json", index(images)?)?;
        if format == ArchiveFormat::Docker {
            write("manifest.json", docker_manifest(images)?)?;
        }
        write("oci-layout", json!({"imageLayoutVersion": "1.0.0"}))?;
        tar.finish().map(drop).map_err(failed())
    }

    /// Copies a blob of the store, which must still be what its name says.
    fn write_blob<W: Write>(&self, tar: &mut TarWriter<W>, name: &str, digest: Digest) -> Result<(), ImageError> {
        let path = self.inner.folder.blob(digest);
        let mut check = File::open(&path).map_err(ImageError::io("open", &path))?;
        let found = copy_hashed(&mut check, &mut io::sink()).map_err(ImageError::io("read", &path))?;
        if found != digest {
            return Err(ImageError::DigestMismatch {
                expected: digest.to_string(),
                found: found.to_string(),
            });
        }
        let mut file = File::open(&path).map_err(ImageError::io("open", &path))?;
        let size = file.metadata().map_err(ImageError::io("read", &path))?.len();
        let attributes = Attributes {
            mode: 0o644,
            ..Attributes::default()
        };
        let source: &mut dyn Read = &mut file;
        tar.entry(name.as_bytes(), &Kind::File(size), &attributes, source)
            .map_err(ImageError::io("write", "the archive"))
    }
}

/// The tags an image is saved under: the name it was asked for by, or none for an id.
fn saved_name(name: &str, image: &Outgoing) -> Option<Reference> {
    let reference: Reference = name.parse().ok()?;
    let tag = reference.tagged()?;
    image.record.tags.contains(&tag).then_some(reference)
}

fn index(images: &[(String, Outgoing)]) -> Result<Value, ImageError> {
    let mut manifests = Vec::new();
    for (name, image) in images {
        let target = image.target()?;
        let mut annotations = Map::new();
        if let Some(reference) = saved_name(name, image) {
            annotations.insert("io.containerd.image.name".into(), reference.to_string().into());
            let tag = reference.tag.unwrap_or_default();
            annotations.insert("org.opencontainers.image.ref.name".into(), tag.into());
        }
        let mut descriptor = json!({"mediaType": target.media_type, "digest": target.digest,
            "size": target.body.len()});
        if !annotations.is_empty() {
            descriptor["annotations"] = Value::Object(annotations);
        }
        manifests.push(descriptor);
    }
    Ok(json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}))
}

fn docker_manifest(images: &[(String, Outgoing)]) -> Result<Value, ImageError> {
    let path = |digest: Digest| format!("blobs/sha256/{}", digest.hex());
    let mut items: Vec<(Digest, BTreeSet<String>, Vec<String>)> = Vec::new();
    for (name, image) in images {
        // The image's own manifest; for one that was packed anew, the only one.
        let own = image.documents.iter().find(|d| Some(d.digest) == image.record.manifest);
        let own = own.map_or_else(|| image.target(), Ok)?;
        let manifest = parse_manifest(name, &own.body)?;
        let Some(config) = manifest.config else { continue };
        let tags = saved_name(name, image).map(|reference| reference.familiar());
        match items.iter_mut().find(|(known, _, _)| *known == config.digest) {
            Some((_, known, _)) => known.extend(tags),
            None => {
                let layers = manifest.layers.iter().map(|layer| path(layer.digest)).collect();
                items.push((config.digest, tags.into_iter().collect(), layers));
            }
        }
    }
    let items: Vec<Value> = items
        .into_iter()
        .map(|(config, tags, layers)| json!({"Config": path(config), "RepoTags": tags, "Layers": layers}))
        .collect();
    Ok(items.into())
}
