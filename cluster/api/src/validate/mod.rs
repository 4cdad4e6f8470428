//! Rules that hold for every kind.

mod delete;
mod field;
pub(crate) mod formats;
mod metadata;

pub(crate) use delete::delete_options;
pub(crate) use field::Field;
pub(crate) use metadata::{NameRule, metadata, metadata_update};
