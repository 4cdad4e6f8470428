//! One streaming pass from a layer's bytes to its files.
//!
//! Bytes arrive → digest of the blob → gzip, zstd or nothing → digest of the tar (diff id)
//! → files. Memory is a few buffers however large the layer is.

use crate::folder::open_root;
use crate::tar_stream::TarStream;
use crate::unpack::{UnpackError, UnpackLimits, Unpacked, unpack};
use crate::{Digest, ImageError};
use sha2::{Digest as _, Sha256};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::path::Path;

/// Largest zstd window accepted: 128 MiB, what `zstd --long` needs by default.
const ZSTD_WINDOW_LOG: u32 = 27;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const BUFFER: usize = 64 << 10;

/// What a layer must turn out to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// Digest of the bytes as they arrive; an archive may not tell it.
    pub blob: Option<Digest>,
    /// Digest of the tar stream.
    pub diff: Digest,
}

/// Unpacks a layer into the empty folder `target` and checks both digests. Blocking.
///
/// On failure the folder's content is worthless and the caller removes it.
pub(crate) fn apply<R: Read>(
    source: R,
    expected: Expected,
    target: &Path,
    limits: UnpackLimits,
) -> Result<Unpacked, ImageError> {
    let name = expected.blob.unwrap_or(expected.diff).to_string();
    let root = open_root(target).map_err(|errno| ImageError::io("open", target)(errno.into()))?;
    let mut blob = BufReader::with_capacity(BUFFER, Hashing::new(source, u64::MAX));
    let tar_limit = limits.bytes.saturating_add(limits.entries.saturating_mul(2048));
    let (unpacked, diff) = match compression(&mut blob).map_err(|error| UnpackError::Read(error).of_layer(&name))? {
        Compression::None => consume(&mut blob, root.as_fd(), limits, tar_limit),
        Compression::Gzip => consume(
            flate2::bufread::MultiGzDecoder::new(&mut blob),
            root.as_fd(),
            limits,
            tar_limit,
        ),
        Compression::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(&mut blob).and_then(|mut decoder| {
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Ok(decoder)
            });
            decoder
                .map_err(UnpackError::Read)
                .and_then(|decoder| consume(decoder, root.as_fd(), limits, tar_limit))
        }
    }
    .map_err(|error| error.of_layer(&name))?;
    // What follows the compressed stream still counts for the blob's digest.
    io::copy(&mut blob, &mut io::sink()).map_err(|error| UnpackError::Read(error).of_layer(&name))?;
    if let Some(wanted) = expected.blob {
        same(wanted, blob.into_inner().finish())?;
    }
    same(expected.diff, diff)?;
    Ok(unpacked)
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

fn consume<R: Read>(
    tar: R,
    root: std::os::fd::BorrowedFd<'_>,
    limits: UnpackLimits,
    tar_limit: u64,
) -> Result<(Unpacked, Digest), UnpackError> {
    let mut stream = TarStream::new(Hashing::new(tar, tar_limit));
    let unpacked = unpack(root, &mut stream, limits)?;
    let mut rest = stream.into_source();
    io::copy(&mut rest, &mut io::sink()).map_err(UnpackError::Read)?;
    Ok((unpacked, rest.finish()))
}

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    } else if start.starts_with(&ZSTD_MAGIC) {
        Compression::Zstd
    } else {
        Compression::None
    })
}

/// A reader that computes the digest of what passes and ends after a bound.
struct Hashing<R> {
    source: R,
    hash: Sha256,
    left: u64,
}

impl<R: Read> Hashing<R> {
    fn new(source: R, limit: u64) -> Self {
        Self {
            source,
            hash: Sha256::new(),
            left: limit,
        }
    }

    fn finish(self) -> Digest {
        Digest::from_bytes(self.hash.finalize().into())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the layer is larger than allowed when uncompressed",
            )
        })?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}
