//! The state at one revision as a stream of frames: what the log is cut by, and what a
//! backup is.

pub(crate) mod frame;
pub(crate) mod record;

use crate::{Error, KeyValue, command::Pinned, mvcc::Mvcc};
use frame::{FILE_HEADER, FORMAT, FRAME_HEADER, FileHeader, FileKind, decode_header, frame_size};
use record::{Record, owned};
use std::{
    io::{self, Read, Write},
    ops::Bound,
    time::Duration,
};
use strata_meta::Revision;

/// Payload of a snapshot's frame, roughly.
const PART_BYTES: usize = 256 << 10;
/// Items taken at a time, which bounds how long the state is locked.
const ITEMS_AT_ONCE: usize = 512;

/// An unpredictable number: identities and salts.
pub(crate) fn random_u64() -> Result<u64, Error> {
    getrandom::u64().map_err(|error| Error::io("reading random bytes", io::Error::other(error.to_string())))
}

/// Writes a pinned state; tells its revision.
pub(crate) fn write(pinned: &Pinned, store: u64, out: &mut dyn Write) -> Result<Revision, Error> {
    let header = FileHeader {
        kind: FileKind::Snapshot,
        format: FORMAT,
        store,
        salt: random_u64()?,
        sequence: pinned.sequence,
        revision: pinned.revision.0,
    };
    let mut parts = Parts::begin(out, header)?;
    for (id, ttl) in &pinned.leases {
        parts.add(&Record::Grant { id: *id, ttl: *ttl })?;
    }
    let (mut items, mut last) = (0u64, None::<KeyValue>);
    loop {
        let from = last
            .as_ref()
            .map_or(Bound::Unbounded, |item| Bound::Excluded(&item.key[..]));
        let chunk = pinned.core.read().pinned_items(from, pinned.revision, ITEMS_AT_ONCE);
        for item in &chunk {
            parts.add(&Record::item(item))?;
        }
        items += chunk.len() as u64;
        let Some(end) = chunk.into_iter().next_back() else {
            break;
        };
        last = Some(end);
    }
    parts.add(&Record::End { items })?;
    parts.finish()?;
    Ok(pinned.revision)
}

/// Collects records into frames.
struct Parts<'a> {
    out: &'a mut dyn Write,
    salt: u64,
    sequence: u64,
    payload: Vec<u8>,
    frame: Vec<u8>,
}

impl<'a> Parts<'a> {
    fn begin(out: &'a mut dyn Write, header: FileHeader) -> Result<Self, Error> {
        out.write_all(&header.encode()).map_err(writing)?;
        Ok(Self {
            out,
            salt: header.salt,
            sequence: 0,
            payload: Vec::new(),
            frame: Vec::new(),
        })
    }

    fn add(&mut self, record: &Record<'_>) -> Result<(), Error> {
        record.encode(&mut self.payload);
        if self.payload.len() < PART_BYTES {
            Ok(())
        } else {
            self.flush()
        }
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.frame.clear();
        frame::encode(&mut self.frame, self.salt, self.sequence, &self.payload);
        self.sequence += 1;
        self.payload.clear();
        self.out.write_all(&self.frame).map_err(writing)
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.flush()?;
        self.out.flush().map_err(writing)
    }
}

fn writing(error: io::Error) -> Error {
    Error::io("writing the snapshot", error)
}

/// Reads a whole snapshot, checking everything; `file` names it in errors.
pub(crate) fn read(input: &mut dyn Read, file: &str, now: Duration) -> Result<(FileHeader, Mvcc), Error> {
    let mut bytes = [0; FILE_HEADER];
    read_exact(input, &mut bytes, file, 0)?;
    let header = FileHeader::decode(&bytes, FileKind::Snapshot).map_err(|why| Error::damaged(file, 0, why))?;
    refuse_newer(header.format)?;
    let mut state = Mvcc::at_snapshot(Revision(header.revision));
    let mut reader = FrameReader {
        input,
        file,
        offset: FILE_HEADER as u64,
        salt: header.salt,
        sequence: 0,
    };
    let mut items = 0;
    loop {
        let at = reader.offset;
        let payload = reader.next()?;
        let mut rest = &payload[..];
        while !rest.is_empty() {
            match Record::decode(&mut rest) {
                Some(Record::Grant { id, ttl }) => state.leases.grant(id, ttl, now),
                Some(Record::Item {
                    created,
                    modified,
                    lease,
                    key,
                    value,
                }) => {
                    items += 1;
                    state.load(KeyValue {
                        key: owned(key),
                        value: owned(value),
                        create_revision: created,
                        mod_revision: modified,
                        lease,
                    });
                }
                Some(Record::End { items: written }) if rest.is_empty() && written == items => {
                    return Ok((header, state));
                }
                _ => {
                    return Err(Error::damaged(
                        file,
                        at,
                        "a record that does not belong into a snapshot",
                    ));
                }
            }
        }
    }
}

pub(crate) fn refuse_newer(found: u32) -> Result<(), Error> {
    if found > FORMAT {
        return Err(Error::NewerFormat {
            found,
            supported: FORMAT,
        });
    }
    Ok(())
}

struct FrameReader<'a> {
    input: &'a mut dyn Read,
    file: &'a str,
    offset: u64,
    salt: u64,
    sequence: u64,
}

impl FrameReader<'_> {
    fn next(&mut self) -> Result<Vec<u8>, Error> {
        let mut bytes = [0; FRAME_HEADER];
        read_exact(self.input, &mut bytes, self.file, self.offset)?;
        let damaged = |why| Error::damaged(self.file, self.offset, why);
        let header = decode_header(&bytes, self.salt).ok_or_else(|| damaged("no valid frame begins here"))?;
        if header.sequence != self.sequence {
            return Err(damaged("its parts are out of order"));
        }
        let mut payload = vec![0; frame_size(header.payload) - FRAME_HEADER];
        read_exact(self.input, &mut payload, self.file, self.offset)?;
        payload.truncate(header.payload);
        if !header.holds(&payload) {
            return Err(damaged("the checksum of its content is wrong"));
        }
        self.offset += frame_size(header.payload) as u64;
        self.sequence += 1;
        Ok(payload)
    }
}

fn read_exact(input: &mut dyn Read, bytes: &mut [u8], file: &str, offset: u64) -> Result<(), Error> {
    input.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::damaged(file, offset, "it ends too early"),
        _ => Error::io(format!("reading {file}"), error),
    })
}
