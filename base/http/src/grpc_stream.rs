//! The client's side of a gRPC call with a stream of answers.

use crate::{
    GrpcClient, GrpcStatus,
    grpc::{FRAME, MAX_ANSWER, begin, request, status},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// Answers as they come. Dropping it ends the call.
#[derive(Debug)]
pub struct GrpcStream {
    body: Incoming,
    /// What has come of the next message.
    held: BytesMut,
}

impl GrpcClient {
    /// Calls `/service/method` with an encoded message; its answers, without a deadline.
    ///
    /// Errors: nobody answers, or the server says no at once.
    pub async fn stream(&self, method: &str, message: &[u8]) -> Result<GrpcStream, GrpcStatus> {
        let ready = self.ready().await;
        let mut sender = ready.map_err(|e| GrpcStatus::new(GrpcStatus::UNAVAILABLE, e))?;
        let (_, body) = begin(&mut sender, request(method, message, None)?).await?;
        Ok(GrpcStream {
            body,
            held: BytesMut::new(),
        })
    }
}

impl GrpcStream {
    /// The next answer; nothing after the last one of a call that ended well.
    pub async fn next(&mut self) -> Option<Result<Bytes, GrpcStatus>> {
        loop {
            match take(&mut self.held) {
                Ok(None) => {}
                Ok(Some(message)) => return Some(Ok(message)),
                Err(why) => return Some(Err(GrpcStatus::new(GrpcStatus::INTERNAL, why))),
            }
            let frame = match self.body.frame().await? {
                Ok(frame) => frame,
                Err(error) => return Some(Err(GrpcStatus::new(GrpcStatus::UNAVAILABLE, error))),
            };
            match frame.into_data() {
                Ok(data) => self.held.extend_from_slice(&data),
                Err(frame) => {
                    if let Some(trailers) = frame.trailers_ref() {
                        return status(trailers).err().map(Err);
                    }
                }
            }
        }
    }
}

/// A whole message off the front, if it is there. Errors: one that is compressed or too large.
fn take(held: &mut BytesMut) -> Result<Option<Bytes>, &'static str> {
    let Some(&[compressed, ref length @ ..]) = held.first_chunk::<FRAME>() else {
        return Ok(None);
    };
    if compressed != 0 {
        return Err("the answer is compressed, which was not asked for");
    }
    let length = u32::from_be_bytes(*length) as usize;
    if length > MAX_ANSWER {
        return Err("the answer is too large");
    }
    if held.len() < FRAME + length {
        return Ok(None);
    }
    let mut message = held.split_to(FRAME + length);
    Ok(Some(message.split_off(FRAME).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_where_they_end() {
        let mut held = BytesMut::from(&b"\0\0\0\0\x02ab\0\0\0\0\0\0\0\0"[..]);
        assert_eq!(take(&mut held), Ok(Some(Bytes::from_static(b"ab"))));
        assert_eq!(take(&mut held), Ok(Some(Bytes::new())));
        assert_eq!(take(&mut held), Ok(None));
        assert!(
            take(&mut BytesMut::from(&b"\0\x7f\xff\xff\xff"[..])).is_err(),
            "too large"
        );
        assert!(take(&mut BytesMut::from(&b"\x01\0\0\0\0"[..])).is_err());
    }
}
