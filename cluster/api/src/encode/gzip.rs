//! gzip of long answers, for clients that read it.

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{
    HeaderValue, Response,
    header::{CONTENT_ENCODING, VARY},
};
use std::io::{self, Read, Write};
use strata_http::Body;

/// Shorter answers go as they are.
pub(crate) const THRESHOLD: usize = 128 << 10;

/// The level that upstream uses: the least work, and nearly the same size.
fn encoder(capacity: usize) -> GzEncoder<Vec<u8>> {
    GzEncoder::new(Vec::with_capacity(capacity), Compression::fast())
}

/// A whole answer.
pub(crate) fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = encoder(bytes.len() / 8);
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// What was compressed.
pub(crate) fn expand(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut out)?;
    Ok(out)
}

/// An answer in pieces.
pub(crate) struct Pieces(GzEncoder<Vec<u8>>);

impl Pieces {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self(encoder(THRESHOLD / 4))
    }

    /// What is ready to be sent after another piece.
    pub(crate) fn next(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        self.0.write_all(piece)?;
        Ok(std::mem::take(self.0.get_mut()).into())
    }

    /// The rest.
    pub(crate) fn end(self) -> io::Result<Bytes> {
        Ok(self.0.finish()?.into())
    }
}

/// Says so.
pub(crate) fn mark(response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_one_stream() {
        let text = "a list of many objects ".repeat(20_000);
        let mut pieces = Pieces::new();
        let mut sent = Vec::new();
        for piece in text.as_bytes().chunks(1000) {
            sent.extend_from_slice(&pieces.next(piece).expect("memory"));
        }
        sent.extend_from_slice(&pieces.end().expect("memory"));
        for coded in [sent, compress(text.as_bytes()).expect("memory")] {
            let back = expand(&coded).expect("gzip");
            assert!(back == text.as_bytes() && coded.len() < text.len() / 50);
        }
    }
}
