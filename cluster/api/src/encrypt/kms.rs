//! A key management service, version 2 of its interface: a seed that only it can read encrypts values; it is asked
//! for its state every now and then, and for a new seed when its key has changed (KEP-3299).
//!
//! Values are read for as long as their seed is known or the service answers. They are written for a few minutes
//! after the service was well for the last time, so that whoever changes its key knows when the old one is out of use.

use super::object::{DataKey, SEED, Source, SourceType, put_annotations, read_annotation, validate_key_id};
use super::{cipher::random, unreadable};
use bytes::Bytes;
use ring::rand::SystemRandom;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};
use strata_http::{GrpcClient, GrpcStatus};
use strata_meta::{Time, Uid};
use strata_metrics::{Buckets, Histogram, Kind, Page};
use strata_schema::protobuf::wire::{Reader, put_bytes};
use strata_store::Error;
use strata_task::{CancellationToken, DropGuard};

/// How often the service is asked, how long answers hold, how long values are written without one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Between questions while it is well.
    pub(crate) poll: Duration,
    /// Between questions while it is not.
    pub(crate) retry: Duration,
    /// For how long a good answer is not asked for again.
    pub(crate) well: Duration,
    /// For how long a bad answer is not asked for again.
    pub(crate) ill: Duration,
    /// How long a seed may be written with after the last good answer.
    pub(crate) write: Duration,
}

impl Default for Times {
    /// Upstream's.
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(60),
            retry: Duration::from_secs(10),
            well: Duration::from_secs(20),
            ill: Duration::from_secs(3),
            write: Duration::from_secs(180),
        }
    }
}

/// How long an opened source is remembered after it was last put to use in a write (upstream's).
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// Opened sources remembered.
const SOURCES: usize = 10_000;

/// Upstream's bounds: from a tenth of a millisecond, each the double of the one before.
const LATENCY: Buckets = Buckets::seconds(&[
    0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0032, 0.0064, 0.0128, 0.0256, 0.0512, 0.1024, 0.2048, 0.4096, 0.8192,
    1.6384, 3.2768, 6.5536, 13.1072, 26.2144, 52.4288,
]);

/// One service.
pub(super) struct Kms {
    name: String,
    prefix: Vec<u8>,
    client: GrpcClient,
    timeout: Duration,
    times: Times,
    current: RwLock<Option<Arc<Current>>>,
    probe: tokio::sync::Mutex<Probe>,
    opened: Mutex<Opened>,
    counts: Mutex<Counts>,
    _stop: DropGuard,
}

/// Opened sources by their digest, and until when they are remembered.
type Opened = HashMap<[u8; 32], (Instant, Arc<DataKey>)>;

/// What values are written with.
struct Current {
    key: Arc<DataKey>,
    source: Source,
    digest: [u8; 32],
    expires: Instant,
    expires_at: Time,
}

#[derive(Default)]
struct Probe {
    last: Option<(Instant, Result<(), String>)>,
    version: String,
}

#[derive(Default)]
struct Counts {
    keys: BTreeMap<(&'static str, String), u64>,
    bad_keys: BTreeMap<&'static str, u64>,
    calls: BTreeMap<(&'static str, &'static str), Histogram>,
}

/// Where a service is and how long it may take.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) name: String,
    /// A path, or `@` and a name in the abstract namespace.
    pub(super) address: String,
    pub(super) timeout: Duration,
}

impl Kms {
    /// Asks the service once, and goes on asking in the background until it is dropped.
    pub(super) async fn start(settings: Settings, times: Times) -> Arc<Self> {
        let stop = CancellationToken::new();
        let kms = Arc::new(Self {
            prefix: format!("k8s:enc:kms:v2:{}:", settings.name).into_bytes(),
            name: settings.name,
            client: GrpcClient::new(settings.address),
            timeout: settings.timeout,
            times,
            current: RwLock::default(),
            probe: tokio::sync::Mutex::default(),
            opened: Mutex::default(),
            counts: Mutex::default(),
            _stop: stop.clone().drop_guard(),
        });
        let mut outcome = kms.check().await;
        let weak = Arc::downgrade(&kms);
        let polling = async move {
            loop {
                tokio::time::sleep(if outcome.is_ok() { times.poll } else { times.retry }).await;
                let Some(kms) = weak.upgrade() else { return };
                outcome = kms.check().await;
            }
        };
        tokio::spawn(async move { stop.run_until_cancelled(polling).await });
        kms
    }

    /// What its values begin with.
    pub(super) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// Whether the service is well; asks it if its last answer is old. Errors: a sentence.
    pub(super) async fn check(&self) -> Result<(), String> {
        let mut probe = self.probe.lock().await;
        if let Some((at, outcome)) = &probe.last {
            let holds = if outcome.is_ok() {
                self.times.well
            } else {
                self.times.ill
            };
            if at.elapsed() < holds {
                return outcome.clone();
            }
        }
        let outcome = self.look(&mut probe.version).await;
        let was_well = probe.last.as_ref().is_none_or(|(_, last)| last.is_ok());
        match &outcome {
            Err(why) if was_well => tracing::warn!(provider = self.name, why, "the key management service is not well"),
            Ok(()) if !was_well => tracing::info!(provider = self.name, "the key management service is well again"),
            _ => {}
        }
        probe.last = Some((Instant::now(), outcome.clone()));
        outcome
    }

    /// Asks for the state, and for a new seed if the key has changed.
    async fn look(&self, version: &mut String) -> Result<(), String> {
        let status = self.status().await.map_err(|e| {
            format!(
                "failed to perform status section of the healthz check for KMS Provider {}, error: {e}",
                self.name
            )
        })?;
        let mut wrong = Vec::new();
        if status.healthz != "ok" {
            wrong.push(format!("got unexpected healthz status: {}", status.healthz));
        }
        if !matches!(status.version.as_str(), "v2" | "v2beta1") {
            wrong.push(format!("expected KMSv2 API version v2, got {}", status.version));
        } else if version.is_empty() {
            *version = status.version;
        } else if *version != status.version {
            wrong.push(format!(
                "KMSv2 API version should not change after the initial status response version {version}, got {}",
                status.version
            ));
        }
        match validate_key_id(&status.key_id) {
            Err((code, why)) => {
                *self.counts().bad_keys.entry(code).or_default() += 1;
                wrong.push(format!(
                    "got invalid KMSv2 KeyID hash {:?}: {why}",
                    hash(&status.key_id)
                ));
            }
            Ok(()) => wrong.extend(self.follow(&status.key_id).await.err()),
        }
        match wrong.as_slice() {
            [] => Ok(()),
            [one] => Err(format!("kmsv2 Provider {} is not healthy, error: {one}", self.name)),
            many => Err(format!(
                "kmsv2 Provider {} is not healthy, error: [{}]",
                self.name,
                many.join(", ")
            )),
        }
    }

    /// Goes on with the seed if it is of this key, else takes a new one. Errors: a sentence; the seed then stays.
    async fn follow(&self, key_id: &str) -> Result<(), String> {
        // From before the question: an upper bound of how long the key may be out of use unnoticed.
        let expires = Instant::now() + self.times.write;
        let expires_at = Time::now().plus_seconds(i64::try_from(self.times.write.as_secs()).unwrap_or(i64::MAX));
        let known = self.current();
        if let Some(known) = known.as_ref().filter(|known| known.source.key_id == key_id) {
            return {
                self.take(Current {
                    key: known.key.clone(),
                    source: known.source.clone(),
                    digest: known.digest,
                    expires,
                    expires_at,
                });
                Ok(())
            };
        }
        let (key, source) = self.generate().await?;
        if source.key_id != key_id {
            return Err(format!(
                "failed to rotate DEK, statusKeyIDHash={:?}, encryptKeyIDHash={:?}, stateKeyIDHash={:?}",
                hash(key_id),
                hash(&source.key_id),
                hash(known.as_ref().map_or("", |k| &k.source.key_id)),
            ));
        }
        tracing::info!(
            provider = self.name,
            key = hash(key_id),
            "values are encrypted with a new key"
        );
        self.take(Current {
            digest: source.digest(),
            key: Arc::new(key),
            source,
            expires,
            expires_at,
        });
        Ok(())
    }

    fn take(&self, current: Current) {
        self.remember(current.digest, current.key.clone());
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(current));
    }

    async fn generate(&self) -> Result<(DataKey, Source), String> {
        let seed: [u8; SEED] = random(&SystemRandom::new()).map_err(|e| e.to_string())?;
        let key = DataKey::new(SourceType::Seed, &seed)?;
        let encrypted = self.encrypt(&seed).await;
        let source = encrypted.map_err(|e| format!("failed to encrypt DEK, error: {e}"))?;
        source.validate()?;
        Ok((key, source))
    }

    fn current(&self) -> Option<Arc<Current>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, digest: [u8; 32], key: Arc<DataKey>) {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if opened.len() >= SOURCES {
            opened.retain(|_, (until, _)| *until > now);
        }
        if opened.len() >= SOURCES {
            opened.clear();
        }
        opened.insert(digest, (now + REMEMBERED, key));
    }

    fn remembered(&self, digest: &[u8; 32]) -> Option<Arc<DataKey>> {
        if let Some(current) = self.current().filter(|current| current.digest == *digest) {
            return Some(current.key.clone());
        }
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let found = opened.get(digest).filter(|(until, _)| *until > Instant::now());
        found.map(|(_, key)| key.clone())
    }

    /// Whether a value is written with the service's present key.
    pub(super) fn is_current(&self, value: &[u8]) -> bool {
        let Some(current) = self.current() else { return true };
        let message = value.get(self.prefix.len()..).unwrap_or_default();
        Source::decode(message)
            .is_ok_and(|(source, _)| source.key_id == current.source.key_id && source.kind == current.source.kind)
    }

    /// Encrypts a value. Errors: the service has not been well for too long.
    pub(super) fn seal(&self, key: &[u8], plain: &[u8]) -> Result<Bytes, Error> {
        let current = self.current().ok_or_else(|| {
            Error::Unsealed(format!(
                "KMS provider {} has not given a key to encrypt with yet",
                self.name
            ))
        })?;
        if Instant::now() > current.expires {
            return Err(Error::Unsealed(format!(
                "encryptedDEKSource with keyID hash {:?} expired at {} (current time is {})",
                hash(&current.source.key_id),
                current.expires_at.0,
                Time::now().0
            )));
        }
        self.remember(current.digest, current.key.clone());
        let data = current.key.seal(key, plain)?;
        let mut value = self.prefix.clone();
        current.source.encode(&data, &mut value);
        let counted = ("to_storage", hash(&current.source.key_id));
        *self.counts().keys.entry(counted).or_default() += 1;
        Ok(value.into())
    }

    /// Decrypts a value; asks the service about a seed that is not known. Errors: it does not answer, or refuses.
    pub(super) async fn open(&self, key: &[u8], value: &[u8]) -> Result<Bytes, Error> {
        let message = value.get(self.prefix.len()..).unwrap_or_default();
        let (source, data) = Source::decode(message).map_err(|why| unreadable(key, &why))?;
        let digest = source.digest();
        let opener = match self.remembered(&digest) {
            Some(known) => known,
            None => {
                let asked = self.decrypt(&source).await;
                let plain = asked.map_err(|e| unreadable(key, &format!("failed to decrypt DEK, error: {e}")))?;
                let opener = Arc::new(DataKey::new(source.kind, &plain).map_err(|why| unreadable(key, &why))?);
                self.remember(digest, opener.clone());
                opener
            }
        };
        let counted = ("from_storage", hash(&source.key_id));
        *self.counts().keys.entry(counted).or_default() += 1;
        opener.open(key, data)
    }

    async fn call(&self, method: &'static str, message: &[u8]) -> Result<Bytes, GrpcStatus> {
        let started = Instant::now();
        let path = format!("/v2.KeyManagementService/{method}");
        let answer = self.client.call(&path, message, self.timeout).await;
        let code = answer.as_ref().err().map_or("OK", GrpcStatus::name);
        let mut counts = self.counts();
        let times = counts.calls.entry((method, code));
        times.or_insert_with(|| Histogram::new(LATENCY)).took(started.elapsed());
        answer
    }

    async fn status(&self) -> Result<ServiceStatus, GrpcStatus> {
        let answer = self.call("Status", &[]).await?;
        let mut status = ServiceStatus::default();
        let mut reader = Reader::new(&answer);
        while let Some((number, value)) = reader.field().map_err(malformed)? {
            match number {
                1 => value.text().map_err(malformed)?.clone_into(&mut status.version),
                2 => value.text().map_err(malformed)?.clone_into(&mut status.healthz),
                3 => value.text().map_err(malformed)?.clone_into(&mut status.key_id),
                _ => {}
            }
        }
        Ok(status)
    }

    async fn encrypt(&self, plain: &[u8]) -> Result<Source, GrpcStatus> {
        let mut question = Vec::new();
        put_bytes(&mut question, 1, plain);
        put_bytes(&mut question, 2, Uid::random().as_str().as_bytes());
        let answer = self.call("Encrypt", &question).await?;
        let mut source = Source {
            kind: SourceType::Seed,
            ..Source::default()
        };
        let mut reader = Reader::new(&answer);
        while let Some((number, value)) = reader.field().map_err(malformed)? {
            match number {
                1 => source.encrypted = value.bytes().map_err(malformed)?.to_vec(),
                2 => value.text().map_err(malformed)?.clone_into(&mut source.key_id),
                3 => read_annotation(value, &mut source.annotations).map_err(malformed)?,
                _ => {}
            }
        }
        Ok(source)
    }

    async fn decrypt(&self, source: &Source) -> Result<Bytes, GrpcStatus> {
        let mut question = Vec::new();
        put_bytes(&mut question, 1, &source.encrypted);
        put_bytes(&mut question, 2, Uid::random().as_str().as_bytes());
        put_bytes(&mut question, 3, source.key_id.as_bytes());
        put_annotations(&mut question, 4, &source.annotations);
        let answer = self.call("Decrypt", &question).await?;
        let mut plain = Bytes::new();
        let mut reader = Reader::new(&answer);
        while let Some((number, value)) = reader.field().map_err(malformed)? {
            if number == 1 {
                plain = answer.slice_ref(value.bytes().map_err(malformed)?);
            }
        }
        Ok(plain)
    }

    /// Shows its counters.
    pub(super) fn show(&self, page: &mut Page) {
        let counts = self.counts();
        let name = self.name.as_str();
        let prefix = "apiserver_envelope_encryption";
        let metric = format!("{prefix}_key_id_hash_total");
        let mut section = page.section(&metric, Kind::Counter, "How often a key was put to use.");
        for ((direction, key), n) in &counts.keys {
            let labels = [
                ("apiserver_id_hash", ""),
                ("key_id_hash", key.as_str()),
                ("provider_name", name),
                ("transformation_type", direction),
            ];
            section.sample(&labels, *n as f64);
        }
        let metric = format!("{prefix}_invalid_key_id_from_status_total");
        let mut section = page.section(&metric, Kind::Counter, "Names of keys that cannot be such.");
        for (error, n) in &counts.bad_keys {
            section.sample(&[("error", error), ("provider_name", name)], *n as f64);
        }
        let metric = format!("{prefix}_kms_operations_latency_seconds");
        let mut section = page.section(&metric, Kind::Histogram, "How long the service took.");
        for ((method, code), times) in &counts.calls {
            let method = format!("/v2.KeyManagementService/{method}");
            let labels = [
                ("grpc_status_code", *code),
                ("method_name", &method),
                ("provider_name", name),
            ];
            section.histogram(&labels, times);
        }
    }
}

#[derive(Default)]
struct ServiceStatus {
    version: String,
    healthz: String,
    key_id: String,
}

fn malformed(error: strata_schema::Error) -> GrpcStatus {
    let why = format_args!("failed to unmarshal the received message: {error}");
    GrpcStatus::new(GrpcStatus::INTERNAL, why)
}

/// How a key is named where its name should not be: logs, errors, metrics.
fn hash(key_id: &str) -> String {
    if key_id.is_empty() {
        return String::new();
    }
    Sha256::digest(key_id.as_bytes())
        .iter()
        .fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}
