//! The frames of a watch in the form the client asked for.

use super::{
    Media, Negotiated, Shape, empty_cells, partial::write_partial, protobuf as encode, table_header, table_row,
};
use crate::{
    cache::{EventKind, Frame},
    registry::Row,
};
use bytes::Bytes;
use serde_json::Value;
use std::sync::Arc;
use strata_meta::{Object, Revision, Status};
use strata_schema::protobuf;

/// Encodes frames in the form the client asked for.
pub(crate) struct FrameWriter {
    /// The row whose objects are told.
    pub(crate) row: Arc<Row>,
    form: Negotiated,
    include: String,
    header_sent: bool,
}

impl FrameWriter {
    /// For the watchers of a row.
    pub(crate) fn new(row: Arc<Row>, form: Negotiated, include: &str) -> Self {
        Self {
            row,
            form,
            include: include.to_owned(),
            header_sent: false,
        }
    }

    /// What a watch in this form is sent as.
    pub(crate) fn media_type(&self) -> &'static str {
        match self.form.media {
            Media::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
            _ => "application/json",
        }
    }

    /// Whether an event has this form: no object is a list of partial metadata, and such a watch ends.
    pub(crate) fn can_tell(&self, frame: &Frame) -> bool {
        self.form.shape != Shape::PartialList || matches!(frame, Frame::Bookmark { .. })
    }

    /// One frame.
    pub(crate) fn frame(&mut self, frame: Frame) -> Result<Bytes, Status> {
        match (frame, self.form.media) {
            (frame, Media::Protobuf) => self.protobuf_frame(frame),
            (frame, _) => self.json_frame(frame),
        }
    }

    /// The frame that tells why a watch ends.
    pub(crate) fn error(&self, status: &Status) -> Bytes {
        let protobuf = || {
            let object = encode::of_status(status)?;
            protobuf::watch_frame("ERROR", &object).map_err(Status::internal)
        };
        if self.form.media == Media::Protobuf {
            return protobuf().unwrap_or_else(|_| Vec::new()).into();
        }
        let mut out = br#"{"type":"ERROR","object":"#.to_vec();
        if serde_json::to_writer(&mut out, status).is_ok() {
            out.extend_from_slice(b"}\n");
        }
        out.into()
    }

    fn protobuf_frame(&mut self, frame: Frame) -> Result<Bytes, Status> {
        match frame {
            Frame::Event { kind, object, shared } => match shared {
                Some(event) if self.form.shape == Shape::Object && self.row.serves_stored(&object) => {
                    event.protobuf_frame(|| self.protobuf_event(kind, &object))
                }
                _ => self.protobuf_event(kind, &object),
            },
            Frame::Bookmark { revision, initial_end } => {
                let mut out = Vec::new();
                self.bookmark(&mut out, revision, initial_end)?;
                let value: Value = serde_json::from_slice(&out).map_err(Status::internal)?;
                let frame = protobuf::watch_frame("BOOKMARK", &encode::of_value(&value)?);
                Ok(frame.map_err(Status::internal)?.into())
            }
        }
    }

    fn protobuf_event(&self, kind: EventKind, object: &Arc<Object>) -> Result<Bytes, Status> {
        let object = match self.form.shape {
            Shape::Object => encode::whole(&self.row, object)?,
            _ => encode::partial(object, self.form)?,
        };
        Ok(protobuf::watch_frame(kind.as_str(), &object)
            .map_err(Status::internal)?
            .into())
    }

    fn json_frame(&mut self, frame: Frame) -> Result<Bytes, Status> {
        match frame {
            Frame::Event { kind, object, shared } => {
                if self.form.shape == Shape::Object && self.row.serves_stored(&object) {
                    return Ok(Frame::encode(kind, &object, shared.as_ref()));
                }
                self.wrapped(kind.as_str(), |writer, out| writer.object(out, &object))
            }
            Frame::Bookmark { revision, initial_end } => {
                self.wrapped("BOOKMARK", |writer, out| writer.bookmark(out, revision, initial_end))
            }
        }
    }

    fn wrapped(
        &mut self,
        kind: &str,
        write: impl FnOnce(&mut Self, &mut Vec<u8>) -> Result<(), Status>,
    ) -> Result<Bytes, Status> {
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(br#"{"type":""#);
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(br#"","object":"#);
        write(self, &mut out)?;
        out.extend_from_slice(b"}\n");
        Ok(out.into())
    }

    fn object(&mut self, out: &mut Vec<u8>, object: &Arc<Object>) -> Result<(), Status> {
        match self.form.shape {
            Shape::Object => self.row.view(object)?.write_json(out, true),
            Shape::Partial | Shape::PartialList => write_partial(out, object, self.form.meta_version, true)?,
            Shape::Table => {
                self.table_start(out, object.revision);
                table_row(out, &self.row, object, self.form, &self.include)?;
                out.extend_from_slice(b"]}");
            }
        }
        Ok(())
    }

    /// Columns stand in the first event only.
    fn table_start(&mut self, out: &mut Vec<u8>, revision: Revision) {
        let version = self.form.meta_version;
        let columns = if std::mem::replace(&mut self.header_sent, true) {
            r#""columnDefinitions":null"#.to_owned()
        } else {
            table_header(&self.row)
        };
        let head = format!(
            r#"{{"kind":"Table","apiVersion":"meta.k8s.io/{version}","metadata":{{"resourceVersion":"{revision}"}},{columns},"rows":["#
        );
        out.extend_from_slice(head.as_bytes());
    }

    fn bookmark(&mut self, out: &mut Vec<u8>, revision: Revision, initial_end: bool) -> Result<(), Status> {
        let annotations = if initial_end {
            r#","annotations":{"k8s.io/initial-events-end":"true"}"#
        } else {
            ""
        };
        let metadata = format!(r#""metadata":{{"resourceVersion":"{revision}"{annotations}}}"#);
        let gvk = &self.row.gvk;
        match self.form.shape {
            Shape::Object => {
                let (kind, version) = (&gvk.kind, gvk.api_version());
                out.extend_from_slice(format!(r#"{{"kind":"{kind}","apiVersion":"{version}",{metadata}}}"#).as_bytes());
            }
            Shape::Partial | Shape::PartialList => {
                let version = self.form.meta_version;
                out.extend_from_slice(
                    format!(r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/{version}",{metadata}}}"#)
                        .as_bytes(),
                );
            }
            Shape::Table => {
                self.table_start(out, revision);
                let version = self.form.meta_version;
                out.extend_from_slice(br#"{"cells":"#);
                out.extend_from_slice(&empty_cells(&self.row)?);
                let row = format!(
                    r#","object":{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/{version}",{metadata}}}}}]}}"#
                );
                out.extend_from_slice(row.as_bytes());
            }
        }
        Ok(())
    }
}
