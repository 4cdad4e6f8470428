//! Keys that are in the configuration itself: `aesgcm`, `aescbc`, `secretbox`.

use super::unreadable;
use aes::{Aes128, Aes192, Aes256};
use bytes::Bytes;
use cbc::{
    Decryptor, Encryptor,
    cipher::{BlockCipher, BlockDecryptMut, BlockEncryptMut, KeyInit, KeyIvInit, block_padding::Pkcs7},
};
use crypto_secretbox::{XSalsa20Poly1305, aead::Aead};
use ring::{
    aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use strata_store::Error;

/// AES's block, and so the initialisation vector of its chaining mode.
const BLOCK: usize = 16;
/// XSalsa20's nonce.
const LONG_NONCE: usize = 24;

/// How values are encrypted with a key of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    AesGcm,
    AesCbc,
    Secretbox,
}

impl Algorithm {
    /// The name in the configuration and in values.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AesGcm => "aesgcm",
            Self::AesCbc => "aescbc",
            Self::Secretbox => "secretbox",
        }
    }

    /// How long its keys may be.
    pub(super) fn key_lengths(self) -> &'static [usize] {
        match self {
            Self::AesGcm | Self::AesCbc => &[16, 24, 32],
            Self::Secretbox => &[32],
        }
    }
}

/// One key.
pub(super) struct Cipher {
    prefix: Vec<u8>,
    key: Key,
    random: SystemRandom,
}

enum Key {
    AesGcm(Box<LessSafeKey>),
    AesCbc(Vec<u8>),
    Secretbox(Box<XSalsa20Poly1305>),
}

impl Cipher {
    /// Errors: a sentence about a key that cannot be used.
    pub(super) fn new(algorithm: Algorithm, name: &str, secret: &[u8]) -> Result<Self, String> {
        let key = match (algorithm, secret.len()) {
            (Algorithm::AesGcm, 16 | 32) => {
                let gcm = if secret.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
                let unbound = UnboundKey::new(gcm, secret).map_err(|_| "the key cannot be used".to_owned())?;
                Key::AesGcm(Box::new(LessSafeKey::new(unbound)))
            }
            (Algorithm::AesGcm, 24) => return Err("AES-192 is not supported here with GCM; use 16 or 32 bytes".into()),
            (Algorithm::AesCbc, 16 | 24 | 32) => Key::AesCbc(secret.to_vec()),
            (Algorithm::Secretbox, 32) => {
                let key = XSalsa20Poly1305::new_from_slice(secret).map_err(|e| e.to_string())?;
                Key::Secretbox(Box::new(key))
            }
            (_, length) => {
                return Err(format!(
                    "secret is not of the expected length, got {length}, expected one of {:?}",
                    algorithm.key_lengths()
                ));
            }
        };
        Ok(Self {
            prefix: format!("k8s:enc:{}:v1:{name}:", algorithm.name()).into_bytes(),
            key,
            random: SystemRandom::new(),
        })
    }

    /// What its values begin with.
    pub(super) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// Encrypts: prefix, nonce, cipher text.
    pub(super) fn seal(&self, key: &[u8], plain: &[u8]) -> Result<Bytes, Error> {
        let broken = || Error::Unsealed("the value cannot be encrypted".into());
        let mut sealed = Vec::with_capacity(self.prefix.len() + LONG_NONCE + plain.len() + 2 * BLOCK);
        sealed.extend_from_slice(&self.prefix);
        match &self.key {
            Key::AesGcm(gcm) => seal_gcm(gcm, key, plain, &mut sealed)?,
            Key::AesCbc(secret) => {
                let vector: [u8; BLOCK] = self.random()?;
                sealed.extend_from_slice(&vector);
                let body = match secret.len() {
                    16 => chain::<Aes128>(secret, &vector, plain),
                    24 => chain::<Aes192>(secret, &vector, plain),
                    _ => chain::<Aes256>(secret, &vector, plain),
                };
                sealed.append(&mut body.ok_or_else(broken)?);
            }
            Key::Secretbox(secretbox) => {
                let nonce: [u8; LONG_NONCE] = self.random()?;
                sealed.extend_from_slice(&nonce);
                sealed.append(&mut secretbox.encrypt(&nonce.into(), plain).map_err(|_| broken())?);
            }
        }
        Ok(sealed.into())
    }

    /// Decrypts what [`Self::seal`] made.
    pub(super) fn open(&self, key: &[u8], value: &[u8]) -> Result<Bytes, Error> {
        let damaged = || unreadable(key, "it was not encrypted here with this key");
        let rest = value.get(self.prefix.len()..).ok_or_else(damaged)?;
        let plain = match &self.key {
            Key::AesGcm(gcm) => return open_gcm(gcm, key, rest),
            Key::AesCbc(secret) => {
                let (vector, body) = rest.split_at_checked(BLOCK).ok_or_else(damaged)?;
                match secret.len() {
                    16 => unchain::<Aes128>(secret, vector, body),
                    24 => unchain::<Aes192>(secret, vector, body),
                    _ => unchain::<Aes256>(secret, vector, body),
                }
            }
            Key::Secretbox(secretbox) => {
                let (nonce, body) = rest.split_first_chunk::<LONG_NONCE>().ok_or_else(damaged)?;
                secretbox.decrypt(&(*nonce).into(), body).ok()
            }
        };
        plain.map(Bytes::from).ok_or_else(damaged)
    }

    fn random<const N: usize>(&self) -> Result<[u8; N], Error> {
        random(&self.random)
    }
}

pub(super) fn random<const N: usize>(source: &SystemRandom) -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    let filled = source.fill(&mut bytes);
    filled.map_err(|_| Error::Unsealed("no randomness to encrypt with".into()))?;
    Ok(bytes)
}

/// Appends a random nonce and the cipher text with its tag, bound to the key of the store.
pub(super) fn seal_gcm(gcm: &LessSafeKey, key: &[u8], plain: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let nonce: [u8; NONCE_LEN] = random(&SystemRandom::new())?;
    out.extend_from_slice(&nonce);
    let mut body = plain.to_vec();
    let done = gcm.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(key), &mut body);
    done.map_err(|_| Error::Unsealed("the value cannot be encrypted".into()))?;
    out.append(&mut body);
    Ok(())
}

/// Opens what [`seal_gcm`] appended.
pub(super) fn open_gcm(gcm: &LessSafeKey, key: &[u8], sealed: &[u8]) -> Result<Bytes, Error> {
    let damaged = || unreadable(key, "it was not encrypted here with this key");
    let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or_else(damaged)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
    let mut body = body.to_vec();
    let length = gcm
        .open_in_place(nonce, Aad::from(key), &mut body)
        .map_err(|_| damaged())?
        .len();
    body.truncate(length);
    Ok(body.into())
}

fn chain<C: BlockEncryptMut + BlockCipher + KeyInit>(secret: &[u8], vector: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
    let encryptor = Encryptor::<C>::new_from_slices(secret, vector).ok()?;
    Some(encryptor.encrypt_padded_vec_mut::<Pkcs7>(plain))
}

fn unchain<C: BlockDecryptMut + BlockCipher + KeyInit>(secret: &[u8], vector: &[u8], body: &[u8]) -> Option<Vec<u8>> {
    let decryptor = Decryptor::<C>::new_from_slices(secret, vector).ok()?;
    decryptor.decrypt_padded_vec_mut::<Pkcs7>(body).ok()
}
