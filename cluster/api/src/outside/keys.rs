//! The keys of an OpenID provider (RFC 7517), fetched when they are needed and kept.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Limited};
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use std::time::{Duration, Instant};
use strata_http::{Body, ClientTls, HttpsClient};
use tokio::sync::Mutex;

/// How long a fetch may take, how large its answer may be, and how soon an unknown key leads to another.
const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_DOCUMENT: usize = 1 << 20;
const PAUSE: Duration = Duration::from_secs(10);

/// A provider's keys.
pub(super) struct Keys {
    /// Where the discovery document is.
    discovery: String,
    /// What the document must name as issuer.
    issuer: String,
    /// Whom to believe, PEM; the machine's own authorities when absent.
    authority: Option<String>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    keys: Vec<Key>,
    fetched: Option<Instant>,
}

/// One key of a set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Key {
    kid: String,
    kty: String,
    crv: String,
    r#use: String,
    n: String,
    e: String,
    x: String,
    y: String,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Keys {
    pub(super) fn new(issuer: &str, discovery: Option<&str>, authority: Option<String>) -> Self {
        let default = || format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        Self {
            discovery: discovery.filter(|d| !d.is_empty()).map_or_else(default, str::to_owned),
            issuer: issuer.to_owned(),
            authority,
            known: Mutex::default(),
        }
    }

    /// Checks the signature of what a key has signed. Errors: a sentence.
    pub(super) async fn verify(
        &self,
        algorithm: &str,
        kid: &str,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), String> {
        let mut known = self.known.lock().await;
        loop {
            let fitting = known.keys.iter().filter(|k| kid.is_empty() || k.kid == kid);
            let mut any = false;
            for key in fitting {
                any = true;
                if key.verify(algorithm, signed, signature)? {
                    return Ok(());
                }
            }
            let recent = known.fetched.is_some_and(|at| at.elapsed() < PAUSE);
            if recent || (any && !kid.is_empty()) {
                return Err("failed to verify signature".into());
            }
            known.fetched = Some(Instant::now());
            known.keys = self.fetch().await?;
        }
    }

    async fn fetch(&self) -> Result<Vec<Key>, String> {
        let roots = match &self.authority {
            Some(pem) => pem.clone().into_bytes(),
            None => crate::webhook::system_roots().await?,
        };
        let client = HttpsClient::new(ClientTls::new(&roots, None).map_err(|e| e.to_string())?);
        let document: Discovery = get(&client, &self.discovery).await?;
        if document.issuer != self.issuer {
            return Err(format!(
                "the provider calls itself {:?}, not {:?}",
                document.issuer, self.issuer
            ));
        }
        let set: KeySet = get(&client, &document.jwks_uri).await?;
        Ok(set
            .keys
            .into_iter()
            .filter(|k| k.r#use.is_empty() || k.r#use == "sig")
            .collect())
    }
}

async fn get<T: serde::de::DeserializeOwned>(client: &HttpsClient, url: &str) -> Result<T, String> {
    let fetch = async {
        let uri: Uri = url.parse().map_err(|e| format!("{url}: {e}"))?;
        if uri.scheme_str() != Some("https") {
            return Err(format!("{url}: only https is believed"));
        }
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = uri;
        let response = client.send(request).await.map_err(|e| format!("{url}: {e}"))?;
        if !response.status().is_success() {
            return Err(format!("{url}: {}", response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_DOCUMENT).collect().await;
        let bytes: Bytes = body.map_err(|e| format!("{url}: {e}"))?.to_bytes();
        serde_json::from_slice(&bytes).map_err(|e| format!("{url}: {e}"))
    };
    match tokio::time::timeout(TIMEOUT, fetch).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("{url}: no answer in {TIMEOUT:?}")),
    }
}

impl Key {
    /// Whether a signature is this key's. Errors: an algorithm that the key is not for.
    fn verify(&self, algorithm: &str, signed: &[u8], signature: &[u8]) -> Result<bool, String> {
        let part = |text: &str| {
            URL_SAFE_NO_PAD
                .decode(text)
                .map_err(|_| "a key of the provider is no key".to_owned())
        };
        if self.kty == "RSA" {
            let parameters = match algorithm {
                "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
                "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
                "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
                "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
                "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
                other => return Err(format!("algorithm {other:?} is not that of the key")),
            };
            let components = RsaPublicKeyComponents {
                n: part(&self.n)?,
                e: part(&self.e)?,
            };
            return Ok(components.verify(parameters, signed, signature).is_ok());
        }
        let parameters: &dyn signature::VerificationAlgorithm = match (algorithm, self.crv.as_str()) {
            ("ES256", "P-256") => &signature::ECDSA_P256_SHA256_FIXED,
            ("ES384", "P-384") => &signature::ECDSA_P384_SHA384_FIXED,
            (other, _) => return Err(format!("algorithm {other:?} is not that of the key")),
        };
        // SEC 1 section 2.3.3: 4, then both coordinates.
        let point = [vec![4], part(&self.x)?, part(&self.y)?].concat();
        Ok(UnparsedPublicKey::new(parameters, point)
            .verify(signed, signature)
            .is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
    };

    #[test]
    fn a_key_knows_its_own_signatures() {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let point = pair.public_key().as_ref();
        let key = Key {
            kty: "EC".into(),
            crv: "P-256".into(),
            x: URL_SAFE_NO_PAD.encode(&point[1..33]),
            y: URL_SAFE_NO_PAD.encode(&point[33..]),
            ..Key::default()
        };
        let signature = pair.sign(&random, b"a.b").unwrap();
        assert_eq!(key.verify("ES256", b"a.b", signature.as_ref()), Ok(true));
        assert_eq!(key.verify("ES256", b"a.c", signature.as_ref()), Ok(false));
        assert!(key.verify("RS256", b"a.b", signature.as_ref()).is_err());
        assert!(key.verify("none", b"a.b", b"").is_err());
    }
}
