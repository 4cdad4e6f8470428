//! What the answers of webhooks may take of memory together.

use super::CallError;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use std::{ops::Deref, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The longest answer that is read: a review with a patch of the largest object, or a batch of converted ones.
const LONGEST: usize = 32 << 20;
/// Up to this an answer takes of nobody's room: what hooks usually say is not held up by one that talks too much.
const SMALL: usize = 256 << 10;
/// What larger answers may take together.
const TOGETHER: usize = 128 << 20;
/// The unit of the room.
const UNIT: usize = 64 << 10;

/// Room for answers.
#[derive(Clone)]
pub(super) struct Room(Arc<Semaphore>);

/// An answer, and the room it takes until it is dropped.
#[derive(Debug)]
pub(crate) struct Received {
    bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TOGETHER / UNIT)))
    }
}

impl Room {
    /// Reads a body. Errors: it is too long, there is no room for it, or it breaks off.
    pub(super) async fn read(&self, mut body: hyper::body::Incoming) -> Result<Received, CallError> {
        let mut bytes = BytesMut::new();
        let mut room: Option<OwnedSemaphorePermit> = None;
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame.map_err(CallError::new)?.into_data() else {
                continue;
            };
            let len = bytes.len() + piece.len();
            if len > LONGEST {
                return Err(CallError::new("length limit exceeded"));
            }
            let wanted = len.saturating_sub(SMALL).div_ceil(UNIT);
            let present = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            if wanted > present {
                let more = u32::try_from(wanted - present).unwrap_or(u32::MAX);
                let more = self.0.clone().try_acquire_many_owned(more);
                let more = more.map_err(|_| CallError::new("no room for so long an answer now"))?;
                match &mut room {
                    Some(room) => room.merge(more),
                    None => room = Some(more),
                }
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(Received {
            bytes: bytes.freeze(),
            _room: room,
        })
    }
}
