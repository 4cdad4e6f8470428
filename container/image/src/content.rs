//! Writing a file's content: at its place, with holes where there is nothing.

use crate::tar_stream::Sparse;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Fewer zeros are written: a hole has a price too.
const HOLE: usize = 32 << 10;

/// A file that is being filled from its beginning.
pub(crate) struct Filling<'a> {
    file: &'a File,
    /// Parts of a file with holes that are still to come, the next one last.
    parts: Option<Vec<(u64, u64)>>,
    /// Where the next bytes belong.
    at: u64,
    size: u64,
    /// Whether the last bytes were left out.
    open_end: bool,
}

impl<'a> Filling<'a> {
    /// A new file that will have `size` bytes, or is described by a map.
    pub fn new(file: &'a File, size: u64, sparse: Option<&Sparse>) -> Self {
        Self {
            file,
            parts: sparse.map(|sparse| sparse.parts.iter().rev().copied().collect()),
            at: 0,
            size: sparse.map_or(size, |sparse| sparse.size),
            open_end: false,
        }
    }

    /// The next bytes of the archive.
    pub fn add(&mut self, mut piece: &[u8]) -> io::Result<()> {
        let Some(parts) = &mut self.parts else {
            return self.put(piece);
        };
        let mut parts = std::mem::take(parts);
        while !piece.is_empty() {
            let Some((offset, length)) = parts.pop() else {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "more content than the map has",
                ));
            };
            self.at = offset;
            let count = piece.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            let (now, later) = piece.split_at(count);
            self.put(now)?;
            piece = later;
            if (count as u64) < length {
                parts.push((offset + count as u64, length - count as u64));
            }
        }
        self.parts = Some(parts);
        Ok(())
    }

    fn put(&mut self, piece: &[u8]) -> io::Result<()> {
        self.open_end = piece.len() >= HOLE && is_zero(piece);
        if !self.open_end {
            self.file.write_all_at(piece, self.at)?;
        }
        self.at += piece.len() as u64;
        Ok(())
    }

    /// Gives the file its length.
    pub fn finish(self) -> io::Result<()> {
        let ended = self.parts.is_none() && !self.open_end;
        if ended { Ok(()) } else { self.file.set_len(self.size) }
    }
}

fn is_zero(piece: &[u8]) -> bool {
    // The ends first: most content is told by them.
    piece[0] == 0
        && piece[piece.len() - 1] == 0
        && piece
            .chunks(4096)
            .all(|chunk| chunk.iter().fold(0, |any, byte| any | byte) == 0)
}
