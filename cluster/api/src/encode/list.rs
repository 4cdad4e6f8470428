//! Lists, written while they are sent.

use super::{Negotiated, Shape, partial::write_partial};
use crate::registry::Row;
use bytes::Bytes;
use futures::stream;
use std::sync::Arc;
use strata_http::{Body, BoxError};
use strata_meta::{Object, Revision, Status};

/// Bytes after which a piece is handed to the connection.
const PIECE: usize = 128 << 10;

/// What a list says about itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListMeta {
    /// The revision it shows.
    pub(crate) revision: Revision,
    /// Where the next page begins.
    pub(crate) continue_token: String,
    /// How many objects follow.
    pub(crate) remaining: Option<usize>,
}

impl ListMeta {
    /// `"metadata":{…}`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!(r#""metadata":{{"resourceVersion":"{}""#, self.revision).as_bytes());
        if !self.continue_token.is_empty() {
            out.extend_from_slice(format!(r#","continue":"{}""#, self.continue_token).as_bytes());
        }
        if let Some(remaining) = self.remaining {
            out.extend_from_slice(format!(r#","remainingItemCount":{remaining}"#).as_bytes());
        }
        out.push(b'}');
    }
}

/// The body of a list: in one piece when it is short, streamed otherwise.
pub(crate) fn encode_list(
    row: &Arc<Row>,
    meta: &ListMeta,
    form: Negotiated,
    items: impl Iterator<Item = Arc<Object>> + Send + 'static,
) -> Result<Body, Status> {
    let mut head = Vec::with_capacity(4096);
    match form.shape {
        Shape::Partial => {
            head.extend_from_slice(br#"{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/"#);
            head.extend_from_slice(form.meta_version.as_bytes());
        }
        _ => {
            head.extend_from_slice(br#"{"kind":""#);
            head.extend_from_slice(row.list_kind.as_bytes());
            head.extend_from_slice(br#"","apiVersion":""#);
            head.extend_from_slice(row.gvk.api_version().as_bytes());
        }
    }
    head.extend_from_slice(br#"","#);
    meta.write(&mut head);
    head.extend_from_slice(br#","items":["#);
    let mut pieces = Pieces {
        row: row.clone(),
        form,
        items,
        first: true,
        buffer: head,
        done: false,
    };
    let first = pieces.next_piece()?;
    if pieces.done {
        return Ok(Body::full(first.unwrap_or_default()));
    }
    let head = futures::stream::iter(first.map(Ok::<Bytes, BoxError>));
    let rest = stream::unfold(Some(pieces), |state| async move {
        let mut pieces = state?;
        match pieces.next_piece() {
            Ok(Some(piece)) => {
                // A long list must not keep a worker from others.
                tokio::task::yield_now().await;
                Some((Ok(piece), Some(pieces)))
            }
            Ok(None) => None,
            Err(status) => Some((Err(BoxError::from(status)), None)),
        }
    });
    Ok(Body::stream(futures::StreamExt::chain(head, rest)))
}

struct Pieces<I> {
    row: Arc<Row>,
    form: Negotiated,
    items: I,
    first: bool,
    buffer: Vec<u8>,
    done: bool,
}

impl<I: Iterator<Item = Arc<Object>>> Pieces<I> {
    fn next_piece(&mut self) -> Result<Option<Bytes>, Status> {
        if self.done {
            return Ok(None);
        }
        while self.buffer.len() < PIECE {
            let Some(object) = self.items.next() else {
                self.buffer.extend_from_slice(b"]}\n");
                self.done = true;
                break;
            };
            if !std::mem::take(&mut self.first) {
                self.buffer.push(b',');
            }
            match self.form.shape {
                Shape::Partial => write_partial(&mut self.buffer, &object, self.form.meta_version, true)?,
                // The items of a list of custom resources say what they are.
                _ if !self.row.serves_stored(&object) => {
                    let object = self.row.view(&object)?;
                    object.write_json(&mut self.buffer, self.row.schema.is_custom());
                }
                _ if self.row.schema.is_custom() => object.write_json(&mut self.buffer, true),
                _ => object.write_json(&mut self.buffer, false),
            }
        }
        let capacity = if self.done { 0 } else { PIECE + (PIECE >> 3) };
        Ok(Some(
            std::mem::replace(&mut self.buffer, Vec::with_capacity(capacity)).into(),
        ))
    }
}
