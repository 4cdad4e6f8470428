//! Layers: tar streams with every extension, plain and compressed, unpacked, packed and unpacked again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static SCRATCH: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a scratch folder"));

fuzz_target!(|bytes: &[u8]| strata_image::fuzzing::layer(bytes, SCRATCH.path()));
