//! The writing end of the log.

use super::{
    files::{Files, Prepared},
    segment::{SEGMENT, Segment, numbered},
};
use crate::{
    Error,
    snapshot::{
        frame::{self, FILE_HEADER, FORMAT, FileHeader, FileKind, frame_size},
        random_u64,
    },
};
use std::sync::Arc;

pub(crate) struct Journal {
    files: Arc<Files>,
    active: Segment,
    /// Where the next batch goes.
    offset: u64,
    sequence: u64,
    /// Bytes of log since a snapshot was last asked for.
    logged: u64,
    /// Whether the next segment was asked for.
    asked: bool,
    frame: Vec<u8>,
}

impl Journal {
    /// Continues a segment.
    pub fn resume(files: Arc<Files>, active: Segment, offset: u64, sequence: u64, logged: u64) -> Self {
        Self {
            files,
            active,
            offset,
            sequence,
            logged,
            asked: false,
            frame: Vec::new(),
        }
    }

    /// The number of the next batch.
    pub fn next_sequence(&self) -> u64 {
        self.sequence
    }

    /// Makes sure that a batch of so many bytes can be written, and that removals can be
    /// written after the disk is full. Errors: `Full`.
    pub fn make_room(&mut self, bytes: usize) -> Result<(), Error> {
        self.files.ensure_reserve()?;
        if self.fits(bytes) { Ok(()) } else { self.roll(bytes) }
    }

    /// The same for a batch of removals, which may use the reserve.
    pub fn make_room_from_reserve(&mut self, bytes: usize) -> Result<(), Error> {
        if self.fits(bytes) {
            return Ok(());
        }
        let full = match self.roll(bytes) {
            Err(full @ Error::Full { .. }) => full,
            other => return other,
        };
        let reserve = self.files.take_reserve(least_segment(bytes)).ok_or(full)?;
        tracing::warn!("the disk is full: using the reserve for removals");
        self.activate(reserve)
    }

    /// Writes a batch; durable when it returns. Any error is final.
    pub fn append(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.frame.clear();
        frame::encode(&mut self.frame, self.active.salt, self.sequence, payload);
        let name = &self.active.name;
        let written = self.active.file.write_at(&self.frame, self.offset);
        written.map_err(|error| Error::io(format!("writing {name}"), error))?;
        let synced = self.active.file.sync();
        synced.map_err(|error| Error::io(format!("fdatasync of {name}"), error))?;
        self.offset += self.frame.len() as u64;
        self.logged += self.frame.len() as u64;
        self.sequence += 1;
        if self.frame.capacity() > 4 << 20 {
            self.frame = Vec::new();
        }
        if !self.asked && self.offset > self.active.size / 2 {
            self.asked = true;
            self.files.want_segment(self.files.next_size(Some(self.active.size)));
        }
        if self.files.snapshot_due(self.logged) {
            self.logged = 0;
            self.files.want_snapshot();
        }
        Ok(())
    }

    fn fits(&self, bytes: usize) -> bool {
        self.offset + frame_size(bytes) as u64 <= self.active.size
    }

    fn roll(&mut self, bytes: usize) -> Result<(), Error> {
        let least = least_segment(bytes);
        let next = match self.files.take_prepared(least) {
            Some(prepared) => prepared,
            None => self
                .files
                .create_segment(self.files.next_size(Some(self.active.size)).max(least))?,
        };
        self.activate(next)
    }

    fn activate(&mut self, next: Prepared) -> Result<(), Error> {
        self.active = begin_segment(&self.files, next, self.sequence)?;
        self.offset = FILE_HEADER as u64;
        self.asked = false;
        Ok(())
    }
}

fn least_segment(bytes: usize) -> u64 {
    (FILE_HEADER + frame_size(bytes)) as u64
}

/// Makes a file the segment that begins with batch `sequence`; durable when it returns.
pub(crate) fn begin_segment(files: &Files, prepared: Prepared, sequence: u64) -> Result<Segment, Error> {
    let header = FileHeader {
        kind: FileKind::Segment,
        format: FORMAT,
        store: files.store,
        salt: random_u64()?,
        sequence,
        revision: 0,
    };
    let name = numbered(SEGMENT, sequence);
    let begun = prepared
        .file
        .write_at(&header.encode(), 0)
        .and_then(|()| prepared.file.sync())
        .and_then(|()| files.disk.rename(&prepared.name, &name))
        .and_then(|()| files.disk.sync());
    begun.map_err(|error| files.failed("beginning a log segment", error))?;
    Ok(Segment {
        name,
        file: prepared.file,
        size: prepared.size,
        salt: header.salt,
        first: sequence,
    })
}
