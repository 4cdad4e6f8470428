//! The API server: one pipeline over rows.
//!
//! A request is read (`request`), its caller authenticated and authorised, its body decoded, admitted,
//! prepared and validated by the kind's `strategy`, written to the store, and the answer encoded. Which
//! kinds there are is data (`registry`); every read is answered from the `cache`.
//!
//! Not for: deciding who may do what (`strata-auth`), durability (`strata-store`), facts about fields
//! (`strata-schema`), and anything a controller does.
//!
//! Start at [`ApiServer::start`]; then `pipeline.rs` for the life of a request.

#![expect(
    clippy::result_large_err,
    reason = "a Status is the answer to the client, made once for a failed request"
)]

mod access;
mod admission;
mod aggregate;
mod alias;
mod allocator;
mod audit;
mod bootstrap;
mod cache;
mod codec;
mod components;
mod core;
mod discovery;
mod duration;
mod encode;
mod encrypt;
mod extension;
mod flow;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod health;
mod identify;
mod identity;
mod impersonate;
mod inprocess;
mod json;
mod jsonpatch;
mod legacy_tokens;
mod metrics;
mod openapi;
mod operations;
mod options;
mod outside;
mod pipeline;
mod registry;
mod request;
mod review;
mod schema;
mod server;
mod stored_size;
mod strategy;
mod subresource;
mod tracking;
mod usage;
mod validate;
mod verbs;
#[allow(
    dead_code,
    unused_imports,
    reason = "conversion and authentication use the rest of it"
)]
mod webhook;
mod yaml;
mod zpages;

pub use audit::{AuditBatch, AuditDelivery, AuditLog, AuditMode, AuditOptions, AuditTruncate, AuditWebhook};
pub use components::{Health, Shown};
pub use encrypt::EncryptionOptions;
pub use health::GIT_VERSION;
pub use options::{ApiOptions, Dialer, DirectDialer, Error, FrontProxy, LogFilter, Target};
pub use outside::OutsideOptions;
pub use server::ApiServer;
pub use strata_http::BoxedIo;
