//! Header blocks: names and values, compressed by one zlib stream per direction.

use super::dictionary::dictionary;
use crate::Error;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Bytes of a header block when inflated.
const MAX_BLOCK: usize = 64 << 10;
/// Headers of a block.
const MAX_HEADERS: usize = 256;

pub(super) struct HeaderEncoder(Compress);

impl HeaderEncoder {
    pub(super) fn new() -> Result<Self, Error> {
        let mut compress = Compress::new(Compression::fast(), true);
        compress
            .set_dictionary(&dictionary())
            .map_err(|why| Error::spdy(why.to_string()))?;
        Ok(Self(compress))
    }

    /// Appends the compressed block.
    pub(super) fn encode(&mut self, headers: &HeaderMap, out: &mut Vec<u8>) -> Result<(), Error> {
        let block = plain_block(headers);
        let mut rest = block.as_slice();
        loop {
            out.reserve(block.len() + 64);
            let before = self.0.total_in();
            self.0
                .compress_vec(rest, out, FlushCompress::Sync)
                .map_err(|why| Error::spdy(why.to_string()))?;
            rest = &rest[(self.0.total_in() - before) as usize..];
            // Room left over means that the flush is complete.
            if rest.is_empty() && out.len() < out.capacity() {
                return Ok(());
            }
        }
    }
}

fn plain_block(headers: &HeaderMap) -> Vec<u8> {
    let mut block = Vec::with_capacity(256);
    let mut put = |bytes: &[u8]| {
        block.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        block.extend_from_slice(bytes);
    };
    let names: Vec<&HeaderName> = headers.keys().collect();
    let count = (names.len() as u32).to_be_bytes();
    for name in names {
        put(name.as_str().as_bytes());
        let values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        put(&values.join(&0));
    }
    [count.as_slice(), &block].concat()
}

pub(super) struct HeaderDecoder(Decompress);

impl HeaderDecoder {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// Reads a compressed block. After an error the session is lost: the state of the compression is unknown.
    pub(super) fn decode(&mut self, compressed: &[u8]) -> Result<HeaderMap, Error> {
        let mut block = Vec::new();
        let mut rest = compressed;
        loop {
            block.reserve(4096);
            let before = self.0.total_in();
            let result = self.0.decompress_vec(rest, &mut block, FlushDecompress::Sync);
            rest = &rest[(self.0.total_in() - before) as usize..];
            if block.len() > MAX_BLOCK {
                return Err(Error::spdy("header block is too large"));
            }
            match result {
                Err(why) if why.needs_dictionary().is_some() => {
                    self.0
                        .set_dictionary(&dictionary())
                        .map_err(|why| Error::spdy(why.to_string()))?;
                }
                Err(why) => return Err(Error::spdy(why.to_string())),
                Ok(flate2::Status::StreamEnd) => return Err(Error::spdy("header compression ended")),
                Ok(_) if rest.is_empty() && block.len() < block.capacity() => break,
                Ok(flate2::Status::BufError) if rest.is_empty() => break,
                Ok(_) => {}
            }
        }
        parse_block(&block)
    }
}

fn parse_block(block: &[u8]) -> Result<HeaderMap, Error> {
    let mut rest = block;
    let count = take_number(&mut rest)?;
    if count > MAX_HEADERS {
        return Err(Error::spdy("too many headers"));
    }
    let mut headers = HeaderMap::new();
    for _ in 0..count {
        let name = HeaderName::from_bytes(take_text(&mut rest)?).map_err(|_| Error::spdy("bad header name"))?;
        if headers.contains_key(&name) {
            return Err(Error::spdy("header stands twice"));
        }
        for value in take_text(&mut rest)?.split(|byte| *byte == 0) {
            let value = HeaderValue::from_bytes(value).map_err(|_| Error::spdy("bad header value"))?;
            headers.append(name.clone(), value);
        }
    }
    if rest.is_empty() {
        Ok(headers)
    } else {
        Err(Error::spdy("bytes after the last header"))
    }
}

fn take_number(rest: &mut &[u8]) -> Result<usize, Error> {
    let (number, tail) = rest
        .split_first_chunk::<4>()
        .ok_or_else(|| Error::spdy("header block is cut off"))?;
    *rest = tail;
    Ok(u32::from_be_bytes(*number) as usize)
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Error> {
    let length = take_number(rest)?;
    let (text, tail) = rest
        .split_at_checked(length)
        .ok_or_else(|| Error::spdy("header block is cut off"))?;
    *rest = tail;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_str(value).expect("value"),
                )
            })
            .collect()
    }

    #[test]
    fn the_dictionary_is_the_one_everybody_has() {
        let dictionary = dictionary();
        assert_eq!(dictionary.len(), 1423);
        let mut out = Vec::new();
        HeaderEncoder::new()
            .expect("encoder")
            .encode(&HeaderMap::new(), &mut out)
            .expect("encoded");
        // RFC 1950: the preset dictionary's Adler-32 stands behind the two header bytes.
        assert_eq!(out[2..6], [0xe3, 0xc6, 0xa7, 0xc2]);
        assert_eq!(out[1] & 0x20, 0x20);
    }

    #[test]
    fn blocks_of_one_connection_build_on_each_other() {
        let (mut encoder, mut decoder) = (HeaderEncoder::new().expect("encoder"), HeaderDecoder::new());
        let large = "x".repeat(20_000);
        let blocks = [
            headers(&[("streamtype", "error"), ("port", "80"), ("requestid", "0")]),
            headers(&[("streamtype", "data"), ("port", "80"), ("requestid", "0")]),
            HeaderMap::new(),
            headers(&[("large", &large)]),
        ];
        for block in blocks {
            let mut out = Vec::new();
            encoder.encode(&block, &mut out).expect("encoded");
            assert_eq!(decoder.decode(&out).expect("decoded"), block);
        }
    }

    #[test]
    fn several_values_of_a_name_are_kept() {
        let (mut encoder, mut decoder) = (HeaderEncoder::new().expect("encoder"), HeaderDecoder::new());
        let block = headers(&[("a", "1"), ("a", "2")]);
        let mut out = Vec::new();
        encoder.encode(&block, &mut out).expect("encoded");
        assert_eq!(decoder.decode(&out).expect("decoded"), block);
    }

    #[test]
    fn hostile_blocks_are_refused() {
        for bad in [
            b"".as_slice(),
            b"\x78\xbb\xe3\xc6\xa7\xc2",
            b"\x00\x01\x02\x03",
            &[0xff; 64],
        ] {
            assert!(HeaderDecoder::new().decode(bad).is_err(), "{bad:?}");
        }
        for bad in [
            [0xff, 0xff, 0xff, 0xff].as_slice(),
            &[0, 0, 0, 1, 0, 0, 0, 200, b'a'],
            &[0, 0, 0, 0, 9],
            &[0, 0, 0, 1, 0, 0, 0, 1, b' ', 0, 0, 0, 0],
            &[0, 0, 0, 1, 0, 0, 0, 1, b'a', 0, 0, 0, 1, b'\n'],
        ] {
            assert!(parse_block(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_block_that_inflates_without_end_is_refused() {
        let mut encoder = HeaderEncoder::new().expect("encoder");
        let mut out = Vec::new();
        let block = headers(&[("bomb", &"0".repeat(4 << 20))]);
        encoder.encode(&block, &mut out).expect("encoded");
        assert!(out.len() < MAX_BLOCK && HeaderDecoder::new().decode(&out).is_err());
    }
}
