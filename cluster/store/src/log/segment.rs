//! Reading a segment, and telling the torn tail of a crash from damage.

use super::disk::{Disk, DiskFile};
use crate::{
    Error,
    snapshot::frame::{
        FILE_HEADER, FRAME_ALIGN, FRAME_HEADER, FileHeader, FileKind, decode_header, frame_size, maybe_header,
    },
    snapshot::refuse_newer,
};
use std::sync::Arc;

/// How far after an invalid frame a later one is looked for: the next batch begins no
/// further than the largest batch.
const SEARCH_BYTES: u64 = 16 << 20;
const WINDOW_BYTES: usize = 256 << 10;

pub(crate) const SEGMENT: &str = "log-";
pub(crate) const SNAPSHOT: &str = "snapshot-";

/// `log-` or `snapshot-` and the number of a batch.
pub(crate) fn numbered(prefix: &str, sequence: u64) -> String {
    format!("{prefix}{sequence:016x}")
}

/// The number in a name that [`numbered`] made.
pub(crate) fn number_of(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix).filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

pub(crate) struct Segment {
    pub name: String,
    pub file: Arc<dyn DiskFile>,
    pub size: u64,
    pub salt: u64,
    /// The number of its first batch.
    pub first: u64,
}

/// Where the valid part of a segment ends.
#[derive(Debug, PartialEq)]
pub(crate) struct End {
    pub offset: u64,
    /// The number of the batch that would come next.
    pub sequence: u64,
    /// Whether a batch was begun there and not finished.
    pub torn: bool,
}

/// Called with the number, offset and payload of each batch.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(u64, u64, &[u8]) -> Result<(), Error>;

impl Segment {
    pub fn open(disk: &dyn Disk, name: &str, store: u64) -> Result<Self, Error> {
        let reading = |error| Error::io(format!("reading {name}"), error);
        let file = disk.open(name).map_err(reading)?;
        let size = file.size().map_err(reading)?;
        let mut bytes = [0; FILE_HEADER];
        if file.read_at(&mut bytes, 0).map_err(reading)? < FILE_HEADER {
            return Err(Error::damaged(name, size, "it ends within its header"));
        }
        let header = FileHeader::decode(&bytes, FileKind::Segment).map_err(|why| Error::damaged(name, 0, why))?;
        refuse_newer(header.format)?;
        if header.store != store {
            return Err(Error::damaged(name, 0, "it belongs to another store"));
        }
        if number_of(name, SEGMENT) != Some(header.sequence) {
            return Err(Error::damaged(name, 0, "its name and its header disagree"));
        }
        Ok(Self {
            name: name.to_owned(),
            file,
            size,
            salt: header.salt,
            first: header.sequence,
        })
    }

    /// Visits every batch in order. Errors: `Damaged` if a valid batch comes after an invalid one.
    pub fn scan(&self, visit: Visit<'_>) -> Result<End, Error> {
        let mut window = Window::new(self);
        let (mut offset, mut sequence) = (FILE_HEADER as u64, self.first);
        loop {
            let header = decode_header(window.bytes(offset, FRAME_HEADER)?, self.salt);
            let mut torn = false;
            if let Some(header) = header.filter(|header| header.sequence == sequence) {
                let payload = window.bytes(offset + FRAME_HEADER as u64, header.payload)?;
                if header.holds(payload) {
                    visit(sequence, offset, payload)?;
                    offset += frame_size(header.payload) as u64;
                    sequence += 1;
                    continue;
                }
                torn = true;
            }
            self.refuse_later(&mut window, offset, sequence)?;
            return Ok(End { offset, sequence, torn });
        }
    }

    fn refuse_later(&self, window: &mut Window<'_>, damaged: u64, sequence: u64) -> Result<(), Error> {
        let end = self.size.min(damaged + SEARCH_BYTES);
        let mut at = damaged;
        while at < end {
            let bytes = window.bytes(at, WINDOW_BYTES)?;
            let mut found = None;
            for start in (0..bytes.len().saturating_sub(FRAME_HEADER - 1)).step_by(FRAME_ALIGN) {
                let candidate = &bytes[start..];
                if maybe_header(candidate) {
                    let later = decode_header(candidate, self.salt).filter(|header| header.sequence > sequence);
                    found = found.or(later.map(|header| (at + start as u64, header.sequence)));
                }
            }
            if let Some((later, found)) = found {
                let why = format!("batch {sequence} is not valid, but batch {found} after it at offset {later} is");
                return Err(Error::damaged(&self.name, damaged, why));
            }
            at += (WINDOW_BYTES - FRAME_HEADER.next_multiple_of(FRAME_ALIGN)) as u64;
        }
        Ok(())
    }
}

/// A part of the file in memory.
struct Window<'a> {
    segment: &'a Segment,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(segment: &'a Segment) -> Self {
        let bytes = Vec::new();
        let start = 0;
        Self { segment, start, bytes }
    }

    /// The bytes at an offset; fewer where the file ends.
    fn bytes(&mut self, offset: u64, count: usize) -> Result<&[u8], Error> {
        let count = count.min(usize::try_from(self.segment.size.saturating_sub(offset)).unwrap_or(usize::MAX));
        let held = self.start..self.start + self.bytes.len() as u64;
        if offset < held.start || offset + count as u64 > held.end {
            let left = self.segment.size.saturating_sub(offset).min(WINDOW_BYTES as u64) as usize;
            self.bytes.resize(count.max(left), 0);
            let read = self.segment.file.read_at(&mut self.bytes, offset);
            let read = read.map_err(|error| Error::io(format!("reading {}", self.segment.name), error))?;
            self.bytes.truncate(read);
            self.start = offset;
        }
        let from = (offset - self.start) as usize;
        Ok(&self.bytes[from..(from + count).min(self.bytes.len())])
    }
}
