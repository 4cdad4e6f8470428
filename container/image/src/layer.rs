//! One streaming pass from a layer's bytes to its files.
//!
//! Bytes arrive → digest of the blob → gzip, zstd or nothing → digest of the tar (diff id)
//! → files, which another thread writes. Memory is a few buffers however large the layer is. The compressed bytes are
//! kept beside the files if that is wanted; a layer that arrives plain is compressed then.

use crate::ahead::read_ahead;
use crate::config::Descriptor;
use crate::folder::open_root;
use crate::tar_stream::TarStream;
use crate::unpack::{UnpackError, UnpackLimits, Unpacked, unpack};
use crate::{Digest, ImageError};
use flate2::GzBuilder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Largest zstd window accepted: 128 MiB, what `zstd --long` needs by default.
const ZSTD_WINDOW_LOG: u32 = 27;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Skippable frames, which seekable forms of zstd may begin with (RFC 8878 section 3.1.2).
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];
const BUFFER: usize = 64 << 10;

/// What a layer must turn out to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// Digest of the bytes as they arrive; an archive may not tell it.
    pub blob: Option<Digest>,
    /// Digest of the tar stream; not known for what is made here.
    pub diff: Option<Digest>,
}

/// What becomes of a layer's bytes.
pub(crate) struct Plan<'a> {
    /// An empty folder for its files; the bytes are only checked without one.
    pub files: Option<&'a Path>,
    /// Bounds.
    pub limits: UnpackLimits,
    /// A file that is made for the compressed bytes.
    pub keep: Option<&'a Path>,
}

/// What a layer turned out to be.
#[derive(Debug)]
pub(crate) struct Applied {
    pub unpacked: Unpacked,
    pub diff: Digest,
    /// The bytes that were kept, or arrived.
    pub blob: Blob,
}

/// A layer as it is distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Blob {
    pub digest: Digest,
    pub size: u64,
    pub compression: Compression,
}

impl Blob {
    /// What a manifest says of a layer.
    pub fn described(descriptor: &Descriptor) -> Self {
        let kind = &descriptor.media_type;
        let compression = if kind.ends_with("zstd") {
            Compression::Zstd
        } else if kind.ends_with("gzip") {
            Compression::Gzip
        } else {
            Compression::None
        };
        Self {
            digest: descriptor.digest,
            size: descriptor.size,
            compression,
        }
    }
}

/// Reads a layer, checks its digests and does with it what the plan says. Blocking.
///
/// On failure what was made is worthless and the caller removes it.
pub(crate) fn apply<R: Read + Send>(source: R, expected: Expected, plan: &Plan<'_>) -> Result<Applied, ImageError> {
    let name = match expected.blob.or(expected.diff) {
        Some(digest) => digest.to_string(),
        None => "(new)".to_owned(),
    };
    let of_layer = |error: UnpackError| error.of_layer(&name);
    let root = match plan.files {
        Some(target) => Some(open_root(target).map_err(|errno| ImageError::io("open", target)(errno.into()))?),
        None => None,
    };
    let mut start = BufReader::with_capacity(BUFFER, source);
    let kind = compression(&mut start).map_err(|error| of_layer(UnpackError::Read(error)))?;
    let packs = kind == Compression::None && expected.blob.is_none();
    let create = |path: &Path| File::create_new(path).map_err(ImageError::io("create", path));
    let copy = plan.keep.map(create).transpose()?;
    let (arriving_copy, mut packer) = match copy {
        Some(file) if packs => (None, Some(Packer::new(file))),
        copy => (copy, None),
    };
    let arriving = Hashing::new(start, u64::MAX, arriving_copy.map(io::BufWriter::new));
    let mut blob = BufReader::with_capacity(BUFFER, arriving);
    let (unpacked, diff) =
        decompress(&mut blob, kind, root.as_ref(), plan.limits, packer.as_mut()).map_err(of_layer)?;
    // What follows the compressed stream still counts for the blob's digest.
    io::copy(&mut blob, &mut io::sink()).map_err(|error| of_layer(UnpackError::Read(error)))?;
    let arrived = blob.into_inner();
    let size = arrived.passed;
    let digest = arrived.finish().map_err(|error| of_layer(UnpackError::Read(error)))?;
    if let Some(wanted) = expected.blob {
        same(wanted, digest)?;
    }
    if let Some(wanted) = expected.diff {
        same(wanted, diff)?;
    }
    let blob = match packer {
        Some(packer) => packer
            .finish()
            .map_err(ImageError::io("write", plan.keep.unwrap_or(Path::new(""))))?,
        None => Blob {
            digest,
            size,
            compression: kind,
        },
    };
    Ok(Applied { unpacked, diff, blob })
}

fn same(expected: Digest, found: Digest) -> Result<(), ImageError> {
    if expected == found {
        Ok(())
    } else {
        Err(ImageError::DigestMismatch {
            expected: expected.to_string(),
            found: found.to_string(),
        })
    }
}

fn decompress<R: BufRead + Send>(
    blob: &mut R,
    kind: Compression,
    root: Option<&OwnedFd>,
    limits: UnpackLimits,
    copy: Option<&mut Packer>,
) -> Result<(Unpacked, Digest), UnpackError> {
    match kind {
        Compression::None => consume(blob, root, limits, copy),
        Compression::Gzip => consume(flate2::bufread::MultiGzDecoder::new(blob), root, limits, copy),
        Compression::Zstd => {
            let decoder = zstd_decoder(blob).map_err(UnpackError::Read)?;
            consume(decoder, root, limits, copy)
        }
    }
}

/// A decoder with a bounded window.
pub(crate) fn zstd_decoder<R: BufRead>(source: R) -> io::Result<zstd::stream::read::Decoder<'static, R>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    Ok(decoder)
}

fn consume<R: Read + Send>(
    tar: R,
    root: Option<&OwnedFd>,
    limits: UnpackLimits,
    copy: Option<&mut Packer>,
) -> Result<(Unpacked, Digest), UnpackError> {
    let tar_limit = limits.bytes.saturating_add(limits.entries.saturating_mul(2048));
    let mut rest = Hashing::new(tar, tar_limit, copy);
    let unpacked = match root {
        Some(root) => read_ahead(&mut rest, |ahead| write_files(ahead, root, limits)).map_err(UnpackError::Read)??,
        None => {
            io::copy(&mut rest, &mut io::sink()).map_err(UnpackError::Read)?;
            Unpacked::default()
        }
    };
    let diff = rest.finish().map_err(UnpackError::Read)?;
    Ok((unpacked, diff))
}

/// Unpacks an archive and reads what follows it, which counts for its digest.
fn write_files(tar: impl Read, root: &OwnedFd, limits: UnpackLimits) -> Result<Unpacked, UnpackError> {
    let mut stream = TarStream::new(tar);
    let unpacked = unpack(root.as_fd(), &mut stream, limits)?;
    io::copy(&mut stream.into_source(), &mut io::sink()).map_err(UnpackError::Read)?;
    Ok(unpacked)
}

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Tells from the first bytes; media types are often wrong about it.
pub(crate) fn compression(source: &mut impl BufRead) -> io::Result<Compression> {
    let start = source.fill_buf()?;
    Ok(if start.starts_with(&GZIP_MAGIC) {
        Compression::Gzip
    } else if start.starts_with(&ZSTD_MAGIC) || start.get(1..4) == Some(&ZSTD_SKIPPABLE) && start[0] & 0xf0 == 0x50 {
        Compression::Zstd
    } else {
        Compression::None
    })
}

/// A reader that computes the digest of what passes, may copy it, and ends after a bound.
struct Hashing<R, W> {
    source: R,
    hash: Sha256,
    left: u64,
    passed: u64,
    copy: Option<W>,
}

impl<R: Read, W: Write> Hashing<R, W> {
    fn new(source: R, limit: u64, copy: Option<W>) -> Self {
        Self {
            source,
            hash: Sha256::new(),
            left: limit,
            passed: 0,
            copy,
        }
    }

    fn finish(mut self) -> io::Result<Digest> {
        if let Some(copy) = &mut self.copy {
            copy.flush()?;
        }
        Ok(Digest::from_bytes(self.hash.finalize().into()))
    }
}

impl<R: Read, W: Write> Read for Hashing<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the layer is larger than allowed when uncompressed",
            )
        })?;
        self.passed += count as u64;
        self.hash.update(&buffer[..count]);
        if let Some(copy) = &mut self.copy {
            copy.write_all(&buffer[..count])?;
        }
        Ok(count)
    }
}

/// Compresses what is written to it into a file, the same bytes to the same file every time.
pub(crate) struct Packer(GzEncoder<HashingFile>);

struct HashingFile {
    file: io::BufWriter<File>,
    hash: Sha256,
    size: u64,
}

impl Packer {
    pub fn new(file: File) -> Self {
        let file = HashingFile {
            file: io::BufWriter::with_capacity(BUFFER, file),
            hash: Sha256::new(),
            size: 0,
        };
        // Without a time and a name, which would differ from run to run.
        Self(GzBuilder::new().write(file, flate2::Compression::new(3)))
    }

    pub fn finish(self) -> io::Result<Blob> {
        let mut file = self.0.finish()?;
        file.flush()?;
        Ok(Blob {
            digest: Digest::from_bytes(file.hash.finalize().into()),
            size: file.size,
            compression: Compression::Gzip,
        })
    }
}

impl Write for Packer {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for HashingFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.file.write(buffer)?;
        self.hash.update(&buffer[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
