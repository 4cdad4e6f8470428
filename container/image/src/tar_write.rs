//! Writing tar streams, the same bytes for the same files every time.

use rustix::fs::Stat;
use std::io::{self, Read, Write};
use tar_core::EntryType;
use tar_core::builder::EntryBuilder;

/// Bytes copied at a time.
const PIECE: usize = 128 << 10;

/// A stream to which entries are appended.
pub(crate) struct TarWriter<W> {
    out: W,
}

/// What an entry is besides its name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since 1970; before that it is 1970.
    pub mtime: u64,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The kinds of entries.
pub(crate) enum Kind<'a> {
    Directory,
    /// Of that size; its content follows.
    File(u64),
    Symlink(&'a [u8]),
    /// To a name of the stream.
    HardLink(&'a [u8]),
    Fifo,
    Device {
        block: bool,
        major: u32,
        minor: u32,
    },
}

impl Attributes {
    /// Those of a file of this machine.
    pub fn of(stat: &Stat) -> Self {
        Self {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            // Whole seconds, as every builder writes them.
            mtime: u64::try_from(stat.st_mtime).unwrap_or(0),
            xattrs: Vec::new(),
        }
    }
}

impl<W: Write> TarWriter<W> {
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Appends an entry; a file's content comes from `content`, and must be as long as was said.
    pub fn entry(
        &mut self,
        name: &[u8],
        kind: &Kind<'_>,
        attributes: &Attributes,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        let bad = |error: tar_core::HeaderError| io::Error::new(io::ErrorKind::InvalidInput, error.to_string());
        let mut header = EntryBuilder::new_ustar();
        let mut path = name.to_vec();
        let mut size = 0;
        let entry_type = match kind {
            Kind::Directory => {
                path.push(b'/');
                EntryType::dir()
            }
            Kind::File(length) => {
                size = *length;
                EntryType::file()
            }
            Kind::Symlink(target) => {
                header.link_name(target);
                EntryType::symlink()
            }
            Kind::HardLink(target) => {
                header.link_name(target);
                EntryType::hard_link()
            }
            Kind::Fifo => EntryType::fifo(),
            Kind::Device { block, major, minor } => {
                header.device(*major, *minor).map_err(bad)?;
                match block {
                    true => EntryType::block_special(),
                    false => EntryType::character_special(),
                }
            }
        };
        header.entry_type(entry_type);
        header.path(&path);
        header.mode(attributes.mode).map_err(bad)?;
        header.uid(attributes.uid.into()).map_err(bad)?;
        header.gid(attributes.gid.into()).map_err(bad)?;
        header.mtime(attributes.mtime).map_err(bad)?;
        header.size(size).map_err(bad)?;
        for (key, value) in &attributes.xattrs {
            let key = String::from_utf8(key.clone())
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "an attribute's name is no text"))?;
            header.add_pax(&format!("SCHILY.xattr.{key}"), value);
        }
        self.out.write_all(&header.finish_bytes())?;
        self.content(size, content)
    }

    fn content(&mut self, size: u64, content: &mut dyn Read) -> io::Result<()> {
        let mut buffer = vec![0; PIECE.min(usize::try_from(size).unwrap_or(PIECE))];
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            let count = content.read(&mut buffer[..most])?;
            if count == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "a file became shorter while it was read",
                ));
            }
            self.out.write_all(&buffer[..count])?;
            left -= count as u64;
        }
        let padding = usize::try_from(size.next_multiple_of(512) - size).unwrap_or(0);
        self.out.write_all(&[0; 512][..padding])
    }

    /// A file made of bytes, owned by root.
    pub fn bytes(&mut self, name: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let attributes = Attributes {
            mode,
            ..Attributes::default()
        };
        self.entry(
            name.as_bytes(),
            &Kind::File(bytes.len() as u64),
            &attributes,
            &mut &*bytes,
        )
    }

    /// Ends the stream.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 1024])?;
        self.out.flush()?;
        Ok(self.out)
    }
}
