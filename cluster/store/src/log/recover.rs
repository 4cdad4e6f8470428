//! Opening a directory: the newest snapshot, then every batch after it.

use super::{
    LogOptions,
    disk::{Disk, FileReader},
    files::Files,
    journal::{Journal, begin_segment},
    segment::{End, SEGMENT, SNAPSHOT, Segment, number_of, numbered},
};
use crate::{
    Error,
    mvcc::Mvcc,
    snapshot::{
        self,
        frame::{FILE_HEADER, checksum},
        random_u64,
        record::{Record, owned},
    },
};
use std::{io::BufReader, sync::Arc, time::Duration};

const FORMAT_FILE: &str = "format";

/// One step from a format to the next. It must be repeatable: a crash may come before the
/// new version is noted.
pub(crate) type Upgrade = fn(&dyn Disk) -> Result<(), Error>;

/// `UPGRADES[n]` leads from format `n + 1` to `n + 2`; the last one leads to [`snapshot::frame::FORMAT`].
pub(crate) const UPGRADES: &[Upgrade] = &[];

/// What a directory says it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Identity {
    pub format: u32,
    pub store: u64,
}

/// The state and the log it continues in.
pub(crate) struct Opened {
    pub state: Mvcc,
    pub journal: Journal,
    pub files: Arc<Files>,
}

/// Opens a directory, making a store of an empty one.
pub(crate) fn open(disk: Arc<dyn Disk>, options: &LogOptions, upgrades: &[Upgrade]) -> Result<Opened, Error> {
    let Some(identity) = identify(&*disk)? else {
        return create(disk, options, upgrades);
    };
    upgrade(&*disk, identity, upgrades)?;
    let loaded = load(&*disk, identity.store, (options.clock)())?;
    let mut state = loaded.state;
    state.publish();
    // After a crash of the process alone the tail may be in memory only, and others are
    // about to see it.
    let synced = loaded.active.file.sync().and_then(|()| disk.sync());
    synced.map_err(|error| Error::io(format!("fdatasync of {}", loaded.active.name), error))?;
    let files = Arc::new(Files::new(disk, identity.store, options));
    files.tidy()?;
    files.remove_covered(loaded.snapshot)?;
    files.measure()?;
    let End { offset, sequence, torn } = loaded.end;
    if torn {
        tracing::info!(
            file = loaded.active.name,
            offset,
            "dropped an unfinished batch that nobody was told of"
        );
    }
    let journal = Journal::resume(files.clone(), loaded.active, offset, sequence, loaded.logged);
    Ok(Opened { state, journal, files })
}

fn create(disk: Arc<dyn Disk>, options: &LogOptions, upgrades: &[Upgrade]) -> Result<Opened, Error> {
    let store = random_u64()?;
    let files = Arc::new(Files::new(disk, store, options));
    files.tidy()?;
    let active = begin_segment(&files, files.create_segment(files.next_size(None))?, 0)?;
    let format = 1 + u32::try_from(upgrades.len()).unwrap_or(u32::MAX);
    write_identity(&*files.disk, Identity { format, store })?;
    files.measure()?;
    let journal = Journal::resume(files.clone(), active, FILE_HEADER as u64, 0, 0);
    Ok(Opened {
        state: Mvcc::new(),
        journal,
        files,
    })
}

/// What the directory is; `None` if it holds no store yet.
pub(crate) fn identify(disk: &dyn Disk) -> Result<Option<Identity>, Error> {
    let files = disk
        .list()
        .map_err(|error| Error::io("listing the store's files", error))?;
    if files.iter().any(|(name, _)| name == FORMAT_FILE) {
        return read_identity(disk).map(Some);
    }
    for (name, _) in &files {
        if number_of(name, SNAPSHOT).is_some() || number_of(name, SEGMENT).is_some_and(|first| first > 0) {
            return Err(Error::damaged(
                FORMAT_FILE,
                0,
                format!("it is missing, but {name} is there"),
            ));
        }
        // The first segment is made before the format is noted, and written only after.
        if number_of(name, SEGMENT).is_some() && has_batches(disk, name)? {
            return Err(Error::damaged(
                FORMAT_FILE,
                0,
                format!("it is missing, but {name} holds data"),
            ));
        }
    }
    Ok(None)
}

fn has_batches(disk: &dyn Disk, name: &str) -> Result<bool, Error> {
    use crate::snapshot::frame::{FRAME_HEADER, FileHeader, FileKind, decode_header};
    let file = disk
        .open(name)
        .map_err(|error| Error::io(format!("reading {name}"), error))?;
    let mut bytes = [0; FILE_HEADER + FRAME_HEADER];
    file.read_at(&mut bytes, 0)
        .map_err(|error| Error::io(format!("reading {name}"), error))?;
    let (header, frame) = bytes.split_at(FILE_HEADER);
    let header = header
        .first_chunk()
        .map(|header| FileHeader::decode(header, FileKind::Segment));
    Ok(matches!(header, Some(Ok(header)) if decode_header(frame, header.salt).is_some()))
}

fn read_identity(disk: &dyn Disk) -> Result<Identity, Error> {
    let mut bytes = [0; 256];
    let read = disk.open(FORMAT_FILE).and_then(|file| file.read_at(&mut bytes, 0));
    let count = read.map_err(|error| Error::io("reading format", error))?;
    let damaged = || Error::damaged(FORMAT_FILE, 0, "it does not read as this program wrote it");
    let text = std::str::from_utf8(&bytes[..count]).map_err(|_| damaged())?;
    let mut lines = text.lines();
    let format = lines.next().and_then(|line| line.strip_prefix("strata-store format "));
    let format = format.and_then(|format| format.parse().ok()).ok_or_else(damaged)?;
    // A newer format may say the rest differently.
    let supported = snapshot::frame::FORMAT;
    if format > supported {
        return Err(Error::NewerFormat {
            found: format,
            supported,
        });
    }
    let store = lines.next().and_then(|line| line.strip_prefix("store "));
    let store = store
        .and_then(|id| u64::from_str_radix(id, 16).ok())
        .ok_or_else(damaged)?;
    let identity = Identity { format, store };
    if text != identity.text() {
        return Err(damaged());
    }
    Ok(identity)
}

impl Identity {
    fn text(&self) -> String {
        let body = format!("strata-store format {}\nstore {:016x}\n", self.format, self.store);
        format!("{body}checksum {:08x}\n", checksum(0, body.as_bytes()))
    }
}

pub(crate) fn write_identity(disk: &dyn Disk, identity: Identity) -> Result<(), Error> {
    let unfinished = "format.tmp";
    let written = disk.create(unfinished, 0).and_then(|file| {
        file.write_at(identity.text().as_bytes(), 0)?;
        file.sync()?;
        disk.rename(unfinished, FORMAT_FILE)?;
        disk.sync()
    });
    written.map_err(|error| Error::io("writing format", error))
}

fn upgrade(disk: &dyn Disk, mut identity: Identity, upgrades: &[Upgrade]) -> Result<(), Error> {
    if identity.format == 0 {
        return Err(Error::damaged(FORMAT_FILE, 0, "there is no format 0"));
    }
    for step in upgrades.iter().skip(identity.format as usize - 1) {
        step(disk)?;
        identity.format += 1;
        write_identity(disk, identity)?;
        tracing::info!(format = identity.format, "the store's files were upgraded");
    }
    Ok(())
}

/// What a directory holds.
pub(crate) struct Loaded {
    pub state: Mvcc,
    pub active: Segment,
    pub end: End,
    /// Batches before this one are in the snapshot.
    pub snapshot: u64,
    /// Bytes of log that were read again.
    logged: u64,
}

/// Reads everything and changes nothing.
pub(crate) fn load(disk: &dyn Disk, store: u64, now: Duration) -> Result<Loaded, Error> {
    let files = disk
        .list()
        .map_err(|error| Error::io("listing the store's files", error))?;
    let newest = files.iter().filter_map(|(name, _)| number_of(name, SNAPSHOT)).max();
    let mut state = match newest {
        Some(sequence) => load_snapshot(disk, sequence, store, now)?,
        None => Mvcc::new(),
    };
    let snapshot = newest.unwrap_or(0);
    let mut firsts: Vec<u64> = files.iter().filter_map(|(name, _)| number_of(name, SEGMENT)).collect();
    firsts.sort_unstable();
    let covered = firsts.iter().rposition(|first| *first <= snapshot);
    let needed = &firsts[covered.unwrap_or(0)..];
    if covered.is_none() || needed.is_empty() {
        return Err(Error::damaged(
            &numbered(SEGMENT, snapshot),
            0,
            "the segment with this batch is missing",
        ));
    }
    let (mut last, mut logged) = (None, 0);
    for first in needed {
        if let Some((Segment { name, .. }, End { offset, sequence, .. })) = &last
            && sequence != first
        {
            let why = format!(
                "batch {sequence} is not valid, but segment {} follows",
                numbered(SEGMENT, *first)
            );
            return Err(Error::damaged(name, *offset, why));
        }
        let segment = Segment::open(disk, &numbered(SEGMENT, *first), store)?;
        let end = segment.scan(&mut |sequence, offset, payload| {
            if sequence < snapshot {
                return Ok(());
            }
            logged += payload.len() as u64;
            replay(&mut state, payload, now).ok_or_else(|| {
                Error::damaged(
                    &segment.name,
                    offset,
                    "a record that does not follow from the ones before it",
                )
            })
        })?;
        last = Some((segment, end));
    }
    let (active, end) = last.expect("at least one segment is needed");
    if end.sequence < snapshot {
        let why = format!("it ends with batch {}, before the snapshot", end.sequence);
        return Err(Error::damaged(&active.name, end.offset, why));
    }
    Ok(Loaded {
        state,
        active,
        end,
        snapshot,
        logged,
    })
}

pub(crate) fn load_snapshot(disk: &dyn Disk, sequence: u64, store: u64, now: Duration) -> Result<Mvcc, Error> {
    let name = numbered(SNAPSHOT, sequence);
    let file = disk
        .open(&name)
        .map_err(|error| Error::io(format!("reading {name}"), error))?;
    let reader = FileReader {
        file: &*file,
        offset: 0,
    };
    let mut reader = BufReader::with_capacity(256 << 10, reader);
    let (header, state) = snapshot::read(&mut reader, &name, now)?;
    if header.store != store || header.sequence != sequence {
        return Err(Error::damaged(&name, 0, "its header and its place disagree"));
    }
    Ok(state)
}

/// Applies the records of a batch; `None` if they do not fit the state.
fn replay(state: &mut Mvcc, payload: &[u8], now: Duration) -> Option<()> {
    let mut rest = payload;
    while !rest.is_empty() {
        match Record::decode(&mut rest)? {
            Record::Put {
                revision,
                lease,
                key,
                value,
            } if revision == state.next_revision() => {
                state.put(owned(key), owned(value), lease);
            }
            Record::Delete { revision, key } if revision == state.next_revision() => {
                state.latest(key)?;
                state.delete(owned(key));
            }
            Record::Compact { revision } if revision <= state.revision() => state.compact(revision),
            Record::Grant { id, ttl } => state.leases.grant(id, ttl, now),
            Record::Revoke { id } => state.leases.remove(id),
            _ => return None,
        }
    }
    Some(())
}
