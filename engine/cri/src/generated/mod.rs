//! The messages of the interface, made by `cargo xtask generate-cri`.

pub mod v1;
