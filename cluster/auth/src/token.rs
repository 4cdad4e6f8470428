//! Service account tokens: JWTs signed with ES256 (RFC 7515, 7518, 7519).

use crate::{Error, TokenError, files, user::SERVICE_ACCOUNT_USER_PREFIX};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    fmt,
    path::Path,
    sync::{Mutex, PoisonError},
};
use strata_meta::{Time, Uid};

mod legacy;

use legacy::LegacyClaims;

/// Longest token looked at; ours are below 2 KiB.
const MAX_TOKEN_BYTES: usize = 16 << 10;
/// Clocks may differ by this (the JWT library of upstream allows the same).
const LEEWAY_SECONDS: i64 = 60;
/// A pod's projected token asks for this number of seconds and gets a year, with a warning mark at the time asked
/// for, so that old clients which never reread the file keep working.
const EXTENDED_REQUEST_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;
/// Verified tokens remembered, to spare the signature check. A token proves itself for ever; only time and what it
/// is bound to are checked again.
const CACHE_ENTRIES: usize = 1024;

/// A name and the identity it had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundRef {
    /// The name.
    pub name: String,
    /// The identity; empty for the node of a pod that is not registered.
    #[serde(default, skip_serializing_if = "is_unknown")]
    pub uid: Uid,
}

fn is_unknown(uid: &Uid) -> bool {
    uid.as_str().is_empty()
}

/// What a token is asked to say.
#[derive(Clone, Debug, Default)]
pub struct ServiceAccountClaims {
    /// The account's namespace.
    pub namespace: String,
    /// The account's name.
    pub name: String,
    /// The account's identity.
    pub uid: Uid,
    /// The pod whose end ends the token.
    pub pod: Option<BoundRef>,
    /// The secret whose end ends the token.
    pub secret: Option<BoundRef>,
    /// The node of the pod; without a pod, the node whose end ends the token.
    pub node: Option<BoundRef>,
    /// Whom the token is for; empty: the API server.
    pub audiences: Vec<String>,
    /// How long it is valid.
    pub expiration_seconds: i64,
}

/// A signed token.
#[derive(Clone)]
pub struct IssuedToken {
    /// The token. Secret.
    pub token: String,
    /// When its holder should have a new one.
    pub expires: Time,
    /// Its audiences.
    pub audiences: Vec<String>,
    /// Its unique id.
    pub id: String,
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedToken")
            .field("id", &self.id)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// The content of a verified token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Whom it is for.
    #[serde(rename = "aud", deserialize_with = "one_or_many")]
    pub audiences: Vec<String>,
    /// Until when, in seconds since 1970.
    #[serde(rename = "exp")]
    pub expires: i64,
    /// Signed when.
    #[serde(rename = "iat")]
    pub issued: i64,
    /// By whom.
    #[serde(rename = "iss")]
    pub issuer: String,
    /// Its unique id.
    #[serde(rename = "jti", default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The account and what the token is bound to.
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: KubernetesClaims,
    /// From when.
    #[serde(rename = "nbf")]
    pub not_before: i64,
    /// `system:serviceaccount:NAMESPACE:NAME`.
    #[serde(rename = "sub")]
    pub subject: String,
}

impl Claims {
    /// Whether the token is one that a secret holds, and without which it is worth nothing.
    pub fn is_kept_in_secret(&self) -> bool {
        self.issuer == legacy::ISSUER
    }
}

/// The private part of [`Claims`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesClaims {
    /// The account's namespace.
    pub namespace: String,
    /// The node of the pod, or the one the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<BoundRef>,
    /// The pod the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<BoundRef>,
    /// The secret the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<BoundRef>,
    /// The account.
    #[serde(rename = "serviceaccount")]
    pub service_account: BoundRef,
    /// Use after this moment means that the holder does not renew.
    #[serde(default, rename = "warnafter", skip_serializing_if = "Option::is_none")]
    pub warn_after: Option<i64>,
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Audience::deserialize(d)? {
        Audience::One(one) => vec![one],
        Audience::Many(many) => many,
    })
}

/// Signs and verifies service account tokens with one key.
pub struct TokenIssuer {
    issuer: String,
    key: EcdsaKeyPair,
    key_id: String,
    random: SystemRandom,
    extends: bool,
    verified: Mutex<HashMap<[u8; 32], Claims>>,
}

impl fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenIssuer")
            .field("issuer", &self.issuer)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    kid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crit: Option<Value>,
}

impl TokenIssuer {
    /// Reads `sa.key` of a directory or makes it. `issuer` is the URL in the tokens,
    /// usually `https://kubernetes.default.svc.cluster.local`; it is also the audience of the API server.
    pub fn open_or_create(directory: &Path, issuer: &str) -> Result<Self, Error> {
        let path = directory.join("sa.key");
        if let Some(pem) = files::read_text(&path)? {
            return Self::from_pem(&pem, issuer).map_err(|error| Error::Content {
                path,
                why: error.to_string(),
            });
        }
        files::create_private_dir(directory)?;
        let pem = rcgen::KeyPair::generate()?.serialize_pem();
        files::write_private(&path, pem.as_bytes())?;
        Self::from_pem(&pem, issuer)
    }

    /// Takes a P-256 key in PKCS #8 PEM.
    pub fn from_pem(pem: &str, issuer: &str) -> Result<Self, Error> {
        let pair = rcgen::KeyPair::from_pem(pem)?;
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pair.serialized_der(), &random)
            .map_err(|_| Error::Signing)?;
        let digest = ring::digest::digest(&ring::digest::SHA256, &public_key_info(key.public_key().as_ref()));
        let key_id = URL_SAFE_NO_PAD.encode(digest);
        Ok(Self {
            issuer: issuer.to_owned(),
            key,
            key_id,
            random,
            extends: true,
            verified: Mutex::default(),
        })
    }

    /// Whether the tokens of pods' volumes live a year (`--service-account-extend-token-expiration`).
    #[must_use]
    pub fn extending(mut self, extends: bool) -> Self {
        self.extends = extends;
        self
    }

    /// The issuer's URL, which is also the API server's audience.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Signs a token that is valid from `now`.
    pub fn issue(&self, wanted: &ServiceAccountClaims, now: Time) -> Result<IssuedToken, Error> {
        let audiences = if wanted.audiences.is_empty() {
            vec![self.issuer.clone()]
        } else {
            wanted.audiences.clone()
        };
        let seconds = wanted.expiration_seconds;
        let for_us = audiences.iter().all(|audience| *audience == self.issuer);
        let extended = self.extends && seconds == EXTENDED_REQUEST_SECONDS && wanted.pod.is_some() && for_us;
        let id = Uid::random().as_str().to_owned();
        let claims = Claims {
            audiences: audiences.clone(),
            expires: now
                .plus_seconds(if extended { EXTENDED_SECONDS } else { seconds })
                .as_second(),
            issued: now.as_second(),
            issuer: self.issuer.clone(),
            id: id.clone(),
            kubernetes: KubernetesClaims {
                namespace: wanted.namespace.clone(),
                node: wanted.node.clone(),
                pod: wanted.pod.clone(),
                secret: wanted.secret.clone(),
                service_account: BoundRef {
                    name: wanted.name.clone(),
                    uid: wanted.uid.clone(),
                },
                warn_after: extended.then(|| now.plus_seconds(seconds).as_second()),
            },
            not_before: now.as_second(),
            subject: format!("{SERVICE_ACCOUNT_USER_PREFIX}{}:{}", wanted.namespace, wanted.name),
        };
        Ok(IssuedToken {
            token: self.sign(&claims)?,
            expires: now.plus_seconds(seconds),
            audiences,
            id,
        })
    }

    /// Signs a token that is kept in a secret and good for as long as it is there.
    pub fn issue_for_secret(&self, namespace: &str, account: &str, uid: &str, secret: &str) -> Result<String, Error> {
        self.sign(&LegacyClaims::new(namespace, account, uid, secret))
    }

    fn sign(&self, claims: &impl Serialize) -> Result<String, Error> {
        let header = Header {
            alg: "ES256".into(),
            kid: self.key_id.clone(),
            crit: None,
        };
        let encode = |json: Result<Vec<u8>, serde_json::Error>| {
            json.map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
                .map_err(|_| Error::Signing)
        };
        let mut token = encode(serde_json::to_vec(&header))?;
        token.push('.');
        token.push_str(&encode(serde_json::to_vec(claims))?);
        let signature = self
            .key
            .sign(&self.random, token.as_bytes())
            .map_err(|_| Error::Signing)?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(token)
    }

    /// Checks form, algorithm, key, signature, issuer and time; not audience, and not whether what the token is
    /// bound to is still there.
    pub fn verify(&self, token: &str, now: Time) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed("too long"));
        }
        let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        let fingerprint: [u8; 32] = digest
            .as_ref()
            .try_into()
            .map_err(|_| TokenError::Malformed("digest"))?;
        let known = self
            .verified
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&fingerprint)
            .cloned();
        let claims = match known {
            Some(claims) => claims,
            None => {
                let claims = self.verify_signature(token)?;
                let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
                if verified.len() >= CACHE_ENTRIES {
                    verified.clear();
                }
                verified.insert(fingerprint, claims.clone());
                claims
            }
        };
        check_time(&claims, now)?;
        Ok(claims)
    }

    fn verify_signature(&self, token: &str) -> Result<Claims, TokenError> {
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed("not three parts"));
        };
        let decode = |part: &str| {
            URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_| TokenError::Malformed("not base64url"))
        };
        let fields: Header =
            serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Malformed("header is not ours"))?;
        if fields.alg != "ES256" || fields.crit.is_some() {
            return Err(TokenError::Malformed("algorithm is not ES256"));
        }
        if fields.kid != self.key_id {
            return Err(TokenError::Foreign);
        }
        let signed = &token.as_bytes()[..header.len() + 1 + payload.len()];
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref())
            .verify(signed, &decoded_signature(signature)?)
            .map_err(|_| TokenError::Signature)?;
        let payload = decode(payload)?;
        let claims = match serde_json::from_slice::<LegacyClaims>(&payload) {
            Ok(kept) => kept.modern(&self.issuer),
            Err(_) => serde_json::from_slice(&payload).map_err(|_| TokenError::Malformed("claims are not ours"))?,
        };
        if claims.issuer != self.issuer && !claims.is_kept_in_secret() {
            return Err(TokenError::Foreign);
        }
        let (namespace, account) = (&claims.kubernetes.namespace, &claims.kubernetes.service_account);
        let named = claims
            .subject
            .strip_prefix(SERVICE_ACCOUNT_USER_PREFIX)
            .and_then(|rest| rest.split_once(':'));
        if named != Some((namespace.as_str(), account.name.as_str())) {
            return Err(TokenError::Malformed("subject does not match"));
        }
        Ok(claims)
    }

    /// The public key as a JSON web key set.
    pub fn key_set(&self) -> Value {
        // SEC 1 section 2.3.3: 4, then both coordinates.
        let point = self.key.public_key().as_ref();
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..65]),
        }]})
    }

    /// The OpenID discovery document; `keys_uri` is where [`Self::key_set`] is served.
    pub fn discovery_document(&self, keys_uri: &str) -> Value {
        json!({
            "issuer": self.issuer, "jwks_uri": keys_uri, "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"],
        })
    }
}

/// The bytes of a signature; one that only has bits to spare is a wrong signature, not a wrong form.
fn decoded_signature(text: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|why| match why {
        base64::DecodeError::InvalidLastSymbol(..) => TokenError::Signature,
        _ => TokenError::Malformed("not base64url"),
    })
}

fn check_time(claims: &Claims, now: Time) -> Result<(), TokenError> {
    let now = now.as_second();
    if now > claims.expires.saturating_add(LEEWAY_SECONDS) {
        return Err(TokenError::Expired);
    }
    if now.saturating_add(LEEWAY_SECONDS) < claims.not_before.max(claims.issued) {
        return Err(TokenError::NotYetValid);
    }
    Ok(())
}

/// The DER SubjectPublicKeyInfo of a P-256 point, whose hash is the key id (as upstream computes it).
fn public_key_info(point: &[u8]) -> Vec<u8> {
    const PREFIX: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
        0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    [PREFIX.as_slice(), point].concat()
}

#[cfg(test)]
mod tests;
