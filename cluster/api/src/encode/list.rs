//! Lists, written while they are sent.

use super::{
    Media, Negotiated, Shape, bytes_response, gzip,
    partial::write_partial,
    protobuf as encode,
    respond::{encoded_response, response},
    write_table,
};
use crate::registry::Row;
use bytes::Bytes;
use futures::stream;
use http::Response;
use std::sync::Arc;
use strata_http::{Body, BoxError};
use strata_meta::{Object, Reason, Revision, Status};
use strata_schema::protobuf;

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
        if self.revision == Revision(0) {
            // Nothing that was stored.
            out.extend_from_slice(br#""metadata":{}"#);
            return;
        }
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

/// A list in the negotiated form: in one piece when it is short, streamed otherwise. Errors: 406.
pub(crate) fn list_response(
    row: &Arc<Row>,
    meta: &ListMeta,
    form: Negotiated,
    include: &str,
    items: impl Iterator<Item = Arc<Object>> + Send + 'static,
) -> Result<Response<Body>, Status> {
    match (form.shape, form.media) {
        (Shape::Table, _) => {
            let bytes = write_table(row, meta, form, include, items)?;
            return Ok(encoded_response(200, bytes, form));
        }
        (Shape::Partial, _) => {
            let why = format_args!(
                "you requested PartialObjectMetadata, but the requested object is a list ({})",
                row.go_type(&row.list_kind)
            );
            return Err(Status::failure(Reason::NotAcceptable, why));
        }
        (_, Media::Json) if !form.pretty => {}
        (_, Media::Protobuf) => {
            let (first, messages) = protobuf_list(row, meta, form, items)?;
            return sent(protobuf::MEDIA_TYPE, first, messages.into_iter().map(Ok), form);
        }
        _ => {
            let (mut whole, rest) = json_list(row, meta, form, items)?;
            for piece in rest {
                whole.extend_from_slice(&piece?);
            }
            return Ok(encoded_response(200, whole, form));
        }
    }
    let (first, rest) = json_list(row, meta, form, items)?;
    sent("application/json", first, rest, form)
}

/// Pieces made as they are asked for.
type Rest = Box<dyn Iterator<Item = Result<Bytes, Status>> + Send>;
/// The first piece and those that follow.
type Written<I> = (Vec<u8>, I);

fn json_list(
    row: &Arc<Row>,
    meta: &ListMeta,
    form: Negotiated,
    items: impl Iterator<Item = Arc<Object>> + Send + 'static,
) -> Result<Written<Rest>, Status> {
    let mut head = Vec::with_capacity(4096);
    match form.shape {
        Shape::PartialList => {
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
    // Lists of what has no Go type tell of the token even when there is none (upstream's do).
    let untyped = row.schema.is_custom() && form.shape == Shape::Object;
    if untyped && meta.continue_token.is_empty() && head.pop_if(|last| *last == b'}').is_some() {
        let comma = if head.ends_with(b"{") { "" } else { "," };
        head.extend_from_slice(comma.as_bytes());
        head.extend_from_slice(br#""continue":""}"#);
    }
    head.extend_from_slice(br#","items":["#);
    let mut pieces = Pieces {
        row: row.clone(),
        form,
        items: Box::new(items),
        first: true,
        buffer: head,
        done: false,
    };
    let first = pieces.next_piece()?.unwrap_or_default();
    Ok((
        first,
        Box::new(std::iter::from_fn(move || {
            Some(pieces.next_piece().transpose()?.map(Bytes::from))
        })),
    ))
}

/// All messages are there before the first byte goes: their lengths stand in front.
fn protobuf_list(
    row: &Arc<Row>,
    meta: &ListMeta,
    form: Negotiated,
    items: impl Iterator<Item = Arc<Object>>,
) -> Result<Written<Vec<Bytes>>, Status> {
    let (gvk, messages) = match form.shape {
        Shape::PartialList => {
            let partial = |object: Arc<Object>| encode::partial_message(&object).map(Bytes::from);
            let messages: Result<Vec<Bytes>, Status> = items.map(partial).collect();
            (encode::meta(form.meta_version, "PartialObjectMetadataList"), messages?)
        }
        _ => {
            let messages: Result<Vec<Bytes>, Status> = items.map(|object| encode::message(row, &object)).collect();
            (row.gvk.group_version().kind(&row.list_kind), messages?)
        }
    };
    let sizes = messages.iter().map(Bytes::len);
    let head = protobuf::list_head(&gvk, &encode::list_meta(meta), sizes).map_err(Status::internal)?;
    let mut pieces = Vec::with_capacity(messages.len() * 2 + 1);
    let mut buffer = head;
    for message in messages {
        protobuf::put_item(&mut buffer, &message);
        if buffer.len() >= PIECE {
            pieces.push(Bytes::from(std::mem::take(&mut buffer)));
        }
    }
    buffer.extend_from_slice(protobuf::LIST_TAIL);
    if pieces.is_empty() {
        return Ok((buffer, pieces));
    }
    let first = pieces.remove(0).to_vec();
    pieces.push(buffer.into());
    Ok((first, pieces))
}

/// The answer of pieces: those of a short list at once, those of a long one as the connection takes them.
fn sent<I>(media: &'static str, first: Vec<u8>, rest: I, form: Negotiated) -> Result<Response<Body>, Status>
where
    I: Iterator<Item = Result<Bytes, Status>> + Send + 'static,
{
    if first.len() < PIECE {
        return Ok(bytes_response(200, media, first, form));
    }
    let compressed = form.gzip.then(gzip::Pieces::new);
    let state = Some((compressed, Some(Bytes::from(first)), rest));
    let pieces = stream::unfold(state, |state| async move {
        let (mut compressed, mut ready, mut rest) = state?;
        // A long list must not keep a worker from others.
        tokio::task::yield_now().await;
        let piece = match ready.take() {
            Some(first) => Some(Ok(first)),
            None => rest.next(),
        };
        let piece = match (piece, compressed.as_mut()) {
            (None, None) => return None,
            (None, Some(_)) => {
                let end = compressed.take()?.end().map_err(BoxError::from);
                return Some((end, None));
            }
            (Some(Err(status)), _) => return Some((Err(BoxError::from(status)), None)),
            (Some(Ok(piece)), None) => Ok(piece),
            (Some(Ok(piece)), Some(compressed)) => compressed.next(&piece).map_err(BoxError::from),
        };
        Some((piece, Some((compressed, None, rest))))
    });
    let mut answer = response(200, media, Body::stream(pieces));
    if form.gzip {
        gzip::mark(&mut answer);
    }
    Ok(answer)
}

struct Pieces {
    row: Arc<Row>,
    form: Negotiated,
    items: Box<dyn Iterator<Item = Arc<Object>> + Send>,
    first: bool,
    buffer: Vec<u8>,
    done: bool,
}

impl Pieces {
    fn next_piece(&mut self) -> Result<Option<Vec<u8>>, Status> {
        if self.done {
            return Ok(None);
        }
        while self.buffer.len() <= PIECE {
            let Some(object) = self.items.next() else {
                self.buffer.extend_from_slice(b"]}\n");
                self.done = true;
                break;
            };
            if !std::mem::take(&mut self.first) {
                self.buffer.push(b',');
            }
            match self.form.shape {
                Shape::PartialList => write_partial(&mut self.buffer, &object, self.form.meta_version, true)?,
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
        Ok(Some(std::mem::replace(&mut self.buffer, Vec::with_capacity(capacity))))
    }
}
