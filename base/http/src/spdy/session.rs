//! A connection with its streams: one task reads, one writes.

use super::{
    frame::{Control, Frame, HEAD, Head, status},
    headers::{HeaderDecoder, HeaderEncoder},
    stream::{Ending, Stream},
};
use crate::{Error, Io};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use std::{
    collections::HashMap,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    sync::{mpsc, oneshot},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Open streams of a session.
const MAX_STREAMS: usize = 512;
/// Streams the peer opened and nobody took yet.
const MAX_PENDING: usize = 64;
/// Frames waiting to be written.
const WRITE_QUEUE: usize = 64;
/// Chunks waiting to be read from a stream, and their size.
const READ_QUEUE: usize = 8;
const READ_CHUNK: usize = 16 << 10;
/// Bytes gathered into one write.
const WRITE_BATCH: usize = 64 << 10;

/// One SPDY connection. Dropping it stops reading; what was written is still sent.
pub struct Session {
    incoming: mpsc::Receiver<Stream>,
    shared: Arc<Shared>,
    ended: CancellationToken,
    _stop: DropGuard,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("streams", &self.shared.table().streams.len())
            .finish_non_exhaustive()
    }
}

/// What streams and tasks share.
pub(super) struct Shared {
    pub(super) frames: mpsc::Sender<Frame>,
    table: Mutex<Table>,
}

struct Table {
    streams: HashMap<u32, Entry>,
    /// The last id the peer used.
    last_remote: u32,
    /// The next id of ours.
    next_local: u32,
    ended: bool,
}

struct Entry {
    /// Where its data goes; `None` once the peer has closed its half.
    inbound: Option<mpsc::Sender<Bytes>>,
    ending: Arc<Ending>,
    replied: Option<oneshot::Sender<()>>,
    local_closed: bool,
}

impl Shared {
    pub(super) async fn send(&self, frame: Frame) -> io::Result<()> {
        self.frames
            .send(frame)
            .await
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Our half is closed.
    pub(super) fn close_local(&self, id: u32) {
        let mut table = self.table();
        if let Some(entry) = table.streams.get_mut(&id) {
            entry.local_closed = true;
            if entry.inbound.is_none() {
                table.streams.remove(&id);
            }
        }
    }

    pub(super) fn forget(&self, id: u32) {
        self.table().streams.remove(&id);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peer's half is closed.
    fn close_remote(&self, id: u32) {
        let mut table = self.table();
        if let Some(entry) = table.streams.get_mut(&id) {
            entry.ending.finished.store(true, Ordering::Release);
            entry.inbound = None;
            if entry.local_closed {
                table.streams.remove(&id);
            }
        }
    }
}

impl Session {
    /// The side that accepted the connection.
    pub fn server<T: Io + 'static>(io: T) -> Result<Self, Error> {
        Self::start(io, 2)
    }

    /// The side that made the connection.
    pub fn client<T: Io + 'static>(io: T) -> Result<Self, Error> {
        Self::start(io, 1)
    }

    fn start<T: Io + 'static>(io: T, first_id: u32) -> Result<Self, Error> {
        let (frames, queue) = mpsc::channel(WRITE_QUEUE);
        let (incoming_sender, incoming) = mpsc::channel(MAX_PENDING);
        let table = Table {
            streams: HashMap::new(),
            last_remote: 0,
            next_local: first_id,
            ended: false,
        };
        let shared = Arc::new(Shared {
            frames,
            table: Mutex::new(table),
        });
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let (read_half, write_half) = tokio::io::split(io);
        tokio::spawn(write_frames(write_half, queue, HeaderEncoder::new()?, ended.clone()));
        let reader = Reader {
            io: BufReader::with_capacity(READ_CHUNK, read_half),
            decoder: HeaderDecoder::new(),
            incoming: incoming_sender,
            shared: shared.clone(),
        };
        tokio::spawn(reader.run(stop.clone(), ended.clone()));
        Ok(Self {
            incoming,
            shared,
            ended,
            _stop: stop.drop_guard(),
        })
    }

    /// The next stream the peer opens; `None` when the connection has ended. Accept it with [`Stream::reply`].
    pub async fn accept(&mut self) -> Option<Stream> {
        self.incoming.recv().await
    }

    /// Opens a stream and waits until the peer has accepted it. Errors: the peer refused, or the connection ended.
    pub async fn open(&self, headers: HeaderMap) -> Result<Stream, Error> {
        let (replied, reply) = oneshot::channel();
        let (stream, frame) = {
            let mut table = self.shared.table();
            if table.ended || table.streams.len() >= MAX_STREAMS {
                return Err(Error::spdy("no more streams on this connection"));
            }
            let id = table.next_local;
            table.next_local += 2;
            let stream = register(&mut table, &self.shared, id, headers.clone(), Some(replied));
            (stream, Frame::SynStream { stream: id, headers })
        };
        // Two calls at once may send in the other order than their ids; callers open one after another.
        self.shared.send(frame).await?;
        reply.await.map_err(|_| Error::spdy("the peer refused the stream"))?;
        Ok(stream)
    }

    /// Resolves when the peer has closed the connection or it failed.
    pub async fn closed(&self) {
        self.ended.cancelled().await;
    }

    /// A token that is cancelled when the connection ends.
    pub fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }
}

fn register(
    table: &mut Table,
    shared: &Arc<Shared>,
    id: u32,
    headers: HeaderMap,
    replied: Option<oneshot::Sender<()>>,
) -> Stream {
    let (inbound, receiver) = mpsc::channel(READ_QUEUE);
    let ending = Arc::new(Ending::default());
    let entry = Entry {
        inbound: Some(inbound),
        ending: ending.clone(),
        replied,
        local_closed: false,
    };
    table.streams.insert(id, entry);
    Stream::new(id, headers, receiver, ending, shared.clone())
}

async fn write_frames<W: AsyncWrite + Unpin>(
    mut io: W,
    mut queue: mpsc::Receiver<Frame>,
    mut encoder: HeaderEncoder,
    ended: CancellationToken,
) {
    let result: Result<(), Error> = async {
        let mut batch = Vec::with_capacity(READ_CHUNK);
        while let Some(frame) = queue.recv().await {
            frame.encode(&mut encoder, &mut batch)?;
            while batch.len() < WRITE_BATCH
                && let Ok(frame) = queue.try_recv()
            {
                frame.encode(&mut encoder, &mut batch)?;
            }
            io.write_all(&batch).await?;
            io.flush().await?;
            batch.clear();
        }
        Ok(io.shutdown().await?)
    }
    .await;
    if let Err(error) = result {
        tracing::debug!(%error, "SPDY connection cannot be written");
        ended.cancel();
    }
}

struct Reader<R> {
    io: BufReader<R>,
    decoder: HeaderDecoder,
    incoming: mpsc::Sender<Stream>,
    shared: Arc<Shared>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    async fn run(mut self, stop: CancellationToken, ended: CancellationToken) {
        let result = tokio::select! {
            () = stop.cancelled() => Ok(()),
            () = ended.cancelled() => Ok(()),
            result = self.read_frames() => result,
        };
        if let Err(error) = result {
            tracing::debug!(%error, "SPDY connection ended");
            let last = self.shared.table().last_remote;
            let goaway = Frame::GoAway {
                last,
                status: status::PROTOCOL_ERROR,
            };
            // If there is no room, the peer learns it from the end of the connection.
            let _ = self.shared.frames.try_send(goaway);
        }
        let mut table = self.shared.table();
        table.ended = true;
        // Streams see a reset unless the peer had closed its half.
        table.streams.clear();
        drop(table);
        ended.cancel();
    }

    async fn read_frames(&mut self) -> Result<(), Error> {
        let mut payload = Vec::new();
        loop {
            let mut head = [0; HEAD];
            if self.io.read(&mut head[..1]).await? == 0 {
                return Ok(());
            }
            self.io.read_exact(&mut head[1..]).await?;
            match Head::parse(head)? {
                Head::Data { stream, fin, length } => self.data(stream, fin, length).await?,
                Head::Control { kind, flags, length } => {
                    payload.resize(length, 0);
                    self.io.read_exact(&mut payload).await?;
                    if !self.control(Control::parse(kind, flags, &payload)?).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Passes data on piece by piece, so that a frame's length reserves nothing.
    async fn data(&mut self, id: u32, fin: bool, mut length: usize) -> Result<(), Error> {
        let (inbound, refusal) = {
            let mut table = self.shared.table();
            let is_ours = id % 2 == table.next_local % 2;
            let beyond = if is_ours {
                id >= table.next_local
            } else {
                id > table.last_remote
            };
            match table.streams.get(&id) {
                // Section 2.2.2. Nobody reads yet, so its data would hold up the whole connection.
                Some(entry) if entry.replied.is_some() => {
                    table.streams.remove(&id);
                    (None, Some(status::PROTOCOL_ERROR))
                }
                Some(entry) => (entry.inbound.clone(), None),
                None => (None, beyond.then_some(status::INVALID_STREAM)),
            }
        };
        if let Some(status) = refusal {
            self.shared.send(Frame::RstStream { stream: id, status }).await?;
        }
        while length > 0 {
            let mut chunk = BytesMut::with_capacity(length.min(READ_CHUNK));
            let count = (&mut self.io)
                .take(length.min(READ_CHUNK) as u64)
                .read_buf(&mut chunk)
                .await?;
            if count == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            length -= count;
            if let Some(inbound) = &inbound {
                // A stream nobody reads any more: its data is dropped.
                let _ = inbound.send(chunk.freeze()).await;
            }
        }
        if fin {
            self.shared.close_remote(id);
        }
        Ok(())
    }

    /// Whether to go on.
    async fn control(&mut self, control: Control<'_>) -> Result<bool, Error> {
        match control {
            Control::SynStream {
                stream,
                fin,
                unidirectional,
                block,
            } => {
                let headers = self.decoder.decode(block)?;
                self.syn_stream(stream, headers, fin, unidirectional).await?;
            }
            Control::SynReply { stream, fin, block } => {
                self.decoder.decode(block)?;
                let replied = self
                    .shared
                    .table()
                    .streams
                    .get_mut(&stream)
                    .and_then(|entry| entry.replied.take());
                if let Some(replied) = replied {
                    // Nobody waits if the caller of `open` has gone.
                    let _ = replied.send(());
                }
                if fin {
                    self.shared.close_remote(stream);
                }
            }
            Control::Headers { stream, fin, block } => {
                // They must be decoded for the sake of the compression; nothing here uses them.
                self.decoder.decode(block)?;
                if fin {
                    self.shared.close_remote(stream);
                }
            }
            Control::RstStream { stream } => {
                let entry = self.shared.table().streams.remove(&stream);
                if let Some(entry) = entry {
                    entry.ending.reset.store(true, Ordering::Release);
                }
            }
            Control::Ping { id } => {
                // Pings of the peer are odd when it is the client (section 2.6.5); others are answers.
                if id % 2 != self.shared.table().next_local % 2 {
                    self.shared.send(Frame::Ping { id }).await?;
                }
            }
            Control::GoAway => return Ok(false),
            Control::WindowUpdate | Control::Settings | Control::Unknown => {}
        }
        Ok(true)
    }

    async fn syn_stream(&mut self, id: u32, headers: HeaderMap, fin: bool, one_way: bool) -> Result<(), Error> {
        let accepted = {
            let mut table = self.shared.table();
            // Section 2.3.2: ids grow, and the side that opens has its parity.
            if id <= table.last_remote || id % 2 == table.next_local % 2 {
                return Err(Error::spdy("stream id out of order"));
            }
            table.last_remote = id;
            if table.streams.len() >= MAX_STREAMS {
                None
            } else {
                self.incoming.try_reserve().ok().map(|permit| {
                    permit.send(register(&mut table, &self.shared, id, headers, None));
                })
            }
        };
        if accepted.is_none() {
            self.shared
                .send(Frame::RstStream {
                    stream: id,
                    status: status::REFUSED_STREAM,
                })
                .await?;
        } else {
            if fin {
                self.shared.close_remote(id);
            }
            if one_way {
                self.shared.close_local(id);
            }
        }
        Ok(())
    }
}
