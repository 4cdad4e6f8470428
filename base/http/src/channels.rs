//! Several byte channels in one WebSocket: each message begins with the channel's number.

use crate::{Error, websocket};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use std::{
    collections::HashMap,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt, DuplexStream},
    sync::mpsc,
};
use tokio_util::sync::{CancellationToken, PollSender};
use websocket::{CLOSE_TIMEOUT, Message, WebSocket};

/// Most bytes of a message sent.
const MAX_CHUNK: usize = 32 << 10;
/// Messages waiting to be sent.
const QUEUE: usize = 16;
/// Bytes of a channel waiting to be read.
pub(crate) const BUFFER: usize = 64 << 10;
/// In v5 a message on this channel closes the channel whose number it carries.
const CLOSE_CHANNEL: u8 = 255;

/// How bytes stand in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    /// Binary: the number as a byte, then the bytes.
    Binary,
    /// Text: the number as a digit, then the bytes in base64.
    Base64,
}

impl Codec {
    /// By the name of the subprotocol.
    pub(crate) fn of(protocol: &str) -> Self {
        if protocol.contains("base64.") {
            Self::Base64
        } else {
            Self::Binary
        }
    }

    pub(crate) fn encode(self, channel: u8, bytes: &[u8]) -> Message {
        match self {
            Self::Binary => Message::binary([&[channel], bytes].concat()),
            Self::Base64 => {
                let mut text = String::from(char::from(b'0'.saturating_add(channel)));
                STANDARD.encode_string(bytes, &mut text);
                Message::text(text)
            }
        }
    }

    pub(crate) fn decode(self, message: &Message) -> Result<Option<(u8, Bytes)>, Error> {
        let bytes = match message {
            Message::Binary(bytes) => bytes.clone(),
            Message::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            _ => return Ok(None),
        };
        let Some(&first) = bytes.first() else { return Ok(None) };
        Ok(Some(match self {
            Self::Binary => (first, bytes.slice(1..)),
            Self::Base64 => {
                let channel = first.checked_sub(b'0').ok_or_else(|| Error::websocket("bad channel"))?;
                (
                    channel,
                    STANDARD
                        .decode(&bytes[1..])
                        .map_err(|_| Error::websocket("bad base64"))?
                        .into(),
                )
            }
        }))
    }
}

enum Outgoing {
    Data(u8, Bytes),
    Close,
}

/// Takes messages one by one.
pub(crate) type OnMessage = Box<dyn FnMut(&[u8]) + Send>;

/// Where messages of a channel go.
pub(crate) enum Target {
    /// To a reader.
    Bytes(DuplexStream),
    /// To a function, one call for each message.
    Call(OnMessage),
}

/// The channels of one socket.
pub(crate) struct Channels {
    outgoing: mpsc::Sender<Outgoing>,
    ended: CancellationToken,
}

impl Channels {
    /// `targets`: the channels that are read; messages on others are dropped.
    pub(crate) fn start(socket: WebSocket, codec: Codec, closable: bool, targets: HashMap<u8, Target>) -> Self {
        let (sink, source) = socket.split();
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let ended = CancellationToken::new();
        tokio::spawn(write_messages(sink, queue, codec, ended.clone()));
        tokio::spawn({
            let ended = ended.clone();
            async move {
                let reading = read_messages(source, codec, closable, targets);
                tokio::select! {
                    () = ended.cancelled() => {}
                    result = reading => if let Err(error) = result {
                        tracing::debug!(%error, "WebSocket ended");
                    }
                }
                ended.cancel();
            }
        });
        Self { outgoing, ended }
    }

    /// The sending side of a channel.
    pub(crate) fn writer(&self, channel: u8) -> ChannelWriter {
        ChannelWriter {
            channel,
            outgoing: PollSender::new(self.outgoing.clone()),
        }
    }

    /// Sends a message as it is, even an empty one.
    pub(crate) async fn send(&self, channel: u8, bytes: impl Into<Bytes>) -> io::Result<()> {
        let message = Outgoing::Data(channel, bytes.into());
        self.outgoing
            .send(message)
            .await
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Cancelled when the socket has ended.
    pub(crate) fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    /// Closes the socket behind everything that was written, and waits for the other side to do so too.
    pub(crate) async fn finish(self) {
        // A writer that has ended has nothing to close.
        let _ = self.outgoing.send(Outgoing::Close).await;
        self.ended.cancelled().await;
    }
}

async fn write_messages(
    mut sink: SplitSink<WebSocket, Message>,
    mut queue: mpsc::Receiver<Outgoing>,
    codec: Codec,
    ended: CancellationToken,
) {
    let result = async {
        while let Some(Outgoing::Data(channel, bytes)) = queue.recv().await {
            sink.feed(codec.encode(channel, &bytes)).await?;
            if queue.is_empty() {
                sink.flush().await?;
            }
        }
        sink.send(websocket::normal_close()).await
    }
    .await;
    match result {
        // The other side should answer the close; it is read until then.
        Ok(()) => drop(tokio::time::timeout(CLOSE_TIMEOUT, ended.cancelled()).await),
        Err(error) => tracing::debug!(%error, "WebSocket cannot be written"),
    }
    ended.cancel();
}

async fn read_messages(
    mut source: SplitStream<WebSocket>,
    codec: Codec,
    closable: bool,
    mut targets: HashMap<u8, Target>,
) -> Result<(), Error> {
    while let Some(message) = source.next().await {
        let message = message.map_err(|why| Error::websocket(why.to_string()))?;
        if message.is_close() {
            // Going on reading lets the answer to the close be sent.
            targets.clear();
            continue;
        }
        let Some((channel, bytes)) = codec.decode(&message)? else {
            continue;
        };
        if closable && channel == CLOSE_CHANNEL {
            if let Some(closed) = bytes.first() {
                targets.remove(closed);
            }
            continue;
        }
        let gone = match targets.get_mut(&channel) {
            // Data that nobody reads any more is dropped.
            Some(Target::Bytes(pipe)) => pipe.write_all(&bytes).await.is_err(),
            Some(Target::Call(call)) => {
                call(&bytes);
                false
            }
            None => false,
        };
        if gone {
            targets.remove(&channel);
        }
    }
    Ok(())
}

/// The sending side of a channel.
pub(crate) struct ChannelWriter {
    channel: u8,
    outgoing: PollSender<Outgoing>,
}

impl AsyncWrite for ChannelWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.outgoing.poll_reserve(cx)).map_err(|_| gone())?;
        let bytes = Bytes::copy_from_slice(&buf[..buf.len().min(MAX_CHUNK)]);
        let count = bytes.len();
        let channel = self.channel;
        self.outgoing
            .send_item(Outgoing::Data(channel, bytes))
            .map_err(|_| gone())?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Messages are on their way once queued; the socket flushes when its queue is empty.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.close();
        Poll::Ready(Ok(()))
    }
}
