//! Builds the small program of `container/shim` and tells the crate where it is: the binary embeds it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the small program is made of.
const SOURCES: [&str; 4] = ["base/sys", "container/runtime", "container/ttrpc", "container/shim"];

/// Kept from the environment of the outer cargo; everything else of it would confuse the inner one.
const KEPT: [&str; 12] = [
    "PATH",
    "HOME",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "TMPDIR",
    "LANG",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "CARGO_NET_OFFLINE",
    "SSL_CERT_FILE",
];

fn main() {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let root = package.parent().expect("the package is in the workspace").to_path_buf();
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", root.join("Cargo.lock").display());
    for source in SOURCES {
        for part in ["src", "Cargo.toml", "build.rs"] {
            let path = root.join(source).join(part);
            if path.exists() {
                println!("cargo::rerun-if-changed={}", path.display());
            }
        }
    }
    let program = build(&root);
    println!("cargo::rustc-env=STRATA_RUNTIME_BINARY={}", program.display());
}

/// A cargo of its own with a target directory of its own: the outer one holds the lock of the usual one.
fn build(root: &Path) -> PathBuf {
    let output = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("small");
    let target = env::var("TARGET").expect("cargo sets it");
    let mut command = Command::new(env::var_os("CARGO").expect("cargo sets it"));
    command.env_clear();
    for name in KEPT {
        if let Some(value) = env::var_os(name) {
            command.env(name, value);
        }
    }
    // Not position independent and without a C library: nothing to relocate at each start. One unit and
    // no unwinding: every start reads the file.
    command
        .env("CARGO_TARGET_DIR", &output)
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            "-Ctarget-feature=+crt-static\u{1f}-Crelocation-model=static",
        )
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s")
        .env("CARGO_PROFILE_RELEASE_LTO", "fat")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .current_dir(root)
        .args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--package",
            "strata-shim",
            "--bin",
            "strata-runtime",
        ])
        .args([
            "--no-default-features",
            "--features",
            "freestanding",
            "--target",
            &target,
        ]);
    let status = command.status().expect("cargo can be started");
    assert!(status.success(), "the small program strata-runtime could not be built");
    output.join(target).join("release").join("strata-runtime")
}
