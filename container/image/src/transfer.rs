//! Moving a blob from a registry to blocking code, resumed where a connection broke.

use crate::config::Descriptor;
use crate::registry::Registry;
use crate::transport::root_cause;
use crate::{ImageError, LayerState};
use bytes::Bytes;
use std::io::{self, Read};
use std::time::Duration;
use tokio::sync::mpsc;

/// Pieces of a layer between network and unpacking; each is what one read gave.
pub(crate) const PIECES: usize = 32;
/// Interruptions of a layer's transfer without progress until the pull fails.
const RESUMES: u32 = 5;
const RESUME_DELAY: Duration = Duration::from_millis(500);

/// Sends a blob's bytes, resuming where a connection broke. A receiver that is gone ends it without error.
pub(crate) async fn fetch(
    registry: &Registry,
    descriptor: &Descriptor,
    sender: mpsc::Sender<Bytes>,
    report: &(impl Fn(LayerState) + Sync),
) -> Result<(), ImageError> {
    let total = descriptor.size;
    let mut done: u64 = 0;
    let mut failures = 0;
    loop {
        let (mut response, start) = registry.blob(descriptor.digest, done).await?;
        let mut skip = done - start;
        let broken = loop {
            match response.chunk().await {
                Ok(Some(mut chunk)) => {
                    let skipped = skip.min(chunk.len() as u64);
                    skip -= skipped;
                    let piece = chunk.split_off(skipped as usize);
                    if piece.is_empty() {
                        continue;
                    }
                    done += piece.len() as u64;
                    failures = 0;
                    if done > total {
                        let why = format!(
                            "failed to copy: content at {} is longer than {total} bytes",
                            descriptor.digest
                        );
                        return Err(ImageError::Registry {
                            image: descriptor.digest.to_string(),
                            why,
                        });
                    }
                    if sender.send(piece).await.is_err() {
                        return Ok(());
                    }
                    report(LayerState::Fetching { done, total });
                }
                Ok(None) if done >= total => return Ok(()),
                Ok(None) => break "unexpected EOF".to_owned(),
                Err(error) => break root_cause(&error),
            }
        };
        failures += 1;
        if failures > RESUMES {
            let why = format!("failed to copy: content at {}: {broken}", descriptor.digest);
            return Err(ImageError::Registry {
                image: descriptor.digest.to_string(),
                why,
            });
        }
        tracing::debug!(layer = %descriptor.digest, done, total, why = broken, "resuming a transfer");
        tokio::time::sleep(RESUME_DELAY).await;
    }
}

/// Runs blocking work; if it is abandoned it runs to its end in the background.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ImageError::Interrupted)?
}

/// The blocking end of a transfer.
pub(crate) struct ChannelReader {
    receiver: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl ChannelReader {
    pub fn new(receiver: mpsc::Receiver<Bytes>) -> Self {
        Self {
            receiver,
            piece: Bytes::new(),
        }
    }
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}
