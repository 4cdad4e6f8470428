//! The messages, made by `cargo xtask generate-ttrpc`.
#![allow(missing_docs)]

pub mod metrics_v1;
pub mod metrics_v2;
pub mod task;
