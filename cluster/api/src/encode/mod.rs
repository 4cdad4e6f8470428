//! How answers are written: negotiation, lists, tables, partial metadata, other versions.

pub(crate) mod conversion;
mod list;
mod negotiate;
mod partial;
mod respond;
mod table;

pub(crate) use list::{ListMeta, encode_list};
pub(crate) use negotiate::{Media, Negotiated, Shape, negotiate, negotiate_untabled};
pub(crate) use partial::write_partial;
pub(crate) use respond::{json_response, object_response, status_response, text_response, value_response};
pub(crate) use table::{table_header, table_row, write_table};
