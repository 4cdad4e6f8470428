//! What can be done with the objects of a row.

mod apply;
mod create;
mod deadline;
mod delete;
mod list_options;
mod options;
mod patch;
mod patch_body;
mod read;
mod repeats;
mod select;
mod shown;
mod update;
mod watch;

pub(crate) use apply::{read_config, refused};
pub(crate) use create::{Creation, create, create_object, match_namespace, random_suffix};
pub(crate) use deadline::{WRITE_TIMEOUT, ran_out};
pub(crate) use delete::{DeleteOptions, delete, delete_collection, delete_object};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use list_options::check as check_list_options;
pub(crate) use options::{WriteOptions, field_manager};
pub(crate) use patch::{patch, undecodable};
pub(crate) use patch_body::{Patched, patch_value};
pub(crate) use read::{ListQuery, find, get, list, list_page, list_query};
pub(crate) use repeats::Repeat;
pub(crate) use select::{Page, filter, parse_revision, request_filter};
pub(crate) use shown::{ShownField, View};
pub(crate) use update::{Change, Part, apply_change, check_address, update};
pub(crate) use watch::{open_watch, watch};
