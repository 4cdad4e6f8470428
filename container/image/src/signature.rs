//! Signatures as cosign makes them by key: a payload that names an image, and a signature over it.
//!
//! They are found by tag (`sha256-DIGEST.sig`) and as referrers of the image; each layer of
//! such a manifest is a payload, its signature an annotation (cosign SIGNATURE_SPEC).

use crate::config::{Descriptor, ManifestDocument};
use crate::policy::{Policy, Requirement};
use crate::pull::parse_manifest;
use crate::registry::Registry;
use crate::{Digest, ImageError, ImageStore, Reference};
use base64::Engine as _;
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const PAYLOAD_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const ARTIFACT_TYPE: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
const CLAIM: &str = "cosign container image signature";
/// Signatures looked at for one image.
const MAX_SIGNATURES: usize = 128;
/// A payload is a name and a digest.
const MAX_PAYLOAD: u64 = 1 << 20;

/// What stands before the point of a P-256 key in its DER form (RFC 5480), and before an Ed25519 key (RFC 8410).
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const ED25519_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A key that signatures are checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PublicKey {
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl PublicKey {
    /// From a PEM file as `cosign generate-key-pair` or `openssl pkey -pubout` writes it.
    pub fn from_pem(text: &[u8]) -> Result<Self, String> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(text).map_err(|error| format!("no public key: {error}"))?;
        let der: &[u8] = der.as_ref();
        if let Some(point) = der.strip_prefix(&P256_PREFIX).filter(|point| point.len() == 65) {
            return Ok(Self::P256(point.to_vec()));
        }
        if let Some(key) = der.strip_prefix(&ED25519_PREFIX).filter(|key| key.len() == 32) {
            return Ok(Self::Ed25519(key.to_vec()));
        }
        Err("the key is neither ECDSA on P-256 nor Ed25519".into())
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
                .verify(message, signature)
                .is_ok(),
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok(),
        }
    }
}

/// A payload with its signature.
struct Signed {
    payload: Vec<u8>,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    identity: SignedName,
    image: SignedImage,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct SignedName {
    #[serde(rename = "docker-reference")]
    docker_reference: String,
}

#[derive(Deserialize)]
struct SignedImage {
    #[serde(rename = "docker-manifest-digest")]
    docker_manifest_digest: Digest,
}

impl ImageStore {
    /// Whether the policy lets an image from a registry in; `digests` are its index and its manifest.
    pub(crate) async fn admit(
        &self,
        registry: &Registry,
        reference: &Reference,
        digests: &[Digest],
    ) -> Result<(), ImageError> {
        let Some(path) = &self.inner.options.policy else {
            return Ok(());
        };
        let Some(policy) = Policy::read(path)? else {
            return Ok(());
        };
        let refused = |why: String| ImageError::Refused {
            image: reference.to_string(),
            why,
        };
        let mut signatures: Option<Vec<Signed>> = None;
        for requirement in policy.of_registry(reference) {
            if *requirement == (Requirement::Reject {}) {
                return Err(refused("its registry or repository is rejected".into()));
            }
            let Some(keys) = requirement.keys(path)? else { continue };
            let known = match &mut signatures {
                Some(known) => known,
                none => none.insert(self.signatures(registry, digests).await?),
            };
            if known.is_empty() {
                return Err(refused("a signature was required, but no signature exists".into()));
            }
            if !known
                .iter()
                .any(|signed| holds(signed, requirement, &keys, reference, digests))
            {
                return Err(refused(format!(
                    "none of its {} signature(s) is by an accepted key and about this image",
                    known.len()
                )));
            }
        }
        Ok(())
    }

    /// Whether the policy lets images from an archive in; signatures do not travel in these.
    pub(crate) fn admit_archive(&self, transport: &str, name: &str) -> Result<(), ImageError> {
        let Some(path) = &self.inner.options.policy else {
            return Ok(());
        };
        let Some(policy) = Policy::read(path)? else {
            return Ok(());
        };
        let accepted = policy
            .of_archive(transport)
            .iter()
            .all(|requirement| *requirement == Requirement::InsecureAcceptAnything {});
        match accepted {
            true => Ok(()),
            false => Err(ImageError::Refused {
                image: name.to_owned(),
                why: format!("{transport} is not accepted, or a signature was required, which archives do not carry"),
            }),
        }
    }

    async fn signatures(&self, registry: &Registry, digests: &[Digest]) -> Result<Vec<Signed>, ImageError> {
        let mut found = Vec::new();
        for digest in digests {
            let mut manifests: Vec<ManifestDocument> = Vec::new();
            let tag = format!("sha256-{}.sig", digest.hex());
            match registry.manifest(&tag).await {
                Ok((body, _)) => manifests.push(parse_manifest(&tag, &body)?),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
            for referrer in registry.referrers(*digest, Some(ARTIFACT_TYPE)).await? {
                let (body, _) = registry.manifest(&referrer.digest.to_string()).await?;
                manifests.push(parse_manifest(&referrer.digest.to_string(), &body)?);
                if manifests.len() > MAX_SIGNATURES {
                    break;
                }
            }
            for layer in manifests.iter().flat_map(|manifest| &manifest.layers) {
                if found.len() >= MAX_SIGNATURES {
                    return Ok(found);
                }
                found.extend(signed(registry, layer).await?);
            }
        }
        Ok(found)
    }
}

/// The payload of a layer of a signature's manifest; nothing for a layer that is none.
async fn signed(registry: &Registry, layer: &Descriptor) -> Result<Option<Signed>, ImageError> {
    let Some(text) = layer.annotations.get(SIGNATURE) else {
        return Ok(None);
    };
    if layer.media_type != PAYLOAD_TYPE || layer.size > MAX_PAYLOAD {
        return Ok(None);
    }
    // Somebody else's broken signature must not keep ours from being found.
    let Ok(signature) = base64::engine::general_purpose::STANDARD.decode(text.trim()) else {
        return Ok(None);
    };
    let payload = registry.small_blob(layer.digest).await?;
    Ok(Some(Signed { payload, signature }))
}

fn holds(
    signed: &Signed,
    requirement: &Requirement,
    keys: &[PublicKey],
    image: &Reference,
    digests: &[Digest],
) -> bool {
    if !keys.iter().any(|key| key.verifies(&signed.payload, &signed.signature)) {
        return false;
    }
    let Ok(payload) = serde_json::from_slice::<Payload>(&signed.payload) else {
        return false;
    };
    payload.critical.kind == CLAIM
        && digests.contains(&payload.critical.image.docker_manifest_digest)
        && requirement.speaks_of(image, &payload.critical.identity.docker_reference)
}
