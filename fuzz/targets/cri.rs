//! Requests of the container runtime interface: any method, up to the specification of a container.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use strata_image::{ImageOptions, ImageStore};

static IMAGES: LazyLock<(tempfile::TempDir, ImageStore)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let images = ImageStore::open(ImageOptions::new(folder.path().join("images"))).expect("a store");
    (folder, images)
});

fuzz_target!(|bytes: &[u8]| strata_cri::fuzzing::request(bytes, &IMAGES.1));
