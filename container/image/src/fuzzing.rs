//! Entry points for fuzzing: what a registry, an archive or an administrator may send.

use crate::config::{ConfigDocument, Platform};
use crate::layer::{Expected, Plan, apply};
use crate::pack::pack;
use crate::pull::{choose, parse_manifest};
use crate::unpack::UnpackLimits;
use crate::{Digest, Reference};
use std::path::Path;

const LIMITS: UnpackLimits = UnpackLimits {
    bytes: 1 << 20,
    entries: 1000,
    allow_absolute: false,
    allow_devices: false,
};

/// A layer's bytes, unpacked into a folder of `scratch`: nothing appears beside it, and what
/// is unpacked packs into a layer that unpacks to the same.
pub fn layer(bytes: &[u8], scratch: &Path) {
    let first = scratch.join("first");
    let second = scratch.join("second");
    for folder in [&first, &second] {
        std::fs::create_dir(folder).expect("scratch folder");
    }
    if unpack(bytes, &first) {
        let packed = pack(&first, Vec::new()).expect("an unpacked layer can be packed");
        assert!(unpack(&packed, &second), "a packed layer can be unpacked");
        let again = pack(&second, Vec::new()).expect("an unpacked layer can be packed");
        assert_eq!(packed, again, "packing and unpacking change a layer");
    }
    assert_eq!(std::fs::read_dir(scratch).expect("scratch folder").count(), 2);
    for folder in [&first, &second] {
        std::fs::remove_dir_all(folder).expect("scratch folder");
    }
}

fn unpack(bytes: &[u8], folder: &Path) -> bool {
    let plan = Plan {
        files: Some(folder),
        limits: LIMITS,
        keep: None,
    };
    apply(bytes, Expected { blob: None, diff: None }, &plan).is_ok()
}

/// A manifest, an index or a configuration.
pub fn document(bytes: &[u8]) {
    if let Ok(manifest) = parse_manifest("fuzzed", bytes) {
        let _ = choose(&Platform::host(), "fuzzed", &manifest.manifests);
        let _ = crate::manifest::media_type(&manifest);
        for layer in &manifest.layers {
            let _ = layer.usable();
        }
    }
    if let Ok(config) = serde_json::from_slice::<ConfigDocument>(bytes) {
        let text = serde_json::to_vec(&config).expect("a configuration can be written");
        let again: ConfigDocument = serde_json::from_slice(&text).expect("and read again");
        assert_eq!(config.config, again.config);
    }
}

/// A name of an image: what parses prints and parses to the same.
pub fn reference(text: &str) {
    if let Ok(reference) = text.parse::<Reference>() {
        for form in [reference.to_string(), reference.familiar()] {
            assert_eq!(form.parse::<Reference>().ok().as_ref(), Some(&reference), "{form}");
        }
        assert!(
            !reference
                .repository
                .split('/')
                .any(|part| matches!(part, "" | "." | ".."))
        );
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(platform) = text.parse::<Platform>() {
        assert_eq!(platform.to_string().parse::<Platform>().ok(), Some(platform));
    }
}

/// A hosts.toml in `folder`, or a policy file.
pub fn settings(text: &str, folder: &Path) {
    let file = folder.join("registry.example/hosts.toml");
    std::fs::create_dir_all(folder.join("registry.example")).expect("scratch folder");
    std::fs::write(&file, text).expect("scratch file");
    if let Ok(endpoints) = crate::hosts::endpoints(Some(folder), "registry.example") {
        assert!(endpoints.iter().filter(|endpoint| endpoint.origin).count() >= 1);
        assert!(endpoints.iter().all(|endpoint| !endpoint.authority.contains('@')));
    }
    let _ = crate::policy::Policy::read(&file);
}
