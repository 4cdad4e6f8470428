//! Watches read the shared history from a cursor of their own, so a watcher costs no
//! buffer: one that falls behind what is kept is cut off.

use crate::{Error, EventBatch, service::Core};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};
use strata_meta::Revision;
use tokio::sync::watch;

/// How many events one batch holds at most.
const BATCH_EVENTS: usize = 1024;

/// Batches of events in order, without gaps or repeats. An error is the last item.
pub struct WatchStream {
    batches: BoxStream<'static, Result<EventBatch, Error>>,
}

impl WatchStream {
    /// The same with every batch changed; an error ends the stream.
    pub fn and_then<F>(self, change: impl Fn(EventBatch) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<EventBatch, Error>> + Send + 'static,
    {
        let batches = self.batches.and_then(change);
        Self {
            batches: batches.boxed(),
        }
    }

    /// The next batch; `None` after an error.
    pub async fn next(&mut self) -> Option<Result<EventBatch, Error>> {
        self.batches.next().await
    }

    pub(crate) fn open(core: Arc<Core>, start: Bytes, end: Bytes, from: Revision) -> Result<Self, Error> {
        core.read().readable(Some(from))?;
        let progress = core.progress.subscribe();
        core.watchers.fetch_add(1, Ordering::Relaxed);
        let cursor = Cursor {
            core,
            start,
            end,
            at: from,
            progress,
        };
        let batches = futures::stream::unfold(Some(cursor), |cursor| async move {
            let mut cursor = cursor?;
            let batch = cursor.next().await;
            let rest = batch.is_ok().then_some(cursor);
            Some((batch, rest))
        });
        Ok(Self {
            batches: batches.boxed(),
        })
    }
}

impl Stream for WatchStream {
    type Item = Result<EventBatch, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.poll_next_unpin(context)
    }
}

struct Cursor {
    core: Arc<Core>,
    start: Bytes,
    end: Bytes,
    at: Revision,
    progress: watch::Receiver<Progress>,
}

/// How far the store has come.
#[derive(Clone, Copy)]
pub(crate) struct Progress {
    pub revision: Revision,
    pub closed: bool,
}

impl Cursor {
    async fn next(&mut self) -> Result<EventBatch, Error> {
        loop {
            let progress = *self.progress.borrow_and_update();
            while self.at < progress.revision {
                if let Some(batch) = self.advance()? {
                    return Ok(batch);
                }
            }
            if progress.closed {
                return Err(Error::Closed);
            }
            self.progress.changed().await.map_err(|_| Error::Closed)?;
        }
    }

    fn advance(&mut self) -> Result<Option<EventBatch>, Error> {
        let state = self.core.read();
        let compacted = state.compacted();
        if self.at < compacted {
            return Err(Error::SlowWatcher { at: self.at, compacted });
        }
        let (events, reached) = state.events(&self.start, &self.end, self.at, BATCH_EVENTS);
        self.at = reached;
        let batch = EventBatch {
            events,
            revision: reached,
        };
        Ok((!batch.events.is_empty()).then_some(batch))
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.core.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}
