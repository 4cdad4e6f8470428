//! Resource facts: the compact schema table of every built-in kind and what derives from it.
//!
//! For: which kinds there are and how they are served ([`Schema::kinds`]), decoding checks,
//! defaulting, normalising, pruning, strategic merge patch, server-side apply, protobuf coding and
//! the OpenAPI description. Not for: validation, strategies of single kinds, storage, HTTP.
//!
//! The table is text made by `cargo xtask generate-schema` from the public API description and
//! read once ([`Schema::builtin`]). Start at [`KindInfo`] for resources, [`TypeInfo`] for types,
//! and [`decode()`] for what happens to a request body.

pub mod apply;
pub mod decode;
mod defaults;
mod error;
mod kinds;
mod openapi;
mod patch;
pub mod protobuf;
pub mod structural;
mod table;

pub use decode::{
    Decoded, Identity, decode, decode_check, decode_converted, decode_untyped, decode_value, identify, kind_word,
    normalise, prune_unknown, syntax_error, unset_member, whole,
};
pub use defaults::apply_defaults;
pub use error::Error;
pub use kinds::{KindInfo, Subresource};
pub use openapi::{
    DescribedKind, DescribedSubresource, Document, Form, Lazy, Subject, document_path, gnostic, openapi_custom_name,
    openapi_definitions, openapi_fingerprint,
};
pub use patch::strategic_merge;
pub use table::{Field, ListType, Named, Patch, Schema, Shape, TypeId, TypeInfo, Wire};
