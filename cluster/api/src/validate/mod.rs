//! Rules that hold for every kind.

mod delete;
mod metadata;

pub(crate) use delete::delete_options;
pub(crate) use metadata::{NameRule, metadata, metadata_update};
