//! Rules that hold for every kind.

mod claim;
mod delete;
mod field;
pub(crate) mod formats;
mod looks;
mod metadata;
pub(crate) mod pod;
pub(crate) mod status;
pub(crate) mod storage;

pub(crate) use claim::{access_modes, claim_spec};
pub(crate) use delete::delete_options;
pub(crate) use field::Field;
pub(crate) use looks::{changed_metadata, host_name_warning, new_finalizers};
pub(crate) use metadata::{MetadataTurn, NameRule, metadata, metadata_update};
pub(crate) use pod::{pod_template, pod_warnings};
