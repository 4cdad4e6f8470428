//! The program: helper, shim and OCI command line. All of it is in the library.

#![cfg_attr(feature = "freestanding", no_std, no_main)]

// Brings the entry point.
#[cfg(feature = "freestanding")]
extern crate strata_shim as _;

#[cfg(not(feature = "freestanding"))]
fn main() {
    let arguments: Vec<String> = std::env::args_os()
        .map(|text| text.to_string_lossy().into_owned())
        .collect();
    let environment: Vec<String> = std::env::vars_os()
        .map(|(name, value)| format!("{}={}", name.display(), value.display()))
        .collect();
    std::process::exit(strata_shim::program::main(&arguments, &environment));
}
