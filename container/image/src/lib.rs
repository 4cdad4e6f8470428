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

mod ahead;
mod archive;
mod builtin;
mod changes;
mod collect;
mod commit;
mod compose;
mod config;
mod connection;
mod content;
#[cfg(test)]
mod crash_tests;
mod credentials;
mod describe;
mod diff;
mod digest;
mod disk;
mod durable;
mod error;
mod faults;
mod filters;
mod folder;
#[cfg(feature = "fuzzing")]
#[allow(clippy::expect_used, missing_docs)]
pub mod fuzzing;
mod hosts;
mod image;
mod inspect;
mod layer;
mod login;
mod manifest;
mod origins;
mod pack;
mod policy;
mod prune;
mod pull;
mod push;
mod records;
mod reference;
mod referrers;
mod registry;
mod repack;
mod resolver;
mod save;
mod seen;
mod signature;
mod store;
mod tar_stream;
mod tar_write;
mod transfer;
mod transport;
mod tree;
mod unpack;
mod upload;
mod verify_login;
mod view;

pub use collect::{CollectPolicy, Collected, DiskUsage};
pub use commit::{CommitOptions, ImportOptions, pack_directory};
pub use config::{ImageConfig, Platform};
pub use credentials::{CredentialStore, Kept};
pub use describe::Described;
pub use diff::{Change, ChangeKind, diff};
pub use digest::{Digest, DigestError};
pub use error::ImageError;
pub use filters::ImageFilters;
pub use image::{
    Builtin, BuiltinFile, BuiltinSource, Credentials, Image, ImageOptions, LayerState, Progress, ProgressSender,
    ProxyOptions, Removed,
};
pub use inspect::{HistoryStep, Inspect, Summary, moment_text};
pub use pull::PullOptions;
pub use push::{PushOptions, Pushed};
pub use reference::Reference;
pub use referrers::Referrer;
pub use save::ArchiveFormat;
pub use store::ImageStore;
pub use tree::{pack_mount, pack_tree, unpack_tree};
pub use verify_login::verify_login;
