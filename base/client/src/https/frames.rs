//! The frames of a watch: one JSON document a line.

use crate::{Error, client};
use bytes::BytesMut;
use futures::{Stream, stream};
use http_body::Body;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use strata_meta::{GroupVersion, Object, Status, WatchEvent};

/// The largest frame; an object is at most 3 MiB when encoded as upstream bounds it.
const LINE_MAX: usize = 8 << 20;

/// Reads frames from a body.
pub(super) struct Frames<B> {
    body: B,
    buffer: BytesMut,
    /// Up to here the buffer holds no line end.
    searched: usize,
    silence: Duration,
}

impl<B: Body + Send + Unpin + 'static> Frames<B>
where
    B::Data: Send,
    B::Error: std::fmt::Display,
{
    /// A body that sends nothing for `silence` counts as dead.
    pub(super) fn new(body: B, silence: Duration) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            searched: 0,
            silence,
        }
    }

    /// The events; an error is the last item.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<WatchEvent, Error>> + Send {
        stream::unfold(Some(self), |frames| async {
            let mut frames = frames?;
            match frames.next().await {
                Ok(Some(event)) => Some((Ok(event), Some(frames))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    async fn next(&mut self) -> Result<Option<WatchEvent>, Error> {
        loop {
            if let Some(line) = self.line()? {
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return decode(&line).map(Some);
            }
            match tokio::time::timeout(self.silence, self.body.frame()).await {
                Err(_) => return Err(Error::Transport(format!("the watch was silent for {:?}", self.silence))),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(Error::Transport(format!("reading the watch: {error}"))),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        bytes::BufMut::put(&mut self.buffer, data);
                    }
                }
            }
        }
    }

    fn line(&mut self) -> Result<Option<BytesMut>, Error> {
        match self.buffer[self.searched..].iter().position(|&b| b == b'\n') {
            Some(at) => {
                let line = self.buffer.split_to(self.searched + at + 1);
                self.searched = 0;
                Ok(Some(line))
            }
            None if self.buffer.len() > LINE_MAX => {
                Err(Error::Decode(format!("a watch frame is larger than {LINE_MAX} bytes")))
            }
            None => {
                self.searched = self.buffer.len();
                Ok(None)
            }
        }
    }
}

#[derive(Deserialize)]
struct Frame {
    #[serde(rename = "type")]
    event_type: String,
    object: Value,
}

fn decode(line: &[u8]) -> Result<WatchEvent, Error> {
    let Frame { event_type, object } = serde_json::from_slice(line)?;
    match event_type.as_str() {
        "BOOKMARK" => Ok(WatchEvent::Bookmark(client::revision(&object)?)),
        "ERROR" => Err(serde_json::from_value::<Status>(object)?.into()),
        "ADDED" => Ok(WatchEvent::Added(whole(&object)?)),
        "MODIFIED" => Ok(WatchEvent::Modified(whole(&object)?)),
        "DELETED" => Ok(WatchEvent::Deleted(whole(&object)?)),
        other => Err(Error::Decode(format!("watch frame of unknown type {other:?}"))),
    }
}

fn whole(object: &Value) -> Result<Arc<Object>, Error> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or("");
    let group_version = GroupVersion::parse(text("apiVersion"))
        .ok_or_else(|| Error::Decode("a watch frame's object has no valid apiVersion".into()))?;
    let kind = Arc::new(group_version.kind(text("kind")));
    Ok(Arc::new(Object::from_value(kind, client::revision(object)?, object)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures::StreamExt;
    use http_body_util::StreamBody;
    use hyper::body::Frame as BodyFrame;
    use std::convert::Infallible;

    fn stream_of(chunks: Vec<Bytes>) -> impl Stream<Item = Result<WatchEvent, Error>> {
        let body = stream::iter(chunks).map(|chunk| Ok::<_, Infallible>(BodyFrame::data(chunk)));
        Frames::new(StreamBody::new(body), Duration::from_secs(5)).into_stream()
    }

    const ADDED: &str = r#"{"type":"ADDED","object":{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"n","uid":"u","resourceVersion":"5"}}}"#;

    #[tokio::test]
    async fn frames_are_found_however_the_chunks_fall() {
        let text = format!(
            "{ADDED}\n{}\n",
            r#"{"type":"BOOKMARK","object":{"apiVersion":"v1","kind":"Pod","metadata":{"resourceVersion":"9"}}}"#
        );
        for size in [1, 7, 64, 4096] {
            let chunks = text.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect();
            let events: Vec<_> = stream_of(chunks).collect().await;
            assert!(matches!(&events[0], Ok(WatchEvent::Added(o)) if o.name() == "a" && o.revision.0 == 5));
            assert!(matches!(&events[1], Ok(WatchEvent::Bookmark(r)) if r.0 == 9));
            assert_eq!(events.len(), 2);
        }
    }

    #[tokio::test]
    async fn an_error_frame_is_the_last_item_and_keeps_its_reason() {
        let expired = serde_json::to_string(&Status::expired("too old resource version: 1 (5)")).unwrap();
        let text = format!("{{\"type\":\"ERROR\",\"object\":{expired}}}\n{ADDED}\n");
        let events: Vec<_> = stream_of(vec![Bytes::from(text)]).collect().await;
        assert_eq!(events.len(), 1);
        assert!(events[0].as_ref().is_err_and(Error::is_expired));
    }

    #[tokio::test]
    async fn a_line_without_end_is_refused() {
        let chunks = (0..10).map(|_| Bytes::from(vec![b'x'; 1 << 20])).collect();
        let events: Vec<_> = stream_of(chunks).collect().await;
        assert!(matches!(&events[..], [Err(Error::Decode(_))]));
    }
}
