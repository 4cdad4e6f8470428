//! What a KMS provider's values hold: the encrypted object, and the key that its data is encrypted with.
//!
//! Upstream's `EncryptedObject` message of kmsv2; KEP-3299.

use super::cipher::{open_gcm, random, seal_gcm};
use bytes::Bytes;
use ring::{
    aead::{AES_128_GCM, AES_256_GCM, LessSafeKey, UnboundKey},
    hkdf::{HKDF_SHA256, Prk},
    rand::SystemRandom,
};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use strata_meta::names::dns1123_subdomain;
use strata_schema::protobuf::wire::{Raw, Reader, put_bytes, put_message, put_number};
use strata_store::Error;

/// Sizes that upstream allows.
const MAX_ANNOTATIONS: usize = 32 << 10;
const MAX_KEY_ID: usize = 1 << 10;
const MAX_SOURCE: usize = 1 << 10;
/// A seed, and the random text that a key is derived with.
pub(super) const SEED: usize = 32;
const INFO: usize = 32;

/// How the key follows from the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SourceType {
    /// The source is the key.
    #[default]
    Key,
    /// The source is a seed; HKDF-expand with what stands in front of the data makes the key.
    Seed,
}

/// The source of a key as the KMS encrypted it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) key_id: String,
    pub(super) encrypted: Vec<u8>,
    pub(super) annotations: BTreeMap<String, Vec<u8>>,
    pub(super) kind: SourceType,
}

impl Source {
    /// Errors: a sentence about what upstream does not accept either.
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.encrypted.is_empty() {
            return Err("failed to validate encrypted DEK source: encrypted DEK source is empty".into());
        }
        if self.encrypted.len() > MAX_SOURCE {
            return Err(format!(
                "failed to validate encrypted DEK source: encrypted DEK source is {} bytes, which exceeds the max size of {MAX_SOURCE}",
                self.encrypted.len()
            ));
        }
        validate_key_id(&self.key_id).map_err(|(_, why)| format!("failed to validate key id: {why}"))?;
        let total: usize = self.annotations.iter().map(|(k, v)| k.len() + v.len()).sum();
        if let Some(name) = self.annotations.keys().find(|name| !is_domain_name(name)) {
            return Err(format!(
                "failed to validate annotations: annotations: Invalid value: {name:?}: should be a domain with at least two segments separated by dots"
            ));
        }
        if total > MAX_ANNOTATIONS {
            return Err(format!(
                "failed to validate annotations: total size of annotations is {total}, which exceeds the max size of {MAX_ANNOTATIONS}"
            ));
        }
        Ok(())
    }

    /// By what an opened source is remembered.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        let mut add = |bytes: &[u8]| {
            digest.update((bytes.len() as u64).to_be_bytes());
            digest.update(bytes);
        };
        add(&[self.kind as u8]);
        add(&self.encrypted);
        add(self.key_id.as_bytes());
        for (name, value) in &self.annotations {
            add(name.as_bytes());
            add(value);
        }
        digest.finalize().into()
    }

    /// Encodes an encrypted object: the data and how its key is found.
    pub(super) fn encode(&self, data: &[u8], out: &mut Vec<u8>) {
        put_bytes(out, 1, data);
        put_bytes(out, 2, self.key_id.as_bytes());
        put_bytes(out, 3, &self.encrypted);
        put_annotations(out, 4, &self.annotations);
        if self.kind == SourceType::Seed {
            put_number(out, 5, 1);
        }
    }

    /// Decodes an encrypted object into the source of its key and its data. Errors: a sentence.
    pub(super) fn decode(message: &[u8]) -> Result<(Self, &[u8]), String> {
        let mut source = Self::default();
        let mut data: &[u8] = &[];
        let mut reader = Reader::new(message);
        while let Some((number, value)) = reader.field().map_err(|e| e.to_string())? {
            let decoded: Result<(), strata_schema::Error> = (|| {
                match number {
                    1 => data = value.bytes()?,
                    2 => source.key_id = value.text()?.to_owned(),
                    3 => source.encrypted = value.bytes()?.to_vec(),
                    4 => read_annotation(value, &mut source.annotations)?,
                    5 => match value.varint()? {
                        0 => source.kind = SourceType::Key,
                        1 => source.kind = SourceType::Seed,
                        other => {
                            let why = format!("unknown encryptedDEKSourceType: {other}");
                            return Err(strata_schema::Error::Protobuf(why));
                        }
                    },
                    _ => {}
                }
                Ok(())
            })();
            decoded.map_err(|e| e.to_string())?;
        }
        if data.is_empty() {
            return Err("encrypted data is empty".into());
        }
        source.validate()?;
        Ok((source, data))
    }
}

/// Writes a map from text to bytes.
pub(super) fn put_annotations(out: &mut Vec<u8>, number: u32, annotations: &BTreeMap<String, Vec<u8>>) {
    for (name, value) in annotations {
        put_message(out, number, |entry| {
            put_bytes(entry, 1, name.as_bytes());
            put_bytes(entry, 2, value);
        });
    }
}

/// Reads one entry of a map from text to bytes.
pub(super) fn read_annotation(
    entry: Raw<'_>,
    into: &mut BTreeMap<String, Vec<u8>>,
) -> Result<(), strata_schema::Error> {
    let mut reader = Reader::new(entry.bytes()?);
    let (mut name, mut content) = (String::new(), Vec::new());
    while let Some((number, value)) = reader.field()? {
        match number {
            1 => name = value.text()?.to_owned(),
            2 => content = value.bytes()?.to_vec(),
            _ => {}
        }
    }
    into.insert(name, content);
    Ok(())
}

/// Errors: upstream's code for metrics and a sentence.
pub(super) fn validate_key_id(id: &str) -> Result<(), (&'static str, String)> {
    match id.len() {
        0 => Err(("empty", "keyID is empty".into())),
        length if length > MAX_KEY_ID => Err((
            "too_long",
            format!("keyID is {length} bytes, which exceeds the max size of {MAX_KEY_ID}"),
        )),
        _ => Ok(()),
    }
}

fn is_domain_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.contains('.') && dns1123_subdomain(name).is_empty()
}

/// What encrypts data: an opened source.
pub(super) enum DataKey {
    Key(Box<LessSafeKey>),
    Seed(Prk),
}

impl DataKey {
    /// Errors: a source that is too short.
    pub(super) fn new(kind: SourceType, plain: &[u8]) -> Result<Self, String> {
        match kind {
            SourceType::Seed if plain.len() < SEED => {
                Err(format!("invalid seed length {} used for key generation", plain.len()))
            }
            SourceType::Seed => Ok(Self::Seed(Prk::new_less_safe(HKDF_SHA256, plain))),
            SourceType::Key => {
                let algorithm = if plain.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
                let key = UnboundKey::new(algorithm, plain);
                let key = key.map_err(|_| format!("crypto/aes: invalid key size {}", plain.len()))?;
                Ok(Self::Key(Box::new(LessSafeKey::new(key))))
            }
        }
    }

    /// Encrypts data, bound to the key of the store.
    pub(super) fn seal(&self, key: &[u8], plain: &[u8]) -> Result<Vec<u8>, Error> {
        let mut out = Vec::with_capacity(plain.len() + INFO + 28);
        match self {
            Self::Key(gcm) => seal_gcm(gcm, key, plain, &mut out)?,
            Self::Seed(seed) => {
                let info: [u8; INFO] = random(&SystemRandom::new())?;
                let gcm = derive(seed, &info).ok_or_else(|| Error::Unsealed("no key can be derived".into()))?;
                out.extend_from_slice(&info);
                seal_gcm(&gcm, key, plain, &mut out)?;
            }
        }
        Ok(out)
    }

    /// Decrypts what [`Self::seal`] made.
    pub(super) fn open(&self, key: &[u8], data: &[u8]) -> Result<Bytes, Error> {
        match self {
            Self::Key(gcm) => open_gcm(gcm, key, data),
            Self::Seed(seed) => {
                let short = || super::unreadable(key, "the stored data was shorter than the required size");
                let (info, rest) = data.split_first_chunk::<INFO>().ok_or_else(short)?;
                let gcm = derive(seed, info).ok_or_else(|| super::unreadable(key, "no key can be derived"))?;
                open_gcm(&gcm, key, rest)
            }
        }
    }
}

fn derive(seed: &Prk, info: &[u8]) -> Option<LessSafeKey> {
    let info = [info];
    let okm = seed.expand(&info, &AES_256_GCM).ok()?;
    Some(LessSafeKey::new(UnboundKey::from(okm)))
}
