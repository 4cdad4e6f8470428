//! hosts.toml and policy files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static SCRATCH: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a scratch folder"));

fuzz_target!(|text: &str| strata_image::fuzzing::settings(text, SCRATCH.path()));
