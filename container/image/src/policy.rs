//! Which images are let in: a file in the shape of containers-policy.json(5).
//!
//! `default`, and `transports` by scope: the full name, the repository, the folders above it,
//! the host, `*.domain`, or nothing. Every requirement of the narrowest scope must be met.
//! Signatures by GPG keys (`signedBy`) and by certificates (`fulcio`) are not known here; a
//! policy that asks for them refuses.

use crate::disk::read_bounded;
use crate::signature::PublicKey;
use crate::{ImageError, Reference};
use base64::Engine as _;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

const MAX_FILE: u64 = 4 << 20;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Policy {
    default: Vec<Requirement>,
    #[serde(default)]
    transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
}

/// What an image must meet.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", deny_unknown_fields)]
pub(crate) enum Requirement {
    /// Nothing.
    InsecureAcceptAnything {},
    /// No image does.
    Reject {},
    /// A signature by one of these keys that speaks of this image.
    #[serde(rename_all = "camelCase")]
    SigstoreSigned {
        #[serde(default)]
        key_path: Option<String>,
        #[serde(default)]
        key_paths: Vec<String>,
        #[serde(default)]
        key_data: Option<String>,
        #[serde(default)]
        key_datas: Vec<String>,
        #[serde(default)]
        fulcio: Option<serde_json::Value>,
        #[serde(default)]
        rekor_public_key_path: Option<String>,
        #[serde(default)]
        rekor_public_key_data: Option<String>,
        #[serde(default)]
        signed_identity: Identity,
    },
    /// A signature by a GPG key.
    #[serde(rename_all = "camelCase")]
    SignedBy {
        #[serde(default)]
        key_type: String,
        #[serde(default)]
        key_path: Option<String>,
        #[serde(default)]
        key_paths: Vec<String>,
        #[serde(default)]
        key_data: Option<String>,
        #[serde(default)]
        signed_identity: Identity,
    },
}

/// Which name a signature must speak of.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", deny_unknown_fields)]
pub(crate) enum Identity {
    /// The same name and tag.
    MatchExact {},
    /// The same, or for an image named by digest the same repository.
    MatchRepoDigestOrExact {},
    /// The same repository.
    MatchRepository {},
    /// This name and tag.
    #[serde(rename_all = "camelCase")]
    ExactReference { docker_reference: String },
    /// This repository.
    #[serde(rename_all = "camelCase")]
    ExactRepository { docker_repository: String },
    /// Like `MatchRepoDigestOrExact` with the start of the name replaced.
    #[serde(rename = "remapIdentity", rename_all = "camelCase")]
    Remap { prefix: String, signed_prefix: String },
}

impl Default for Identity {
    fn default() -> Self {
        Self::MatchRepoDigestOrExact {}
    }
}

impl Policy {
    /// Reads the file; `None` if there is none.
    pub fn read(path: &Path) -> Result<Option<Self>, ImageError> {
        let Some(text) = read_bounded(path, MAX_FILE)? else {
            return Ok(None);
        };
        let policy: Self = serde_json::from_slice(&text).map_err(|error| invalid(path, &error.to_string()))?;
        let lists = policy.transports.values().flat_map(BTreeMap::values);
        if lists.chain([&policy.default]).any(Vec::is_empty) {
            return Err(invalid(path, "a list of requirements is empty"));
        }
        Ok(Some(policy))
    }

    /// What an image from a registry must meet.
    pub fn of_registry(&self, reference: &Reference) -> &[Requirement] {
        let Some(scopes) = self.transports.get("docker") else {
            return &self.default;
        };
        candidates(reference)
            .iter()
            .find_map(|scope| scopes.get(scope))
            .unwrap_or(&self.default)
    }

    /// What an image from an archive must meet.
    pub fn of_archive(&self, transport: &str) -> &[Requirement] {
        let scopes = self.transports.get(transport);
        scopes.and_then(|scopes| scopes.get("")).unwrap_or(&self.default)
    }
}

/// The scopes that may speak of an image, the narrowest first.
fn candidates(reference: &Reference) -> Vec<String> {
    let mut found = vec![reference.to_string()];
    let mut name = reference.name();
    loop {
        found.push(name.clone());
        match name.rfind('/') {
            Some(slash) => name.truncate(slash),
            None => break,
        }
    }
    let mut domain = name.as_str();
    while let Some((_, above)) = domain.split_once('.') {
        found.push(format!("*.{above}"));
        domain = above;
    }
    found.push(String::new());
    found
}

impl Requirement {
    /// The keys of which one must have signed; none for a requirement that is about no signature.
    pub fn keys(&self, policy: &Path) -> Result<Option<Vec<PublicKey>>, ImageError> {
        let unknown = |what: &str| {
            Err(invalid(
                policy,
                &format!("{what} is not supported; the image is refused"),
            ))
        };
        let Self::SigstoreSigned {
            key_path,
            key_paths,
            key_data,
            key_datas,
            fulcio,
            rekor_public_key_path,
            rekor_public_key_data,
            ..
        } = self
        else {
            return match self {
                Self::SignedBy { .. } => unknown("signedBy (GPG keys)"),
                _ => Ok(None),
            };
        };
        if fulcio.is_some() || rekor_public_key_path.is_some() || rekor_public_key_data.is_some() {
            return unknown("sigstoreSigned with fulcio or rekor");
        }
        let mut keys = Vec::new();
        for path in key_path.iter().chain(key_paths) {
            let text = read_bounded(Path::new(path), MAX_FILE)?
                .ok_or_else(|| invalid(policy, &format!("the key {path} does not exist")))?;
            keys.push(PublicKey::from_pem(&text).map_err(|why| invalid(Path::new(path), &why))?);
        }
        for data in key_data.iter().chain(key_datas) {
            let text = base64::engine::general_purpose::STANDARD
                .decode(data)
                .map_err(|error| invalid(policy, &format!("keyData: {error}")))?;
            keys.push(PublicKey::from_pem(&text).map_err(|why| invalid(policy, &why))?);
        }
        match keys.is_empty() {
            true => Err(invalid(policy, "sigstoreSigned without a key")),
            false => Ok(Some(keys)),
        }
    }

    /// Whether a signature that names `signed` speaks of `image`.
    pub fn speaks_of(&self, image: &Reference, signed: &str) -> bool {
        let Self::SigstoreSigned { signed_identity, .. } = self else {
            return false;
        };
        // A name without a tag stays without one; parsing would add `latest`.
        let last = signed.rsplit('/').next().unwrap_or(signed);
        let tagged = last.contains([':', '@']);
        let Ok(reference) = signed.parse::<Reference>() else {
            return false;
        };
        let repository = |wanted: &str| reference.name() == wanted;
        let exact = |wanted: &Reference| {
            tagged && repository(&wanted.name()) && wanted.tag.is_some() && reference.tag == wanted.tag
        };
        let digest_or_exact = |wanted: &Reference| match wanted.digest {
            Some(_) => repository(&wanted.name()),
            None => exact(wanted),
        };
        match signed_identity {
            Identity::MatchExact {} => exact(image),
            Identity::MatchRepoDigestOrExact {} => digest_or_exact(image),
            Identity::MatchRepository {} => repository(&image.name()),
            Identity::ExactReference { docker_reference } => {
                docker_reference.parse().is_ok_and(|wanted: Reference| exact(&wanted))
            }
            Identity::ExactRepository { docker_repository } => docker_repository
                .parse()
                .is_ok_and(|wanted: Reference| repository(&wanted.name())),
            Identity::Remap { prefix, signed_prefix } => {
                match image.to_string().strip_prefix(prefix.as_str()) {
                    // Only whole parts of a name are replaced.
                    Some(rest) if rest.is_empty() || rest.starts_with(['/', ':', '@']) => {
                        format!("{signed_prefix}{rest}")
                            .parse()
                            .is_ok_and(|wanted: Reference| digest_or_exact(&wanted))
                    }
                    _ => digest_or_exact(image),
                }
            }
        }
    }
}

fn invalid(path: &Path, why: &str) -> ImageError {
    ImageError::Configuration {
        path: path.to_owned(),
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(text: &str) -> Reference {
        text.parse().expect("reference")
    }

    #[test]
    fn the_narrowest_scope_decides() {
        let accept = r#"[{"type":"insecureAcceptAnything"}]"#;
        let text = format!(
            r#"{{"default":[{{"type":"reject"}}],"transports":{{"docker":{{
            "docker.io/library/nginx:1":{accept},"quay.example/team":{accept},"*.internal.example":{accept},
            "quay.example/team/closed":[{{"type":"reject"}}]}},"docker-archive":{{"":{accept}}}}}}}"#
        );
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("policy.json");
        std::fs::write(&path, text).expect("file");
        let policy = Policy::read(&path).expect("valid").expect("there");
        for (name, accepted) in [
            ("nginx:1", true),
            ("nginx:2", false),
            ("quay.example/team/app", true),
            ("quay.example/team/closed", false),
            ("quay.example/teamwork", false),
            ("a.b.internal.example/app", true),
            ("internal.example/app", false),
        ] {
            let found = policy.of_registry(&reference(name));
            assert_eq!(found == [Requirement::InsecureAcceptAnything {}], accepted, "{name}");
        }
        assert_eq!(
            policy.of_archive("docker-archive"),
            [Requirement::InsecureAcceptAnything {}]
        );
        assert_eq!(policy.of_archive("oci-archive"), [Requirement::Reject {}]);
        assert!(Policy::read(&folder.path().join("absent")).expect("none").is_none());
    }

    #[test]
    fn a_policy_that_cannot_be_kept_refuses() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("policy.json");
        for bad in [
            "{}",
            r#"{"default":[]}"#,
            r#"{"default":[{"type":"nonsense"}]}"#,
            r#"{"default":[{"type":"reject","extra":1}]}"#,
            r#"{"default":[{"type":"reject"}],"more":1}"#,
        ] {
            std::fs::write(&path, bad).expect("file");
            assert!(Policy::read(&path).is_err(), "{bad}");
        }
        for unknown in [
            r#"{"type":"signedBy","keyType":"GPGKeys","keyPath":"/x"}"#,
            r#"{"type":"sigstoreSigned","fulcio":{}}"#,
            r#"{"type":"sigstoreSigned"}"#,
            r#"{"type":"sigstoreSigned","keyPath":"/nonexistent/key"}"#,
        ] {
            let requirement: Requirement = serde_json::from_str(unknown).expect("readable");
            assert!(requirement.keys(&path).is_err(), "{unknown}");
        }
    }

    #[test]
    fn a_signature_must_speak_of_the_name_that_is_asked_for() {
        let by_digest = format!("r.example/app@sha256:{}", "0".repeat(64));
        for (identity, image, signed, expected) in [
            (
                r#"{"type":"matchRepository"}"#,
                "r.example/app:1",
                "r.example/app",
                true,
            ),
            (
                r#"{"type":"matchRepository"}"#,
                "r.example/app:1",
                "r.example/other",
                false,
            ),
            (r#"{"type":"matchExact"}"#, "r.example/app:1", "r.example/app:1", true),
            (
                r#"{"type":"matchExact"}"#,
                "r.example/app:latest",
                "r.example/app",
                false,
            ),
            (
                r#"{"type":"matchRepoDigestOrExact"}"#,
                &by_digest,
                "r.example/app",
                true,
            ),
            (
                r#"{"type":"matchRepoDigestOrExact"}"#,
                "r.example/app:1",
                "r.example/app:2",
                false,
            ),
            (
                r#"{"type":"exactRepository","dockerRepository":"up.example/app"}"#,
                "mirror/app:1",
                "up.example/app",
                true,
            ),
            (
                r#"{"type":"exactReference","dockerReference":"up.example/app:1"}"#,
                "mirror/app:9",
                "up.example/app:1",
                true,
            ),
            (
                r#"{"type":"remapIdentity","prefix":"mirror.example/up","signedPrefix":"up.example"}"#,
                "mirror.example/up/app:1",
                "up.example/app:1",
                true,
            ),
            (
                r#"{"type":"remapIdentity","prefix":"mirror.example/up","signedPrefix":"up.example"}"#,
                "mirror.example/upper/app:1",
                "up.example/app:1",
                false,
            ),
        ] {
            let text = format!(r#"{{"type":"sigstoreSigned","keyPath":"k","signedIdentity":{identity}}}"#);
            let requirement: Requirement = serde_json::from_str(&text).expect("readable");
            assert_eq!(
                requirement.speaks_of(&reference(image), signed),
                expected,
                "{identity} {image} {signed}"
            );
        }
    }
}
