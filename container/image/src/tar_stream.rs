//! Reading a tar stream entry by entry with a bounded buffer.

use std::io::{self, Read};
use tar_core::EntryType;
use tar_core::parse::{Limits, ParseError, ParseEvent, ParsedEntry, Parser};

/// Bytes read from the source at a time.
const CHUNK: usize = 128 << 10;
/// What tar streams are made of.
const BLOCK: usize = 512;
/// Extended headers of one entry: names, links and attributes together.
const MAX_METADATA: u32 = 1 << 20;
/// Headers, padding and metadata of one entry together never need more.
const MAX_BUFFER: usize = 4 << 20;
/// The kernel's PATH_MAX.
const MAX_PATH: u32 = 4096;

/// One entry's header, checked for form but not for intent.
#[derive(Debug)]
pub(crate) struct Entry {
    pub kind: EntryType,
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: u64,
    /// Bytes of content in the archive.
    pub size: u64,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// For device nodes.
    pub device: (u32, u32),
    /// Where the content of a file with holes belongs.
    pub sparse: Option<Sparse>,
}

/// A file of which only parts are in the archive.
#[derive(Debug)]
pub(crate) struct Sparse {
    /// Offset and length of the parts, in order, without overlap, within the size.
    pub parts: Vec<(u64, u64)>,
    /// Bytes of the file.
    pub size: u64,
}

/// Why a stream cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TarError {
    #[error("{0}")]
    Broken(String),
    #[error("{0}")]
    TooLarge(String),
    #[error(transparent)]
    Read(#[from] io::Error),
}

/// A tar stream. After each entry its content is read or skipped.
pub(crate) struct TarStream<R> {
    source: R,
    parser: Parser,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    content: u64,
    padding: u64,
    position: u64,
}

enum Step {
    More(usize),
    Entry(Box<Entry>),
    Skip,
    End,
}

impl<R: Read> TarStream<R> {
    pub fn new(source: R) -> Self {
        let limits = Limits {
            max_metadata_size: MAX_METADATA,
            max_path_len: Some(MAX_PATH),
            ..Limits::default()
        };
        Self {
            source,
            parser: Parser::new(limits),
            buffer: vec![0; CHUNK],
            start: 0,
            end: 0,
            content: 0,
            padding: 0,
            position: 0,
        }
    }

    /// The next entry; skips what was not read of the one before. `None` at the end of the archive.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        self.copy_content(|_| Ok(()))?;
        loop {
            let (step, consumed) = self.step()?;
            self.start += consumed;
            self.position += consumed as u64;
            match step {
                Step::More(wanted) => {
                    // The parser may ask for what it has seen already; more is what helps.
                    let there = self.end - self.start;
                    let wanted = if wanted > there { wanted } else { there + BLOCK };
                    if !self.fill(wanted)? {
                        return if self.start == self.end {
                            Ok(None)
                        } else {
                            Err(TarError::Broken("unexpected end of the archive".into()))
                        };
                    }
                }
                Step::Entry(entry) => {
                    self.content = entry.size;
                    self.padding = entry.size.next_multiple_of(512) - entry.size;
                    return Ok(Some(*entry));
                }
                Step::Skip => {}
                Step::End => return Ok(None),
            }
        }
    }

    /// Gives the rest of the present entry's content to `sink`, piece by piece.
    pub fn copy_content(&mut self, mut sink: impl FnMut(&[u8]) -> io::Result<()>) -> Result<(), TarError> {
        while self.content + self.padding > 0 {
            if self.start == self.end && !self.fill(1)? {
                return Err(TarError::Broken("unexpected end of the archive within a file".into()));
            }
            let there = (self.end - self.start) as u64;
            let content = there.min(self.content);
            if content > 0 {
                sink(&self.buffer[self.start..self.start + content as usize])?;
            }
            let padding = (there - content).min(self.padding);
            self.content -= content;
            self.padding -= padding;
            self.start += (content + padding) as usize;
            self.position += content + padding;
        }
        Ok(())
    }

    /// Bytes of the archive before the present point.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The source, to read what follows the archive; buffered bytes are dropped.
    pub fn into_source(self) -> R {
        self.source
    }

    fn step(&mut self) -> Result<(Step, usize), TarError> {
        match self.parser.parse(&self.buffer[self.start..self.end]).map_err(explain)? {
            ParseEvent::NeedData { min_bytes } => Ok((Step::More(min_bytes), 0)),
            ParseEvent::Entry { consumed, entry } => Ok((Step::Entry(Box::new(own(&entry)?)), consumed)),
            ParseEvent::SparseEntry {
                consumed,
                entry,
                sparse_map,
                real_size,
            } => {
                let parts = sparse_map.iter().map(|part| (part.offset, part.length)).collect();
                let mut owned = own(&entry)?;
                // What is in the archive is always written as a file.
                owned.kind = EntryType::file();
                owned.size = entry.size;
                owned.sparse = Some(sparse(parts, owned.size, real_size)?);
                Ok((Step::Entry(Box::new(owned)), consumed))
            }
            ParseEvent::GlobalExtensions { consumed, .. } => Ok((Step::Skip, consumed)),
            ParseEvent::End { consumed } => Ok((Step::End, consumed)),
        }
    }

    /// Makes at least `wanted` bytes available; false at the end of the source.
    fn fill(&mut self, wanted: usize) -> Result<bool, TarError> {
        if wanted > MAX_BUFFER {
            return Err(TarError::TooLarge(format!("header of {wanted} bytes")));
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        while self.end < wanted {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

/// The map of a file with holes, if it is one that a file can have.
fn sparse(mut parts: Vec<(u64, u64)>, content: u64, size: u64) -> Result<Sparse, TarError> {
    parts.retain(|(_, length)| *length > 0);
    let (mut end, mut sum) = (0u64, 0u64);
    for (offset, length) in &parts {
        if *offset < end {
            return Err(TarError::Broken("a sparse file's parts overlap".into()));
        }
        end = offset.checked_add(*length).unwrap_or(u64::MAX);
        sum = sum.saturating_add(*length);
    }
    if end > size || sum != content || i64::try_from(size).is_err() {
        return Err(TarError::Broken("a sparse file's parts do not fit it".into()));
    }
    Ok(Sparse { parts, size })
}

fn own(entry: &ParsedEntry<'_>) -> Result<Entry, TarError> {
    // Only files carry content; a size on anything else would desynchronise readers.
    let size = if entry.is_file() || entry.entry_type.is_contiguous() || entry.entry_type.is_gnu_sparse() {
        entry.size
    } else {
        0
    };
    if size != entry.size && !entry.is_hard_link() {
        return Err(TarError::Broken(format!(
            "entry {:?} has content but is no file",
            entry.path_lossy()
        )));
    }
    Ok(Entry {
        kind: entry.entry_type,
        path: entry.path.to_vec(),
        link: entry.link_target.as_deref().unwrap_or_default().to_vec(),
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        size,
        xattrs: entry
            .xattrs
            .iter()
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect(),
        device: (entry.dev_major.unwrap_or(0), entry.dev_minor.unwrap_or(0)),
        sparse: None,
    })
}

fn explain(error: ParseError) -> TarError {
    match error {
        ParseError::PathTooLong { .. }
        | ParseError::MetadataTooLarge { .. }
        | ParseError::TooManyPendingEntries { .. }
        | ParseError::TooManySparseEntries { .. } => TarError::TooLarge(error.to_string()),
        ParseError::Io(error) => TarError::Read(error),
        other => TarError::Broken(format!("archive/tar: invalid tar header: {other}")),
    }
}
