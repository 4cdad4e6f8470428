//! The configuration's file: read at the start, and again when it has changed.

use super::{EncryptedStore, Times, rules::Encryption};
use sha2::{Digest, Sha256};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use strata_metrics::{Kind, Page};
use strata_store::Store;

/// How often a changed file is looked for (upstream's).
const POLL: Duration = Duration::from_secs(60);
/// How long the key management services of a new configuration may take to be well, and how often they are asked.
const BECOMING_WELL: Duration = Duration::from_secs(10);
const ASKED_AGAIN: Duration = Duration::from_millis(100);

/// Where the configuration of encryption at rest is.
#[derive(Clone, Debug)]
pub struct EncryptionOptions {
    /// An EncryptionConfiguration in YAML.
    pub path: PathBuf,
    /// Whether it is read again when it has changed.
    pub reload: bool,
    /// How often that is looked for.
    pub poll: Duration,
}

impl EncryptionOptions {
    /// A file that is read once.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            reload: false,
            poll: POLL,
        }
    }
}

/// The encryption of a server.
pub(crate) struct Reload {
    options: EncryptionOptions,
    times: Times,
    store: Arc<EncryptedStore>,
    read: tokio::sync::Mutex<[u8; 32]>,
    reloaded: AtomicU64,
    refused: AtomicU64,
}

impl Reload {
    /// Reads the file and puts it in front of a store. Errors: a sentence.
    pub(crate) async fn open(options: EncryptionOptions, times: Times, inner: Arc<dyn Store>) -> Result<Self, String> {
        let text = read(&options).await?;
        let encryption = Encryption::open(&text, times).await?;
        Ok(Self {
            options,
            times,
            store: Arc::new(EncryptedStore::new(inner, encryption)),
            read: tokio::sync::Mutex::new(Sha256::digest(text.as_bytes()).into()),
            reloaded: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// The store that encrypts.
    pub(crate) fn store(&self) -> &Arc<EncryptedStore> {
        &self.store
    }

    /// What `/healthz/kms-providers` says; `None` if there is no such check.
    pub(crate) async fn check(&self) -> Option<Result<(), String>> {
        let said = self.store.encryption().check().await;
        said.or(self.options.reload.then_some(Ok(())))
    }

    /// Looks for changes of the file for ever, if it is to be read again at all.
    pub(crate) async fn run(&self) {
        if !self.options.reload {
            return;
        }
        loop {
            tokio::time::sleep(self.options.poll).await;
            match self.look().await {
                Ok(false) => {}
                Ok(true) => {
                    self.reloaded.fetch_add(1, Ordering::Relaxed);
                    tracing::info!("the new configuration of encryption at rest is in force");
                }
                Err(why) => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(why, "the new configuration of encryption at rest is not used");
                }
            }
        }
    }

    /// Reads the file again; whether it was new. Errors: it cannot be used; the one before stays in force.
    pub(crate) async fn look(&self) -> Result<bool, String> {
        let mut known = self.read.lock().await;
        let text = read(&self.options).await?;
        let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        if *known == digest {
            return Ok(false);
        }
        let encryption = Encryption::open(&text, self.times).await?;
        become_well(&encryption).await?;
        self.store.replace(encryption);
        *known = digest;
        Ok(true)
    }

    /// Shows counters.
    pub(crate) fn show(&self, page: &mut Page) {
        self.store.encryption().show(page);
        if !self.options.reload {
            return;
        }
        let metric = "apiserver_encryption_config_controller_automatic_reloads_total";
        let mut section = page.section(metric, Kind::Counter, "How often a changed configuration was read.");
        for (status, count) in [("success", &self.reloaded), ("failure", &self.refused)] {
            let labels = [("apiserver_id_hash", ""), ("status", status)];
            section.sample(&labels, count.load(Ordering::Relaxed) as f64);
        }
    }
}

async fn read(options: &EncryptionOptions) -> Result<String, String> {
    let path = options.path.display();
    let text = tokio::fs::read_to_string(&options.path).await;
    match text.map_err(|e| format!("{path}: {e}"))? {
        empty if empty.is_empty() => Err(format!("{path} is empty")),
        text => Ok(text),
    }
}

async fn become_well(encryption: &Encryption) -> Result<(), String> {
    let until = tokio::time::Instant::now() + BECOMING_WELL;
    loop {
        match encryption.check().await {
            None | Some(Ok(())) => return Ok(()),
            Some(Err(why)) if tokio::time::Instant::now() >= until => return Err(why),
            Some(Err(_)) => tokio::time::sleep(ASKED_AGAIN).await,
        }
    }
}
