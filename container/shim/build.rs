//! The freestanding program brings its own entry point instead of the C library's.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_FREESTANDING").is_some() {
        println!("cargo::rustc-link-arg-bins=-nostartfiles");
    }
}
