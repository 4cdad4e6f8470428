//! Getting an image from a registry.

use crate::config::{ConfigDocument, Descriptor, ManifestDocument};
use crate::disk::{Draft, Lock, sync_file};
use crate::hosts::endpoints;
use crate::layer::Expected;
use crate::records::ImageRecord;
use crate::registry::Registry;
use crate::transfer::{ChannelReader, PIECES, blocking, fetch};
use crate::{
    Credentials, Digest, Image, ImageError, ImageStore, LayerState, Platform, Progress, ProgressSender, Reference,
};
use futures::future::try_join_all;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc;

/// More layers than any builder allows (overlay2 stops at 128, some bases of old at 500).
const MAX_LAYERS: usize = 1024;
/// Indexes inside each other.
const MAX_NESTING: usize = 4;
/// Manifests of one index, where all are kept.
const MAX_MANIFESTS: usize = 256;

/// How an image is fetched.
#[derive(Clone, Debug, Default)]
pub struct PullOptions {
    /// How to log in.
    pub credentials: Option<Credentials>,
    /// Gets to know how far it is.
    pub progress: Option<ProgressSender>,
    /// Which image of an index; this machine's if none is given.
    pub platform: Option<Platform>,
    /// Keep the content for all platforms of an index, so that it can be pushed on whole.
    pub all_platforms: bool,
}

/// An image's documents, fetched and checked.
struct Documents {
    /// Digest the reference led to: the index if there is one, else the manifest.
    target: Digest,
    manifest_digest: Digest,
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
        let options = PullOptions {
            credentials: auth,
            progress,
            ..PullOptions::default()
        };
        self.pull_with(reference, options).await
    }

    /// [`ImageStore::pull`] with every setting.
    pub async fn pull_with(&self, reference: &str, options: PullOptions) -> Result<Image, ImageError> {
        let reference: Reference = reference.parse()?;
        let (adding, registry) = self
            .registry(reference.clone(), options.credentials.clone(), "pull")
            .await?;
        let platform = options.platform.as_ref().unwrap_or(&self.inner.options.platform);
        let mut documents = self.documents(&registry, &reference, platform).await?;
        let signed = match documents.target == documents.manifest_digest {
            true => vec![documents.target],
            false => vec![documents.target, documents.manifest_digest],
        };
        self.admit(&registry, &reference, &signed).await?;
        let layers = self.layers(&registry, &documents, options.progress.as_ref()).await?;
        let mut kept: Vec<Digest> = Vec::new();
        if self.inner.options.keep_blobs {
            kept.extend(documents.manifest.layers.iter().map(|layer| layer.digest));
        }
        let size = documents.manifest.layers.iter().map(|layer| layer.size).sum::<u64>()
            + documents
                .blobs
                .iter()
                .map(|(_, content)| content.len() as u64)
                .sum::<u64>();
        if options.all_platforms {
            let (more, content) = self.other_platforms(&registry, &documents).await?;
            documents.blobs.extend(more);
            kept.extend(content);
        }
        let target = documents.target;
        let tags = reference.tagged().filter(|_| reference.digest.is_none());
        let record = ImageRecord {
            targets: tags.iter().map(|tag| (tag.clone(), target)).collect(),
            tags: tags.into_iter().collect(),
            digests: [format!("{}@{target}", reference.name())].into(),
            blobs: documents.blobs.iter().map(|(digest, _)| *digest).chain(kept).collect(),
            config: documents.config.config,
            layers,
            size,
            created: documents.config.created,
            manifest: Some(documents.manifest_digest),
            ..ImageRecord::default()
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

    /// The tags of a repository, as its registry lists them.
    pub async fn remote_tags(&self, name: &str, auth: Option<Credentials>) -> Result<Vec<String>, ImageError> {
        let (_, registry) = self.registry(name.parse()?, auth, "pull").await?;
        registry.tags().await
    }

    /// A repository of a registry, with the lock under which content is added.
    pub(crate) async fn registry(
        &self,
        reference: Reference,
        credentials: Option<Credentials>,
        actions: &str,
    ) -> Result<(Lock, Registry), ImageError> {
        let inner = Arc::clone(&self.inner);
        let name = reference.registry.clone();
        let (adding, endpoints) = blocking(move || {
            let endpoints = endpoints(inner.options.hosts_dir.as_deref(), &name)?;
            Ok((inner.folder.lock_adding()?, endpoints))
        })
        .await?;
        let registry = Registry::new(&self.inner.transport, reference, credentials, endpoints, actions);
        Ok((adding, registry))
    }

    async fn documents(
        &self,
        registry: &Registry,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Documents, ImageError> {
        let image = reference.to_string();
        let (body, target) = match self.kept_manifest(reference)? {
            Some(kept) => kept,
            None => registry.manifest(&reference.selector()).await?,
        };
        let mut manifest_digest = target;
        let mut manifest = parse_manifest(&image, &body)?;
        let mut blobs = vec![(target, body)];
        let malformed = |what, why: &str| ImageError::Malformed {
            image: image.clone(),
            what,
            why: why.to_owned(),
        };
        while manifest.config.is_none() && !manifest.manifests.is_empty() {
            if blobs.len() > MAX_NESTING {
                return Err(malformed("index", "indexes are nested too deeply"));
            }
            let chosen = choose(platform, &image, &manifest.manifests)?;
            let (body, digest) = registry.manifest(&chosen.to_string()).await?;
            manifest = parse_manifest(&image, &body)?;
            manifest_digest = digest;
            blobs.push((digest, body));
        }
        let config_digest = match &manifest.config {
            Some(config) if manifest.schema_version == 2 => config.digest,
            Some(_) => return Err(malformed("manifest", "schema version 2 is needed")),
            None => {
                let why = "no configuration; docker schema 1 and artifacts are not images";
                return Err(malformed("manifest", why));
            }
        };
        if manifest.layers.len() > MAX_LAYERS {
            return Err(malformed("manifest", "too many layers"));
        }
        for layer in &manifest.layers {
            layer.usable().map_err(|why| malformed("manifest", why))?;
        }
        let body = match self.kept_blob(config_digest)? {
            Some(body) => body,
            None => registry.small_blob(config_digest).await?,
        };
        let config: ConfigDocument =
            serde_json::from_slice(&body).map_err(|error| malformed("configuration", &error.to_string()))?;
        blobs.push((config_digest, body));
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(malformed("configuration", "its layers are not those of the manifest"));
        }
        Ok(Documents {
            target,
            manifest_digest,
            manifest,
            config_digest,
            config,
            blobs,
        })
    }

    /// A manifest named by digest never changes: the kept copy serves.
    fn kept_manifest(&self, reference: &Reference) -> Result<Option<(Vec<u8>, Digest)>, ImageError> {
        let Some(digest) = reference.digest else {
            return Ok(None);
        };
        Ok(self.kept_blob(digest)?.map(|body| (body, digest)))
    }

    /// A document that is here and whole. Errors: it is here and cannot be read.
    pub(crate) fn kept_blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, ImageError> {
        let path = self.inner.folder.blob(digest);
        let body = crate::disk::read_bounded(&path, crate::registry::MAX_DOCUMENT as u64)?;
        Ok(body.filter(|body| Digest::of(body) == digest))
    }

    /// Everything of the index that is not of the chosen image: documents, and blobs that are on disk now.
    async fn other_platforms(
        &self,
        registry: &Registry,
        documents: &Documents,
    ) -> Result<(Vec<(Digest, Vec<u8>)>, Vec<Digest>), ImageError> {
        let image = registry.reference.to_string();
        let (mut found, mut content) = (Vec::new(), Vec::new());
        let mut seen: HashSet<Digest> = documents.blobs.iter().map(|(digest, _)| *digest).collect();
        let mut todo: Vec<Descriptor> = Vec::new();
        for (_, body) in &documents.blobs {
            todo.extend(parse_manifest(&image, body).map(|m| m.manifests).unwrap_or_default());
        }
        // What is chosen may have been fetched without its bytes being kept.
        for layer in &documents.manifest.layers {
            self.keep_content(registry, layer).await?;
            content.push(layer.digest);
        }
        while let Some(descriptor) = todo.pop() {
            if !seen.insert(descriptor.digest) {
                continue;
            }
            if seen.len() > MAX_MANIFESTS {
                return Err(ImageError::Malformed {
                    image,
                    what: "index",
                    why: format!("more than {MAX_MANIFESTS} manifests"),
                });
            }
            let (body, digest) = registry.manifest(&descriptor.digest.to_string()).await?;
            let manifest = parse_manifest(&image, &body)?;
            found.push((digest, body));
            todo.extend(manifest.manifests);
            for blob in manifest.config.iter().chain(&manifest.layers) {
                self.keep_content(registry, blob).await?;
                content.push(blob.digest);
            }
        }
        Ok((found, content))
    }

    /// Fetches a blob as it is, unless it is here.
    pub(crate) async fn keep_content(&self, registry: &Registry, descriptor: &Descriptor) -> Result<(), ImageError> {
        let (store, digest) = (self.clone(), descriptor.digest);
        if blocking(move || store.has_content(digest)).await? {
            return Ok(());
        }
        let (sender, receiver) = mpsc::channel(PIECES);
        let store = self.clone();
        let writing = blocking(move || {
            let draft = Draft::new(&store.inner.folder.drafts())?;
            let path = draft.path().join("blob");
            let mut file = File::create_new(&path).map_err(ImageError::io("create", &path))?;
            let found =
                copy_hashed(&mut ChannelReader::new(receiver), &mut file).map_err(ImageError::io("write", &path))?;
            if found != digest {
                return Err(ImageError::DigestMismatch {
                    expected: digest.to_string(),
                    found: found.to_string(),
                });
            }
            sync_file(&path)?;
            store.inner.folder.take_blob(&path, digest)
        });
        let (fetched, written) = tokio::join!(fetch(registry, descriptor, sender, &|_| ()), writing);
        fetched?;
        written
    }

    /// Whether a blob is here, whole: its bytes are looked at. Blocking.
    fn has_content(&self, digest: Digest) -> Result<bool, ImageError> {
        let path = self.inner.folder.blob(digest);
        match File::open(&path) {
            Ok(mut file) => copy_hashed(&mut file, &mut io::sink())
                .map(|found| found == digest)
                .map_err(ImageError::io("read", &path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(ImageError::io("open", &path)(error)),
        }
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
            .filter(|(descriptor, diff)| seen.insert((descriptor.digest, **diff)))
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
        let keep = self.inner.options.keep_blobs;
        let present = || -> Result<bool, ImageError> {
            let key = diff.hex();
            Ok(self.inner.has_layer(&key)? && (!keep || self.inner.is_kept(&key, descriptor.digest)?))
        };
        if !present()? {
            report(LayerState::Waiting);
        }
        let _making = self.inner.making(&diff.hex()).await;
        if present()? {
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
        let inner = Arc::clone(&self.inner);
        let expected = Expected {
            blob: Some(descriptor.digest),
            diff: Some(diff),
        };
        let unpacking = blocking(move || inner.add_layer(ChannelReader::new(receiver), expected, keep));
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
        if crate::faults::watched(&self.inner.folder.root) {
            return;
        }
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

/// The manifest of an index that fits a platform.
pub(crate) fn choose(platform: &Platform, image: &str, manifests: &[Descriptor]) -> Result<Digest, ImageError> {
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

pub(crate) fn parse_manifest(image: &str, body: &[u8]) -> Result<ManifestDocument, ImageError> {
    serde_json::from_slice(body).map_err(|error| ImageError::Malformed {
        image: image.to_owned(),
        what: "manifest",
        why: error.to_string(),
    })
}

/// Copies everything and gives its digest.
pub(crate) fn copy_hashed(source: &mut impl io::Read, target: &mut impl io::Write) -> io::Result<Digest> {
    use sha2::Digest as _;
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = match source.read(&mut buffer) {
            Ok(0) => return Ok(Digest::from_bytes(hash.finalize().into())),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(&buffer[..count]);
        target.write_all(&buffer[..count])?;
    }
}
