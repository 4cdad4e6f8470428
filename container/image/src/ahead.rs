//! Reading ahead: one thread makes bytes (inflates and hashes them) while another uses them (writes files).
//!
//! Both halves of unpacking a layer take about as long, and an image that differs from what is
//! here in one layer has nothing else to spread over the cores.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

/// Bytes of a piece.
const PIECE: usize = 256 << 10;
/// Pieces that are ready and not taken yet.
const READY: usize = 3;

/// What the other thread has read: an ordinary reader.
pub(crate) struct Ahead {
    ready: Receiver<io::Result<Vec<u8>>>,
    used: Sender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

/// Runs `work` on what `source` gives, which a thread of its own reads. Reading ends at the
/// source's end, at its first error, or when `work` drops its reader.
pub(crate) fn read_ahead<R: Read + Send, T>(source: &mut R, work: impl FnOnce(Ahead) -> T) -> io::Result<T> {
    let (sender, ready) = sync_channel(READY);
    let (used, free) = channel();
    thread::scope(|scope| {
        thread::Builder::new()
            .name("image-read".into())
            .spawn_scoped(scope, move || produce(source, &sender, &free))?;
        Ok(work(Ahead {
            ready,
            used,
            piece: Vec::new(),
            at: 0,
        }))
    })
}

fn produce(source: &mut impl Read, sender: &SyncSender<io::Result<Vec<u8>>>, free: &Receiver<Vec<u8>>) {
    loop {
        let mut piece = free.try_recv().unwrap_or_default();
        piece.resize(PIECE, 0);
        let (count, error) = fill(source, &mut piece);
        piece.truncate(count);
        let done = error.is_some() || count == 0;
        if count > 0 && sender.send(Ok(piece)).is_err() {
            return;
        }
        if let Some(error) = error {
            // Nobody to tell if the reader is gone.
            let _ = sender.send(Err(error));
        }
        if done {
            return;
        }
    }
}

/// Fills the buffer as far as the source goes.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut count = 0;
    while count < buffer.len() {
        match source.read(&mut buffer[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (count, Some(error)),
        }
    }
    (count, None)
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            // The other thread may have ended already.
            let _ = self.used.send(std::mem::take(&mut self.piece));
            self.at = 0;
            match self.ready.recv() {
                Ok(piece) => self.piece = piece?,
                Err(_) => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len() - self.at);
        buffer[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives some bytes, then an error.
    struct Breaking(usize);

    impl Read for Breaking {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::Error::other("broken"));
            }
            let count = buffer.len().min(self.0).min(1000);
            buffer[..count].fill(7);
            self.0 -= count;
            Ok(count)
        }
    }

    #[test]
    fn gives_the_same_bytes() {
        let bytes: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
        let mut read = Vec::new();
        read_ahead(&mut bytes.as_slice(), |mut ahead| ahead.read_to_end(&mut read))
            .expect("thread")
            .expect("bytes");
        assert!(read == bytes);
    }

    #[test]
    fn tells_an_error_after_the_bytes_before_it() {
        let mut read = Vec::new();
        let error = read_ahead(&mut Breaking(700_000), |mut ahead| ahead.read_to_end(&mut read))
            .expect("thread")
            .expect_err("the source breaks");
        assert_eq!(error.to_string(), "broken");
        assert_eq!(read.len(), 700_000);
    }

    #[test]
    fn ends_when_the_reader_has_enough() {
        let mut endless = io::repeat(1);
        let first = read_ahead(&mut endless, |mut ahead| {
            let mut start = [0; 10];
            ahead.read_exact(&mut start).map(|()| start)
        });
        assert_eq!(first.expect("thread").expect("bytes"), [1; 10]);
    }
}
