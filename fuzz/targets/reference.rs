//! Names of images, digests and platforms.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| strata_image::fuzzing::reference(text));
