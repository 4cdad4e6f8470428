//! apiserver.config.k8s.io/v1 EncryptionConfiguration: which resources, and with which keys.

use crate::cache::prefix_of;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use ring::{
    aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use serde::Deserialize;
use strata_store::Error;

/// What is encrypted, in the order in which rules are looked at.
pub(crate) struct Encryption {
    rules: Vec<Rule>,
}

/// Resources and their providers.
pub(super) struct Rule {
    /// What keys begin with; the whole registry for all resources.
    prefixes: Vec<String>,
    /// In order; `None` stands for values as they are.
    providers: Vec<Option<Provider>>,
}

/// One key.
pub(super) struct Provider {
    prefix: Vec<u8>,
    key: LessSafeKey,
    random: SystemRandom,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    resources: Vec<Resources>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resources {
    resources: Vec<String>,
    providers: Vec<Providers>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Providers {
    aesgcm: Option<Keys>,
    /// Ours: where AES is slow. Upstream's secretbox is another cipher.
    chacha20poly1305: Option<Keys>,
    aescbc: Option<Keys>,
    secretbox: Option<Keys>,
    kms: Option<serde_json::Value>,
    identity: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Key {
    name: String,
    secret: String,
}

/// A value that cannot be read.
pub(super) fn unreadable(key: &[u8], why: &str) -> Error {
    Error::Unreadable {
        key: String::from_utf8_lossy(key).into_owned(),
        why: why.to_owned(),
    }
}

impl Encryption {
    /// Reads a configuration in YAML. Errors: a sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let file: File = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
        if file.api_version != "apiserver.config.k8s.io/v1" || file.kind != "EncryptionConfiguration" {
            return Err(format!(
                "{} {} is no apiserver.config.k8s.io/v1 EncryptionConfiguration",
                file.api_version, file.kind
            ));
        }
        let rules = file
            .resources
            .into_iter()
            .map(Rule::new)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { rules })
    }

    /// The first rule about a key.
    pub(super) fn rule(&self, key: &[u8]) -> Option<&Rule> {
        let is_about = |rule: &&Rule| rule.prefixes.iter().any(|prefix| key.starts_with(prefix.as_bytes()));
        self.rules.iter().find(is_about)
    }

    /// What the keys of all rules begin with.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = &str> {
        self.rules
            .iter()
            .flat_map(|rule| rule.prefixes.iter().map(String::as_str))
    }
}

impl Rule {
    fn new(resources: Resources) -> Result<Self, String> {
        let mut providers = Vec::new();
        for wanted in resources.providers {
            let unknown = [
                ("aescbc", wanted.aescbc.is_some()),
                ("secretbox", wanted.secretbox.is_some()),
                ("kms", wanted.kms.is_some()),
            ];
            if let Some((name, _)) = unknown.iter().find(|(_, is_there)| *is_there) {
                return Err(format!("provider {name} is not supported; aesgcm and identity are"));
            }
            for (name, keys) in [("aesgcm", wanted.aesgcm), ("chacha20poly1305", wanted.chacha20poly1305)] {
                for key in keys.into_iter().flat_map(|k| k.keys) {
                    providers.push(Some(Provider::new(name, &key)?));
                }
            }
            if wanted.identity.is_some() {
                providers.push(None);
            }
        }
        if providers.is_empty() {
            return Err("resources without a provider".into());
        }
        let prefix = |name: &String| match name.split_once('.') {
            _ if name == "*.*" => "/registry/".to_owned(),
            Some(("*", group)) => format!("/registry/{}/", if group.is_empty() { "core" } else { group }),
            Some((plural, group)) => prefix_of(group, plural),
            None => prefix_of("", name),
        };
        Ok(Self {
            prefixes: resources.resources.iter().map(prefix).collect(),
            providers,
        })
    }

    /// What values are written with; `None`: as they are.
    pub(super) fn first(&self) -> Option<&Provider> {
        self.providers.first().and_then(Option::as_ref)
    }

    /// What values may have been written with.
    pub(super) fn providers(&self) -> impl Iterator<Item = &Provider> {
        self.providers.iter().flatten()
    }
}

impl Provider {
    fn new(name: &str, key: &Key) -> Result<Self, String> {
        let named = |why: &str| format!("key {:?} of {name}: {why}", key.name);
        if key.name.is_empty() || key.name.contains(':') {
            return Err(named("a name without colon is needed"));
        }
        let secret = STANDARD
            .decode(&key.secret)
            .map_err(|_| named("the secret is not base64"))?;
        let algorithm = match (name, secret.len()) {
            ("aesgcm", 16) => &AES_128_GCM,
            ("aesgcm", 32) => &AES_256_GCM,
            ("chacha20poly1305", 32) => &CHACHA20_POLY1305,
            _ => return Err(named("the secret must have 32 bytes, or 16 for AES-128")),
        };
        let unbound = UnboundKey::new(algorithm, &secret).map_err(|_| named("cannot be used"))?;
        Ok(Self {
            prefix: format!("k8s:enc:{name}:v1:{}:", key.name).into_bytes(),
            key: LessSafeKey::new(unbound),
            random: SystemRandom::new(),
        })
    }

    /// What its values begin with.
    pub(super) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// Encrypts: prefix, nonce, cipher text with its tag.
    pub(super) fn seal(&self, key: &[u8], plain: &[u8]) -> Result<Bytes, Error> {
        let mut nonce = [0; NONCE_LEN];
        self.random
            .fill(&mut nonce)
            .map_err(|_| unreadable(key, "no randomness to encrypt with"))?;
        let mut sealed = Vec::with_capacity(self.prefix.len() + NONCE_LEN + plain.len() + 16);
        sealed.extend_from_slice(&self.prefix);
        sealed.extend_from_slice(&nonce);
        let mut body = plain.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let done = self.key.seal_in_place_append_tag(nonce, Aad::from(key), &mut body);
        done.map_err(|_| unreadable(key, "it cannot be encrypted"))?;
        sealed.append(&mut body);
        Ok(sealed.into())
    }

    /// Decrypts what [`Self::seal`] made.
    pub(super) fn open(&self, key: &[u8], value: &[u8]) -> Result<Bytes, Error> {
        let damaged = || unreadable(key, "it was not encrypted here with this key");
        let rest = value.get(self.prefix.len()..).ok_or_else(damaged)?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or_else(damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let mut body = body.to_vec();
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(key), &mut body)
            .map_err(|_| damaged())?
            .len();
        body.truncate(plain);
        Ok(body.into())
    }
}
