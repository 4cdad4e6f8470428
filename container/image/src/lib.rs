//! Content store, registries, archives and layers.
//!
//! For: getting an image from a registry or an archive onto this machine as unpacked,
//! verified overlayfs layers, and keeping track of what is there.
//! Not for: mounting or running anything (the shim does), building images, or deciding
//! when to pull (the node agent does).
//!
//! Start at [`ImageStore`]; its pull path is `pull.rs` (what is fetched), `registry.rs`
//! (how), `layer.rs` (one streaming pass), `unpack.rs` (the only code that writes what a
//! stranger sent). `records.rs` shows the layout on disk.

mod archive;
mod builtin;
mod compose;
mod config;
mod digest;
mod disk;
mod durable;
mod error;
mod folder;
mod hosts;
mod image;
mod layer;
mod login;
mod prune;
mod pull;
mod records;
mod reference;
mod registry;
mod resolver;
mod store;
mod tar_stream;
mod transport;
mod unpack;
mod view;

pub use config::{ImageConfig, Platform};
pub use digest::{Digest, DigestError};
pub use error::ImageError;
pub use image::{
    Builtin, BuiltinFile, BuiltinSource, Credentials, Image, ImageOptions, LayerState, Progress, ProgressSender,
    ProxyOptions, Removed,
};
pub use reference::Reference;
pub use store::ImageStore;
