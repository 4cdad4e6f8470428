//! How answers are written: negotiation, lists, tables, partial metadata, other versions.

mod autoscaler;
pub(crate) mod conversion;
mod frames;
pub(crate) mod gzip;
mod list;
mod negotiate;
mod partial;
mod protobuf;
mod respond;
mod table;

pub(crate) use frames::FrameWriter;
pub(crate) use gzip::expand;
pub(crate) use list::{ListMeta, list_response};
pub(crate) use negotiate::{JSON, Media, Negotiated, Offer, PLAIN, Shape, acceptable, negotiate, reads_gzip, subtype};
pub(crate) use partial::write_partial;
pub(crate) use respond::{
    bytes_response, failure_response, json_response, object_response, status_response, text_response, value_response,
};
pub(crate) use table::{empty_cells, table_header, table_row, write_table};
