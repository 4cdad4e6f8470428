//! The policy file: signatures made with openssl's keys as cosign makes them, found by tag and by referrer.

mod support;

use base64::Engine as _;
use std::path::Path;
use std::process::Command;
use strata_image::{ImageOptions, ImageStore};
use support::{Registry, Tar, digest, packed};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const ARTIFACT: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";

fn openssl(folder: &Path, arguments: &str) {
    let run = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .output()
        .expect("openssl is installed");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

/// A key pair NAME.key and NAME.pub.
fn keys(folder: &Path, name: &str, kind: &str) {
    let curve = if kind == "EC" {
        " -pkeyopt ec_paramgen_curve:P-256"
    } else {
        ""
    };
    openssl(folder, &format!("genpkey -algorithm {kind}{curve} -out {name}.key"));
    openssl(folder, &format!("pkey -in {name}.key -pubout -out {name}.pub"));
}

/// A signature's manifest and its payload.
fn signature(
    folder: &Path,
    key: &str,
    kind: &str,
    name: &str,
    image: &str,
    subject: Option<&str>,
) -> (Vec<u8>, Vec<u8>) {
    let payload = serde_json::json!({"critical": {"identity": {"docker-reference": name},
        "image": {"docker-manifest-digest": image}, "type": "cosign container image signature"}, "optional": null})
    .to_string();
    std::fs::write(folder.join("payload"), &payload).expect("file");
    match kind {
        "EC" => openssl(folder, &format!("dgst -sha256 -sign {key}.key -out signature payload")),
        _ => openssl(
            folder,
            &format!("pkeyutl -sign -inkey {key}.key -rawin -in payload -out signature"),
        ),
    }
    let signed = std::fs::read(folder.join("signature")).expect("file");
    let mut manifest = serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(b"{}"), "size": 2},
        "layers": [{"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": digest(payload.as_bytes()),
            "size": payload.len(),
            "annotations": {"dev.cosignproject.cosign/signature": base64::engine::general_purpose::STANDARD.encode(signed)}}]});
    if let Some(subject) = subject {
        manifest["artifactType"] = ARTIFACT.into();
        manifest["subject"] = serde_json::json!({"mediaType": MANIFEST, "digest": subject, "size": 1});
    }
    (manifest.to_string().into_bytes(), payload.into_bytes())
}

struct Bed {
    folder: tempfile::TempDir,
    registry: Registry,
    image: String,
}

impl Bed {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let registry = Registry::start();
        let layer = packed(Tar::default().file("x", b"y").finish());
        let image = registry.push("team/app", "1", &[layer], "{}");
        registry.push_blob("team/app", b"{}");
        Self {
            folder,
            registry,
            image,
        }
    }

    fn name(&self) -> String {
        format!("{}/team/app", self.registry.address)
    }

    /// Pulls with that policy for the registry.
    async fn pull(&self, requirement: serde_json::Value) -> Result<(), String> {
        let policy = self.folder.path().join("policy.json");
        let text = serde_json::json!({"default": [{"type": "reject"}],
            "transports": {"docker": {self.registry.address.clone(): [requirement]}}});
        std::fs::write(&policy, text.to_string()).expect("file");
        let root = tempfile::tempdir().expect("folder");
        let options = ImageOptions {
            policy: Some(policy),
            ..ImageOptions::new(root.path().join("images"))
        };
        let store = ImageStore::open(options).expect("store");
        let pulled = store.pull(&format!("{}:1", self.name()), None, None).await;
        let layers = std::fs::read_dir(root.path().join("images/layers"))
            .expect("layers")
            .count();
        assert_eq!(layers, usize::from(pulled.is_ok()), "a refused image left something");
        pulled.map(drop).map_err(|error| error.to_string())
    }

    fn requirement(&self, key: &str) -> serde_json::Value {
        serde_json::json!({"type": "sigstoreSigned", "keyPath": self.folder.path().join(key),
            "signedIdentity": {"type": "matchRepository"}})
    }

    fn sign(&self, key: &str, kind: &str, name: &str, image: &str) {
        let (manifest, payload) = signature(self.folder.path(), key, kind, name, image, None);
        self.registry.push_blob("team/app", &payload);
        let tag = format!("{}.sig", self.image.replace(':', "-"));
        self.registry.push_manifest("team/app", &tag, MANIFEST, &manifest);
    }
}

#[tokio::test]
async fn an_image_signed_by_the_key_is_let_in_and_no_other() {
    let bed = Bed::new();
    for (kind, name) in [("EC", "ec"), ("ED25519", "ed")] {
        keys(bed.folder.path(), name, kind);
        keys(bed.folder.path(), &format!("{name}-other"), kind);
    }
    let error = bed.pull(bed.requirement("ec.pub")).await.expect_err("unsigned");
    assert!(error.contains("no signature exists"), "{error}");
    for (kind, name) in [("EC", "ec"), ("ED25519", "ed")] {
        bed.sign(name, kind, &bed.name(), &bed.image);
        assert_eq!(
            bed.pull(bed.requirement(&format!("{name}.pub"))).await,
            Ok(()),
            "{kind}"
        );
        let error = bed.pull(bed.requirement(&format!("{name}-other.pub"))).await;
        assert!(error.expect_err("another key").contains("none of its 1 signature(s)"));
    }
    // By the key, but about another image, or another name.
    bed.sign("ec", "EC", &bed.name(), &digest(b"another"));
    assert!(bed.pull(bed.requirement("ec.pub")).await.is_err());
    bed.sign("ec", "EC", "other.example/team/app", &bed.image);
    assert!(bed.pull(bed.requirement("ec.pub")).await.is_err());
}

#[tokio::test]
async fn signatures_are_found_as_referrers_too() {
    let bed = Bed::new();
    keys(bed.folder.path(), "ec", "EC");
    let (manifest, payload) = signature(bed.folder.path(), "ec", "EC", &bed.name(), &bed.image, Some(&bed.image));
    bed.registry.push_blob("team/app", &payload);
    bed.registry
        .push_manifest("team/app", &digest(&manifest), MANIFEST, &manifest);
    // This registry has no list of referrers: the tag stands in for it.
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{"mediaType": MANIFEST, "digest": digest(&manifest), "size": manifest.len(), "artifactType": ARTIFACT}]})
    .to_string();
    let tag = bed.image.replace(':', "-");
    bed.registry.push_manifest(
        "team/app",
        &tag,
        "application/vnd.oci.image.index.v1+json",
        index.as_bytes(),
    );
    assert_eq!(bed.pull(bed.requirement("ec.pub")).await, Ok(()));
    let store = ImageStore::open(ImageOptions::new(bed.folder.path().join("list"))).expect("store");
    let found = store
        .referrers(&format!("{}:1", bed.name()), None, None)
        .await
        .expect("list");
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].artifact_type.as_str(), found[0].size),
        (ARTIFACT, manifest.len() as u64)
    );
    let none = store.referrers(&format!("{}:1", bed.name()), None, Some("other")).await;
    assert!(none.expect("list").is_empty());
}

#[tokio::test]
async fn rejected_and_unsupported_requirements_refuse() {
    let bed = Bed::new();
    for (requirement, words) in [
        (serde_json::json!({"type": "reject"}), "rejected"),
        (
            serde_json::json!({"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/x"}),
            "not supported",
        ),
        (bed.requirement("absent.pub"), "does not exist"),
    ] {
        let error = bed.pull(requirement).await.expect_err(words);
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(
        bed.pull(serde_json::json!({"type": "insecureAcceptAnything"})).await,
        Ok(())
    );
}
