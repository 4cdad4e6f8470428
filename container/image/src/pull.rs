//! Getting an image from a registry.

use crate::config::{ConfigDocument, Descriptor, ManifestDocument};
use crate::hosts::endpoints;
use crate::layer::Expected;
use crate::records::ImageRecord;
use crate::registry::Registry;
use crate::store::Inner;
use crate::transport::root_cause;
use crate::{Credentials, Digest, Image, ImageError, ImageStore, LayerState, Progress, ProgressSender, Reference};
use bytes::Bytes;
use futures::future::try_join_all;
use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// More layers than any builder allows (overlay2 stops at 128, some bases of old at 500).
const MAX_LAYERS: usize = 1024;
/// Pieces of a layer between network and unpacking; each is what one read gave.
const PIECES: usize = 32;
/// Interruptions of a layer's transfer without progress until the pull fails.
const RESUMES: u32 = 5;
const RESUME_DELAY: Duration = Duration::from_millis(500);

/// An image's documents, fetched and checked.
struct Documents {
    /// Digest the reference led to: the index if there is one, else the manifest.
    target: Digest,
    manifest: ManifestDocument,
    config_digest: Digest,
    config: ConfigDocument,
    /// All documents, to be kept.
    blobs: Vec<(Digest, Vec<u8>)>,
}

impl ImageStore {
    /// Fetches an image and unpacks it; quick if it is here and unchanged at the registry.
    ///
    /// Dropping the future abandons the pull; nothing half-done stays.
    pub async fn pull(
        &self,
        reference: &str,
        auth: Option<Credentials>,
        progress: Option<ProgressSender>,
    ) -> Result<Image, ImageError> {
        let reference: Reference = reference.parse()?;
        let inner = Arc::clone(&self.inner);
        let registry_name = reference.registry.clone();
        let (adding, endpoints) = blocking(move || {
            let endpoints = endpoints(inner.options.hosts_dir.as_deref(), &registry_name)?;
            Ok((inner.folder.lock_adding()?, endpoints))
        })
        .await?;
        let registry = Registry::new(Arc::clone(&self.inner.transport), reference.clone(), auth, endpoints);
        let documents = self.documents(&registry, &reference).await?;
        let layers = self.layers(&registry, &documents, progress.as_ref()).await?;
        let size = documents.manifest.layers.iter().map(|layer| layer.size).sum::<u64>()
            + documents
                .blobs
                .iter()
                .map(|(_, content)| content.len() as u64)
                .sum::<u64>();
        let record = ImageRecord {
            tags: reference
                .tagged()
                .filter(|_| reference.digest.is_none())
                .into_iter()
                .collect(),
            digests: [format!("{}@{}", reference.name(), documents.target)].into(),
            blobs: documents.blobs.iter().map(|(digest, _)| *digest).collect(),
            config: documents.config.config,
            layers,
            size,
            created: documents.config.created,
        };
        let store = self.clone();
        let (id, blobs) = (documents.config_digest, documents.blobs);
        blocking(move || {
            let _adding = adding;
            for (digest, content) in &blobs {
                store.inner.folder.put_blob(*digest, content)?;
            }
            let image = store.inner.enter(id, record)?;
            store.sync_later();
            Ok(image)
        })
        .await
    }

    async fn documents(&self, registry: &Registry, reference: &Reference) -> Result<Documents, ImageError> {
        let image = reference.to_string();
        let (body, target) = match self.kept_manifest(reference) {
            Some(kept) => kept,
            None => registry.manifest(&reference.selector()).await?,
        };
        let mut manifest = parse_manifest(&image, &body)?;
        let mut blobs = vec![(target, body)];
        if manifest.config.is_none() && !manifest.manifests.is_empty() {
            let chosen = self.choose(&image, &manifest.manifests)?;
            let (body, digest) = registry.manifest(&chosen.to_string()).await?;
            manifest = parse_manifest(&image, &body)?;
            blobs.push((digest, body));
        }
        let malformed = |what, why: &str| ImageError::Malformed {
            image: image.clone(),
            what,
            why: why.to_owned(),
        };
        let config_digest = match &manifest.config {
            Some(config) if manifest.schema_version == 2 => config.digest,
            Some(_) => return Err(malformed("manifest", "schema version 2 is needed")),
            None => {
                return Err(malformed(
                    "manifest",
                    "no configuration; docker schema 1 and artifacts are not images",
                ));
            }
        };
        let body = match self.kept_blob(config_digest) {
            Some(body) => body,
            None => registry.small_blob(config_digest).await?,
        };
        let config: ConfigDocument =
            serde_json::from_slice(&body).map_err(|error| malformed("configuration", &error.to_string()))?;
        blobs.push((config_digest, body));
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(malformed("configuration", "its layers are not those of the manifest"));
        }
        if manifest.layers.len() > MAX_LAYERS {
            return Err(malformed("manifest", "too many layers"));
        }
        Ok(Documents {
            target,
            manifest,
            config_digest,
            config,
            blobs,
        })
    }

    /// A manifest named by digest never changes: the kept copy serves.
    fn kept_manifest(&self, reference: &Reference) -> Option<(Vec<u8>, Digest)> {
        let digest = reference.digest?;
        self.kept_blob(digest).map(|body| (body, digest))
    }

    fn kept_blob(&self, digest: Digest) -> Option<Vec<u8>> {
        let body = std::fs::read(self.inner.folder.blob(digest)).ok()?;
        (Digest::of(&body) == digest).then_some(body)
    }

    /// The manifest of an index that fits this machine.
    pub(crate) fn choose(&self, image: &str, manifests: &[Descriptor]) -> Result<Digest, ImageError> {
        let platform = &self.inner.options.platform;
        let fits = |descriptor: &&Descriptor| descriptor.platform.as_ref().is_some_and(|other| platform.runs(other));
        let unspecified = |descriptor: &&Descriptor| descriptor.platform.is_none();
        manifests
            .iter()
            .find(fits)
            .or_else(|| manifests.iter().find(unspecified))
            .map(|descriptor| descriptor.digest)
            .ok_or_else(|| ImageError::NoPlatform {
                image: image.to_owned(),
                platform: platform.to_string(),
            })
    }

    /// Makes all layers present; their folders' names, bottom first.
    async fn layers(
        &self,
        registry: &Registry,
        documents: &Documents,
        progress: Option<&ProgressSender>,
    ) -> Result<Vec<String>, ImageError> {
        let mut seen = HashSet::new();
        let jobs = documents
            .manifest
            .layers
            .iter()
            .zip(&documents.config.rootfs.diff_ids)
            .filter(|(_, diff)| seen.insert(**diff))
            .map(|(descriptor, diff)| self.layer(registry, descriptor, *diff, progress));
        try_join_all(jobs).await?;
        let keys: Vec<String> = documents.config.rootfs.diff_ids.iter().map(Digest::hex).collect();
        let store = self.clone();
        blocking(move || store.compose(keys)).await
    }

    async fn layer(
        &self,
        registry: &Registry,
        descriptor: &Descriptor,
        diff: Digest,
        progress: Option<&ProgressSender>,
    ) -> Result<(), ImageError> {
        let report = |state| {
            if let Some(progress) = progress {
                // A full queue loses a report, not the pull.
                let _ = progress.try_send(Progress {
                    layer: descriptor.digest,
                    state,
                });
            }
        };
        let _making = self.inner.making(&diff.hex()).await;
        if self.inner.has_layer(&diff.hex())? {
            report(LayerState::Present);
            return Ok(());
        }
        let _slot = self
            .inner
            .layer_slots
            .acquire()
            .await
            .map_err(|_| ImageError::Interrupted)?;
        let (sender, receiver) = mpsc::channel(PIECES);
        let inner: Arc<Inner> = Arc::clone(&self.inner);
        let expected = Expected {
            blob: Some(descriptor.digest),
            diff,
        };
        let unpacking = blocking(move || inner.add_layer(ChannelReader::new(receiver), expected));
        let fetching = fetch(registry, descriptor, sender, &report);
        let (fetched, unpacked) = tokio::join!(fetching, unpacking);
        // A failed transfer breaks the unpacking too; the transfer is then the cause to tell.
        fetched?;
        unpacked?;
        report(LayerState::Done);
        Ok(())
    }

    /// Brings what was unpacked to disk without making anybody wait.
    pub(crate) fn sync_later(&self) {
        let store = self.clone();
        let spawned = std::thread::Builder::new().name("image-sync".into()).spawn(move || {
            if let Err(error) = store.sync_layers() {
                tracing::warn!(%error, "layers are not known to be on disk; they are fetched again after a crash");
            }
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "could not start the thread that syncs layers");
        }
    }
}

fn parse_manifest(image: &str, body: &[u8]) -> Result<ManifestDocument, ImageError> {
    serde_json::from_slice(body).map_err(|error| ImageError::Malformed {
        image: image.to_owned(),
        what: "manifest",
        why: error.to_string(),
    })
}

/// Sends a blob's bytes, resuming where a connection broke. A receiver that is gone ends it without error.
async fn fetch(
    registry: &Registry,
    descriptor: &Descriptor,
    sender: mpsc::Sender<Bytes>,
    report: &(impl Fn(LayerState) + Sync),
) -> Result<(), ImageError> {
    let total = descriptor.size;
    let mut done: u64 = 0;
    let mut failures = 0;
    loop {
        let (mut response, start) = registry.blob(descriptor.digest, done).await?;
        let mut skip = done - start;
        let broken = loop {
            match response.chunk().await {
                Ok(Some(mut chunk)) => {
                    let skipped = skip.min(chunk.len() as u64);
                    skip -= skipped;
                    let piece = chunk.split_off(skipped as usize);
                    if piece.is_empty() {
                        continue;
                    }
                    done += piece.len() as u64;
                    failures = 0;
                    if done > total {
                        let why = format!(
                            "failed to copy: content at {} is longer than {total} bytes",
                            descriptor.digest
                        );
                        return Err(ImageError::Registry {
                            image: descriptor.digest.to_string(),
                            why,
                        });
                    }
                    if sender.send(piece).await.is_err() {
                        return Ok(());
                    }
                    report(LayerState::Fetching { done, total });
                }
                Ok(None) if done >= total => return Ok(()),
                Ok(None) => break "unexpected EOF".to_owned(),
                Err(error) => break root_cause(&error),
            }
        };
        failures += 1;
        if failures > RESUMES {
            let why = format!("failed to copy: content at {}: {broken}", descriptor.digest);
            return Err(ImageError::Registry {
                image: descriptor.digest.to_string(),
                why,
            });
        }
        tracing::debug!(layer = %descriptor.digest, done, total, why = broken, "resuming a transfer");
        tokio::time::sleep(RESUME_DELAY).await;
    }
}

/// Runs blocking work; if it is abandoned it runs to its end in the background.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ImageError::Interrupted)?
}

/// The blocking end of a transfer.
struct ChannelReader {
    receiver: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl ChannelReader {
    fn new(receiver: mpsc::Receiver<Bytes>) -> Self {
        Self {
            receiver,
            piece: Bytes::new(),
        }
    }
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}
