//! Putting an image into a registry.

use crate::config::{Descriptor, ManifestDocument};
use crate::disk::Lock;
use crate::manifest::media_type;
use crate::origins::Origins;
use crate::pull::parse_manifest;
use crate::records::ImageRecord;
use crate::registry::Registry;
use crate::store::target_of;
use crate::transfer::blocking;
use crate::upload::Start;
use crate::{Credentials, Digest, ImageError, ImageStore, LayerState, Progress, ProgressSender, Reference};
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{StreamExt, TryStreamExt};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Blobs sent at the same time.
const PARALLEL: usize = 4;
/// How often a person gets to see that bytes move.
const REPORT: Duration = Duration::from_millis(100);
/// Manifests below one target.
const MAX_DOCUMENTS: usize = 1024;

/// How an image is pushed.
#[derive(Clone, Debug, Default)]
pub struct PushOptions {
    /// How to log in.
    pub credentials: Option<Credentials>,
    /// How to log in where content that is not kept here is fetched again.
    pub source_credentials: Option<Credentials>,
    /// Gets to know how far it is.
    pub progress: Option<ProgressSender>,
}

/// What a push did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Digest of what the name stands for now.
    pub digest: Digest,
    /// Bytes of that manifest or index.
    pub size: u64,
    /// What should be known about it, such as that the digest is a new one.
    pub note: Option<String>,
}

/// An image in the form in which it is passed on: documents, the last of which the name stands
/// for, and blobs.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub id: Digest,
    pub documents: Vec<Document>,
    pub blobs: Vec<Descriptor>,
    /// Why it is not what was pulled.
    pub note: Option<String>,
    pub record: ImageRecord,
}

#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub digest: Digest,
    pub media_type: String,
    pub body: Vec<u8>,
}

impl Outgoing {
    /// The document that the name stands for.
    pub fn target(&self) -> Result<&Document, ImageError> {
        self.documents
            .last()
            .ok_or_else(|| ImageError::Absent(self.id.to_string()))
    }
}

impl ImageStore {
    /// Puts the image of that name into the registry that the name belongs to.
    ///
    /// What the registry has is not sent; what it has in another repository it is asked to
    /// take from there. An index goes whole if the content for all its platforms is here,
    /// else the manifest for this one goes alone.
    pub async fn push(&self, name: &str, options: PushOptions) -> Result<Pushed, ImageError> {
        let reference: Reference = name.parse()?;
        let (adding, registry) = self
            .registry(reference.clone(), options.credentials.clone(), "pull,push")
            .await?;
        let (store, text) = (self.clone(), name.to_owned());
        let outgoing = blocking(move || store.outgoing(&text)).await?;
        let push = Push {
            store: self,
            registry: &registry,
            origins: Origins::of(self, &outgoing.record),
            outgoing: &outgoing,
            options: &options,
            _adding: adding,
        };
        // Boxed, so that the whole can be sent between threads.
        let jobs: Vec<BoxFuture<'_, Result<(), ImageError>>> =
            outgoing.blobs.iter().map(|blob| push.blob(blob).boxed()).collect();
        futures::stream::iter(jobs)
            .buffer_unordered(PARALLEL)
            .try_collect::<Vec<()>>()
            .await?;
        let target = outgoing.target()?;
        for document in &outgoing.documents {
            let last = document.digest == target.digest;
            let selector = match (&reference.tag, reference.digest) {
                (Some(tag), None) if last => tag.clone(),
                _ => document.digest.to_string(),
            };
            registry
                .put_manifest(&selector, &document.media_type, &document.body)
                .await?;
        }
        let pushed = Pushed {
            digest: target.digest,
            size: target.body.len() as u64,
            note: outgoing.note.clone(),
        };
        let (store, id) = (self.clone(), outgoing.id);
        let name = format!("{}@{}", reference.name(), pushed.digest);
        blocking(move || {
            store.inner.folder.update_index(|index| {
                if let Some(record) = index.images.get_mut(&id) {
                    record.digests.insert(name);
                }
                Ok(())
            })
        })
        .await?;
        Ok(pushed)
    }

    /// Everything of an image that is passed on with it. Blocking.
    pub(crate) fn outgoing(&self, name: &str) -> Result<Outgoing, ImageError> {
        let index = self.inner.folder.read_index()?;
        let (id, record) = index.find(name).ok_or_else(|| ImageError::Absent(name.to_owned()))?;
        let mut outgoing = Outgoing {
            id,
            documents: Vec::new(),
            blobs: Vec::new(),
            note: None,
            record: record.clone(),
        };
        let target = target_of(record, name);
        let mut collected = Gathered::default();
        let whole = match target {
            Some(target) => self.gather(target, record.manifest, &mut collected)?,
            None => false,
        };
        if !whole {
            collected = Gathered::default();
            let manifest = record.manifest.filter(|manifest| Some(*manifest) != target);
            let alone = match manifest {
                Some(manifest) => self.gather(manifest, Some(manifest), &mut collected)?,
                None => false,
            };
            if alone {
                outgoing.note =
                    Some("content for the other platforms is not here; only this platform's image is passed on".into());
            } else {
                return self.repacked(outgoing);
            }
        }
        outgoing.documents = collected.documents;
        outgoing.blobs = collected.blobs;
        Ok(outgoing)
    }

    /// Adds a kept manifest or index with all below it; false if a part is not here.
    ///
    /// The blobs of the image's own manifest may be missing: they can be had from where it came.
    fn gather(&self, digest: Digest, own: Option<Digest>, found: &mut Gathered) -> Result<bool, ImageError> {
        if found.seen.contains(&digest) {
            return Ok(true);
        }
        if found.seen.len() >= MAX_DOCUMENTS {
            return Ok(false);
        }
        found.seen.insert(digest);
        let Some(body) = self.kept_blob(digest)? else {
            return Ok(false);
        };
        let manifest: ManifestDocument = parse_manifest(&digest.to_string(), &body)?;
        for child in &manifest.manifests {
            if !self.gather(child.digest, own, found)? {
                return Ok(false);
            }
        }
        for blob in manifest.config.iter().chain(&manifest.layers) {
            if own != Some(digest) && !self.inner.folder.blob(blob.digest).exists() {
                return Ok(false);
            }
            if found.seen.insert(blob.digest) {
                found.blobs.push(blob.clone());
            }
        }
        found.documents.push(Document {
            digest,
            media_type: media_type(&manifest),
            body,
        });
        Ok(true)
    }
}

#[derive(Default)]
struct Gathered {
    documents: Vec<Document>,
    blobs: Vec<Descriptor>,
    seen: HashSet<Digest>,
}

/// One push while it runs.
struct Push<'a> {
    store: &'a ImageStore,
    registry: &'a Registry,
    outgoing: &'a Outgoing,
    origins: Origins<'a>,
    options: &'a PushOptions,
    _adding: Lock,
}

impl Push<'_> {
    fn report(&self, layer: Digest, state: LayerState) {
        if let Some(progress) = &self.options.progress {
            // A full queue loses a report, not the push.
            let _ = progress.try_send(Progress { layer, state });
        }
    }

    async fn blob(&self, blob: &Descriptor) -> Result<(), ImageError> {
        self.report(blob.digest, LayerState::Waiting);
        if self.registry.has_blob(blob.digest).await? {
            self.report(blob.digest, LayerState::Present);
            return Ok(());
        }
        let start = match self.neighbour() {
            Some(from) => self.registry.start(blob.digest, Some(&from)).await?,
            None => self.registry.start(blob.digest, None).await?,
        };
        let address = match start {
            Start::Mounted => {
                self.report(blob.digest, LayerState::Mounted);
                return Ok(());
            }
            Start::Upload(address) => address,
        };
        // They are for the first name, as for who saves.
        let record = &self.outgoing.record;
        let source = record.digests.first().and_then(|name| name.parse::<Reference>().ok());
        let login = source.as_ref().zip(self.options.source_credentials.as_ref());
        let login = login.map(|(source, login)| (source.registry.as_str(), login));
        self.origins.obtain(blob, login).await?;
        let path = self.store.inner.folder.blob(blob.digest);
        let size = tokio::fs::metadata(&path)
            .await
            .map_err(ImageError::io("read", &path))?
            .len();
        let sent = Arc::new(AtomicU64::new(0));
        let upload = self.registry.upload(blob.digest, size, &path, address, &sent);
        tokio::pin!(upload);
        let mut ticks = tokio::time::interval(REPORT);
        loop {
            tokio::select! {
                done = &mut upload => {
                    done?;
                    break;
                }
                _ = ticks.tick() => {
                    let done = sent.load(Ordering::Relaxed);
                    self.report(blob.digest, LayerState::Pushing { done, total: size });
                }
            }
        }
        self.report(blob.digest, LayerState::Done);
        Ok(())
    }

    /// Another repository of the same registry that the image is known to be in.
    fn neighbour(&self) -> Option<String> {
        let own = &self.registry.reference;
        let record = &self.outgoing.record;
        record.digests.iter().chain(&record.sources).find_map(|name| {
            let other: Reference = name.parse().ok()?;
            (other.registry == own.registry && other.repository != own.repository).then_some(other.repository)
        })
    }
}
